/* model_folders.c - see model_folders.h. */
#include "core/communication/model_folders.h"

#include <stdio.h>
#include <string.h>

static const struct model_folder_info kinds[] = {
#define KIND(name, word, variable, others, help) { #name, word, variable, others, help },
#include "core/communication/model_folders.def"
#undef KIND
};

const struct model_folder_info *model_folder(enum model_folder kind)
{
    return &kinds[kind];
}

const char *model_folder_name(enum model_folder kind, int i, size_t *ret_n)
{
    const char *p = kinds[kind].others;
    if (!i) {
        *ret_n = strlen(kinds[kind].name);
        return kinds[kind].name;
    }
    for (; *p && i > 1; i--) {
        p += strcspn(p, "|");
        p += *p == '|';
    }
    *ret_n = strcspn(p, "|");
    return p;
}

enum model_folder model_folder_find(const char *name, size_t n)
{
    for (int k = 0; k < MODEL_FOLDERS; k++) {
        const char *one;
        size_t m;
        for (int i = 0; (one = model_folder_name((enum model_folder)k, i, &m)) && m; i++)
            if (m == n && !strncmp(one, name, n))
                return (enum model_folder)k;
    }
    return MODEL_FOLDERS;
}

int model_folder_next(const char **text, char dst[MODEL_FOLDER_BYTES])
{
    static const char blanks[] = " \t\r";
    const char *p = *text;
    while (*p) {
        p += strspn(p, ":\n");
        p += strspn(p, blanks);
        size_t n = strcspn(p, ":\n"), kept = n;
        while (kept && strchr(blanks, p[kept - 1]))
            kept--;
        *text = p + n;
        if (kept && kept < MODEL_FOLDER_BYTES) {
            snprintf(dst, MODEL_FOLDER_BYTES, "%.*s", (int)kept, p);
            return 1;
        }
        p += n;
    }
    *text = p;
    return 0;
}
