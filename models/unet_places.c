/* unet_places.c - names of a UNet's transformers, see unet_places in unet.h. The names are those of
 * modules of diffusers' UNet2DConditionModel, or the beginning of one; of up_blocks the first is
 * the coarsest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/unet_trunk.h"

enum { NAME_BYTES = 96 };

static int fail_name(const char *path, const char *name, const char *expected, struct dr_error *err)
{
    return dr_fail_field(err, DR_EINVAL, path, name, expected,
                         "such as mid;down_blocks.2;up_blocks.0.attentions.1");
}

/* ".WORD.NUMBER" at *at, if it is there; false for anything else. */
static bool number(const char **at, const char *word, int *ret)
{
    size_t n = strlen(word);
    char *end;
    if (!**at)
        return true;
    if (strncmp(*at, word, n) != 0 || (*at)[n] < '0' || (*at)[n] > '9')
        return false;
    long v = strtol(*at + n, &end, 10);
    *at = end;
    *ret = (int)v;
    return v < 1000;
}

static bool parse(const char *name, struct self_place *ret)
{
    static const char *const parts[SELF_PARTS] = { "down_blocks", "mid_block", "up_blocks" };
    const char *at = name;
    *ret = (struct self_place){ -1, -1, -1, -1 };
    for (int i = 0; i < SELF_PARTS && ret->part < 0; i++)
        if (!strncmp(name, parts[i], strlen(parts[i]))) {
            ret->part = i;
            at = name + strlen(parts[i]);
        }
    if (!strcmp(name, "mid")) {
        ret->part = SELF_MID;
        at = "";
    }
    if (ret->part < 0 || (ret->part != SELF_MID && !number(&at, ".", &ret->level)))
        return false;
    if (!number(&at, ".attentions.", &ret->unit))
        return false;
    return number(&at, ".transformer_blocks.", &ret->block) && !*at;
}

int unet_places(const struct unet *u, const char *path, const char *text, struct self_change *ret,
                struct dr_error *err)
{
    char name[NAME_BYTES];
    ret->n = 0;
    do {
        size_t n = strcspn(text, ";");
        if (ret->n == SELF_PLACES)
            return fail_name(path, text, "at most 16 names with ; between", err);
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), text);
        struct self_place *at = &ret->place[ret->n++];
        if (n >= sizeof name || !parse(name, at))
            return fail_name(path, name, "names of transformers with ; between", err);
        if (!unet_has_transformer(u, at))
            return fail_name(path, name, "a transformer that this model has", err);
        text += n + (text[n] == ';');
    } while (*text);
    return 0;
}
