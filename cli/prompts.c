/* prompts.c - see prompts.h. */
#include "cli/prompts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/options.h"
#include "core/communication/request.h"

enum { FILE_BYTES = 64 << 20, CHUNK = 1 << 16 };

static const char option[] = "--prompt";

static int add_text(struct prompts *p, const char *text, size_t n, struct dr_error *err)
{
    struct request check;
    if (p->n == PROMPTS_MOST)
        return option_fail(err, DR_ELIMIT, option, "more than %d prompts", PROMPTS_MOST);
    char **all = dr_realloc(DR_TAG_BASE, p->text, (size_t)(p->n + 1) * sizeof *all);
    if (all)
        p->text = all;
    char *copy = all ? dr_strndup(DR_TAG_BASE, text, n) : NULL;
    if (!copy)
        return dr_fail(err, DR_ENOMEM, "out of memory for the prompts");
    p->text[p->n++] = copy;
    request_init(&check);
    int r = request_set_text(&check, FIELD_prompt, copy, err);
    request_free(&check);
    return r;
}

/* Appends all that a descriptor gives. */
static int read_all(int fd, const char *name, struct buf *dst, struct dr_error *err)
{
    char chunk[CHUNK];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dr_fail_errno(err, name, "read");
        if (!n)
            return 0;
        int r = buf_append(dst, chunk, (size_t)n);
        if (r < 0)
            return option_fail(err, r, option, "%s: more than %d bytes", name, FILE_BYTES);
    }
}

static int check_file(int fd, const char *name, struct dr_error *err)
{
    struct stat st;
    if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
        return option_fail(err, DR_EINVAL, option, "%s is a folder, expected a file of prompts",
                           name);
    return 0;
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isspace((unsigned char)s[i]))
            return false;
    return true;
}

static int add_lines(struct prompts *p, const char *name, const struct buf *text,
                     struct dr_error *err)
{
    const char *at = buf_text(text), *end = at + text->len;
    struct dr_error inner = { 0 };
    int before = p->n, r = 0;
    if (strlen(at) != text->len)
        return option_fail(err, DR_EINVAL, option, "%s has a zero byte: not a text file", name);
    if (!strncmp(at, "\xef\xbb\xbf", 3)) /* a byte order mark */
        at += 3;
    for (int line = 1; !r && at < end; line++) {
        size_t n = strcspn(at, "\n"), len = n && at[n - 1] == '\r' ? n - 1 : n;
        if (at[0] != '#' && !is_blank(at, len) && (r = add_text(p, at, len, &inner)) < 0)
            option_fail(err, r, option, "%s:%d: %s", name, line,
                        inner.text + (strncmp(inner.text, "--prompt: ", 10) ? 0 : 10));
        at += n + (at + n < end);
    }
    if (!r && p->n == before)
        r = dr_fail_field(err, DR_EINVAL, option, name, "one prompt a line; the file has none",
                          NULL);
    return r;
}

int prompts_add(struct prompts *p, const char *value, struct dr_error *err)
{
    bool standard = !strcmp(value, "-") || !strcmp(value, "@-");
    struct buf text;
    if (!standard && value[0] != '@')
        return add_text(p, value, strlen(value), err);
    if (value[0] == '@' && value[1] == '@')
        return add_text(p, value + 1, strlen(value + 1), err);
    const char *name = standard ? "stdin" : value + 1;
    if (standard && p->read_stdin++)
        return dr_fail_field(err, DR_EINVAL, option, value, "stdin once only", NULL);
    int fd = standard ? 0 : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return option_fail(err, errno == ENOENT ? DR_ENOENT : DR_EIO, option,
                           "%s: %s (a prompt that begins with @ is written @@)", name,
                           strerror(errno));
    buf_init(&text, DR_TAG_BASE, FILE_BYTES);
    int r = check_file(fd, name, err);
    if (!r)
        r = read_all(fd, name, &text, err);
    if (!r)
        r = add_lines(p, name, &text, err);
    buf_free(&text);
    if (fd)
        close(fd);
    return r;
}

void prompts_free(struct prompts *p)
{
    for (int i = 0; i < p->n; i++)
        dr_free(p->text[i]);
    dr_free(p->text);
    *p = (struct prompts){ .n = 0 };
}
