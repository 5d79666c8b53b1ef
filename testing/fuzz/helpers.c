/* helpers.c - see fuzz.h. */
#include "testing/fuzz/fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/utf8.h"

void fuzz_broken(const char *file, int line, const char *condition, const char *more)
{
    fprintf(stderr, "%s:%d: does not hold: %s%s%s\n", file, line, condition, more ? ": " : "",
            more ? more : "");
    abort();
}

bool fuzz_shows_errors;

void fuzz_must_explain(int r, const struct dr_error *err)
{
    if (fuzz_shows_errors)
        fprintf(stderr, "    %s\n", err->text);
    FUZZ_MUST_SAY(r < 0 && err->code == r, err->text);
    FUZZ_MUST_SAY(r != DR_ENOMEM && r != DR_EINTERNAL, err->text);
    FUZZ_MUST(err->text[0]);
    FUZZ_MUST_SAY(utf8_valid_prefix(err->text, strlen(err->text)) == strlen(err->text), err->text);
}

void fuzz_must_name(int r, const struct dr_error *err)
{
    fuzz_must_explain(r, err);
    FUZZ_MUST_SAY(err->path[0] && !strncmp(err->text, err->path, strlen(err->path)), err->text);
}

void fuzz_must_be_clean(void)
{
    FUZZ_MUST(!dr_alloc_stats_all().blocks);
}

char *fuzz_text(const uint8_t *bytes, size_t n)
{
    char *text = malloc(n + 1);
    FUZZ_MUST(text);
    memcpy(text, bytes, n);
    text[n] = '\0';
    return text;
}

char *fuzz_line(char **text)
{
    char *line = *text;
    if (!line || !*line)
        return NULL;
    size_t n = strcspn(line, "\n");
    *text = line + n + (line[n] == '\n');
    line[n] = '\0';
    return line;
}

static char folder[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    if (folder[0])
        return folder;
    /* in memory where that is possible: it is written for every input */
    snprintf(folder, sizeof folder, "/dev/shm/darkroom-fuzz.XXXXXX");
    if (!mkdtemp(folder)) {
        snprintf(folder, sizeof folder, "/tmp/darkroom-fuzz.XXXXXX");
        FUZZ_MUST(mkdtemp(folder));
    }
    atexit(remove_folder);
    return folder;
}
