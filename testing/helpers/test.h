/* test.h - how every test program starts and what they share.
 *
 *     static void halves_a_circle(void **state) { ... assert_int_equal(...) ... }
 *     static const struct CMUnitTest tests[] = { cmocka_unit_test(halves_a_circle) };
 *     int main(int argc, char **argv)
 *     {
 *         return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
 *     }
 *
 * `program NAME` runs one test, `program` all of them, `program --oom` each of them again and again
 * in a child process with the 1st, 2nd, 3rd ... allocation failing: an assertion may then fail, a
 * crash or a hang may not. Its last line is the share of all allocations that was tried.
 */
#ifndef DR_TESTING_HELPERS_TEST_H
#define DR_TESTING_HELPERS_TEST_H

/* cmocka wants these three before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"

/* Sanitizers have memory of their own and make every run slow. */
#ifdef DR_SANITIZED
enum { TEST_SANITIZED = 1 };
#else
enum { TEST_SANITIZED = 0 };
#endif

int test_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n);

/* Runs `scenario` with the k-th allocation failing for k = 1, 2, ... until none is reached (with
 * sanitizers, and when that takes too long, not every k). Each run must return DR_ENOMEM or succeed
 * in spite of it, fill err in the first case, and leave no block behind. At least one failure must
 * have been delivered. */
void test_oom_walk(int (*scenario)(void *ctx, struct dr_error *err), void *ctx);

/* Live blocks now; a test takes it first and compares last. */
uint64_t test_blocks(void);

/* Path of a file of the source tree ("testing/golden/...") in a static buffer of 4, used in
 * turn. */
const char *test_source(const char *relative);

/* A fresh directory under TMPDIR, removed with its contents when the process ends. Static, one a
 * process. */
const char *test_dir(void);

/* Writes to stderr go to this descriptor, and to where they went before with the returned one. */
int test_stderr_to(int fd);
void test_stderr_back(int saved);

/* Relative L2 distance |a - b| / |b| (|a| if b is 0), in double. */
double test_rel_l2(const float *a, const float *b, size_t n);

#endif
