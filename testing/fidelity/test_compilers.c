/* test_compilers.c - gcc's build and clang's draw the same bits.
 *
 * Two workers, $DARKROOM_WORKER and $DARKROOM_OTHER_WORKER, run the same requests with each kernel
 * set that the machine has; all their stages are compared byte by byte. `make test` builds both.
 * Where there is no other build the test is skipped, but not in continuous integration (CI is set
 * there).
 */
#include "testing/helpers/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

static const char *other_worker(void)
{
    const char *other = getenv("DARKROOM_OTHER_WORKER");
    if (other && dr_is_file(other))
        return other;
    if (getenv("CI"))
        fail_msg("no second build to compare with: DARKROOM_OTHER_WORKER is %s",
                 other ? other : "not set");
    skip();
    return NULL;
}

static void draw_with(const char *worker, const char *kernels, const char *const *cases,
                      const char *who)
{
    struct session s;
    char stages[160];
    assert_int_equal(setenv("DARKROOM_WORKER", worker, 1), 0);
    session_start(&s, "2", kernels);
    for (; *cases; cases++) {
        snprintf(stages, sizeof stages, "%s-%s-%s", *cases, kernels, who);
        session_must(&s, "generate", session_case("odd", *cases, stages));
    }
    session_close(&s);
}

static void compare(const char *const *cases)
{
    struct session s;
    const char *other = other_worker();
    char own[1024], a[160], b[160];
    snprintf(own, sizeof own, "%s", getenv("DARKROOM_WORKER"));
    session_start(&s, "1", "scalar");
    const char *const *kernels = session_kernels(&s);
    session_close(&s);
    for (; *kernels; kernels++) {
        draw_with(own, *kernels, cases, "one");
        draw_with(other, *kernels, cases, "other");
        for (const char *const *c = cases; *c; c++) {
            snprintf(a, sizeof a, "%s-%s-one", *c, *kernels);
            snprintf(b, sizeof b, "%s-%s-other", *c, *kernels);
            session_same(a, b, 14);
        }
    }
}

static void both_compilers_draw_the_same_bits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "euler", "dpmpp_karras_negative", "heun_long_prompt", "unipc_scripts", "lms_one_edge", NULL
    };
    compare(cases);
}

static void also_with_noise_in_every_step(void **state)
{
    (void)state;
    static const char *const cases[] = { "euler_a_batch_unguided", "ddim_eta_sizes", NULL };
    compare(cases);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_compilers_draw_the_same_bits),
        cmocka_unit_test(also_with_noise_in_every_step),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
