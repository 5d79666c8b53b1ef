/* replay.c - runs a fuzz target over files and folders of files, without libFuzzer: a test that
 * the committed corpus still passes, in every build and with every compiler.
 * usage: replay_NAME PATH... */
#include "testing/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST = 16 << 20, PATH_BYTES = 1024 };

static int run_file(const char *path)
{
    static uint8_t buffer[MOST];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    size_t n = fread(buffer, 1, sizeof buffer, f);
    fclose(f);
    /* a block of exactly that size, so that a sanitizer sees a read past its end */
    uint8_t *bytes = malloc(n ? n : 1);
    FUZZ_MUST(bytes);
    memcpy(bytes, buffer, n);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    return 1;
}

static int run_path(const char *path)
{
    struct stat st;
    char entry[PATH_BYTES];
    int ran = 0;
    DIR *folder = stat(path, &st) || !S_ISDIR(st.st_mode) ? NULL : opendir(path);
    if (!folder)
        return run_file(path);
    for (struct dirent *e; (e = readdir(folder));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(entry, sizeof entry, "%s/%s", path, e->d_name);
        ran += run_file(entry);
    }
    closedir(folder);
    return ran;
}

int main(int argc, char **argv)
{
    int ran = 0;
    fuzz_shows_errors = true;
    for (int i = 1; i < argc; i++)
        ran += run_path(argv[i]);
    printf("%d inputs\n", ran);
    return ran ? 0 : 1;
}
