/* error.h - errors are values.
 *
 * A function that can fail returns 0 or one of the negative codes of errors.def. Where a message
 * helps, it takes a `struct dr_error *` last and fills it before it returns; callers up the stack
 * add "while ..." as it rises. A NULL err is always allowed. Nothing below coordination/ and cli/
 * prints an error or ends the process.
 *
 *     if (width % 8)
 *         return dr_fail_field(err, DR_EINVAL, "width", "1001", "a multiple of 8", "use 1000");
 */
#ifndef DR_BASE_ERROR_H
#define DR_BASE_ERROR_H

#include <stddef.h>

enum dr_code {
    DR_OK = 0,
#define X(name, value, wire, meaning) DR_##name = value,
#include "base/errors.def"
#undef X
};

/* What went wrong. Plain arrays: copying is an assignment and nothing needs freeing. */
struct dr_error {
    int code;           /* negative dr_code; 0: nothing recorded */
    char text[512];     /* one line, UTF-8, no final newline */
    char path[160];     /* field or file the error is about, "" if none */
    char got[160];      /* the offending value as text, "" if none */
    char expected[200]; /* what would have been accepted, "" if none */
    char hint[200];     /* nearest name, nearest valid value, what the file really is; "" if none */
};

#define DR_MUST_USE __attribute__((warn_unused_result))
#define DR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Records `code` and the formatted text; returns code. Clears path, got, expected and hint. */
int dr_fail(struct dr_error *err, int code, const char *fmt, ...) DR_PRINTF(3, 4);

/* A bad value of a named field: text becomes "PATH: got GOT, expected EXPECTED (HINT)". Any of got
 * and hint may be NULL. Returns `code`. */
int dr_fail_field(struct dr_error *err, int code, const char *path, const char *got,
                  const char *expected, const char *hint);

/* Adds " (while ...)" to the text of an error that is already recorded; returns err->code, or
 * `code` if err is NULL, so that `return dr_while(err, r, "loading %s", name)` reads well. */
int dr_while(struct dr_error *err, int code, const char *fmt, ...) DR_PRINTF(3, 4);

/* DR_EIO (or ENOENT, ENOMEM if errno says so) with "PATH: <strerror>". */
int dr_fail_errno(struct dr_error *err, const char *path, const char *what);

/* 0 where the text is valid UTF-8, else DR_EINVAL naming `what` and the byte's place and value. */
int dr_check_utf8(const char *text, size_t n, const char *what, struct dr_error *err);

/* Wire code such as "INVALID_VALUE", and meaning, of a dr_code; "OK" and "no error" for 0. */
const char *dr_code_wire(int code);
const char *dr_code_meaning(int code);

#endif
