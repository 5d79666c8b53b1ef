/* unet_blocks.c - see unet_blocks.h.
 *
 * Lists and presets mean what they mean in the extension that introduced them,
 * scripts/lora_block_weight.py of hako-mikan/sd-webui-lora-block-weight: lists of 12 and 17 numbers
 * name the text encoders and the blocks with attention of SDXL and SD 1.x, those of 20 and 26 all
 * blocks; blocks that a list does not name get 0, modules of the UNet that lie in no block 1. A
 * preset is a list of 17 numbers. Here numbers of blocks follow from the architecture, and presets
 * from its blocks with attention: for SD 1.x and 2.x they are the extension's numbers, for other
 * UNets what these say of halves.
 */
#include "models/adapters/unet_blocks.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"

/* Where a unit is; `kind` is "resnets", "attentions", "downsamplers" or "upsamplers". */
struct unet_place {
    enum { NOWHERE, DOWN, MIDDLE, UP } part;
    int level, unit; /* level: in order of execution */
    char kind[16];
    const char *rest; /* of the name, after the unit's number and a dot */
};

static struct unet_place place_of(const char *module)
{
    struct unet_place p = { .part = NOWHERE };
    int used = 0;
    if (sscanf(module, "down_blocks.%d.%15[a-z].%d.%n", &p.level, p.kind, &p.unit, &used) == 3 &&
        used)
        p.part = DOWN;
    else if (sscanf(module, "mid_block.%15[a-z].%d.%n", p.kind, &p.unit, &used) == 2 && used)
        p.part = MIDDLE;
    else if (sscanf(module, "up_blocks.%d.%15[a-z].%d.%n", &p.level, p.kind, &p.unit, &used) == 3 &&
             used)
        p.part = UP;
    p.rest = module + used;
    return p;
}

static int inputs(const struct unet_arch *a)
{
    int n = a->levels; /* the first convolution and the downsamplers */
    for (int i = 0; i < a->levels; i++)
        n += a->layers[i];
    return n;
}

static int outputs(const struct unet_arch *a)
{
    int n = a->levels;
    for (int i = 0; i < a->levels; i++)
        n += a->layers[i];
    return n;
}

int unet_block_count(const struct unet_arch *a)
{
    return 1 + inputs(a) + 1 + outputs(a);
}

/* The number of an input block. */
static int input_of(const struct unet_arch *a, int level, int unit)
{
    int n = 1;
    for (int i = 0; i < level; i++)
        n += a->layers[i] + 1;
    return n + unit;
}

static int output_of(const struct unet_arch *a, int level, int unit)
{
    int n = 0;
    for (int i = 0; i < level; i++)
        n += a->layers[a->levels - 1 - i] + 1;
    return n + unit;
}

static bool samples(const struct unet_place *p)
{
    return !strcmp(p->kind, "downsamplers") || !strcmp(p->kind, "upsamplers");
}

static bool in_bounds(const struct unet_arch *a, const struct unet_place *p)
{
    int level = p->part == UP ? a->levels - 1 - p->level : p->level;
    int units = p->part == UP ? 1 : 0;
    return p->part == MIDDLE || (p->level >= 0 && p->level < a->levels && p->unit >= 0 &&
                                 p->unit < a->layers[level] + units);
}

int unet_block_of(const struct unet_arch *a, const char *module)
{
    struct unet_place p = place_of(module);
    if (!strncmp(module, "conv_in", strlen("conv_in")))
        return 1;
    if (p.part == NOWHERE || !in_bounds(a, &p))
        return 0;
    int last = p.part == UP ? a->layers[a->levels - 1 - p.level] : a->layers[p.level];
    int unit = samples(&p) ? last : p.unit;
    return p.part == DOWN     ? 1 + input_of(a, p.level, unit)
           : p.part == MIDDLE ? 1 + inputs(a)
                              : 2 + inputs(a) + output_of(a, p.level, unit);
}

/* Names inside a residual block, and of what lies in no block. */
static const char *const renamed[][2] = {
    { "norm1", "in_layers.0" },          { "conv1", "in_layers.2" },
    { "time_emb_proj", "emb_layers.1" }, { "norm2", "out_layers.0" },
    { "conv2", "out_layers.3" },         { "conv_shortcut", "skip_connection" },
};
static const char *const outside[][2] = {
    { "conv_in", "input_blocks.0.0" },
    { "conv_norm_out", "out.0" },
    { "conv_out", "out.2" },
    { "time_embedding.linear_1", "time_embed.0" },
    { "time_embedding.linear_2", "time_embed.2" },
    { "add_embedding.linear_1", "label_emb.0.0" },
    { "add_embedding.linear_2", "label_emb.0.2" },
};

static bool has_attention(const struct unet_arch *a, const struct unet_place *p, int unit)
{
    return a->up_depth[a->levels - 1 - p->level][unit] > 0;
}

static bool single_block(const struct unet_arch *a, const struct unet_place *p, const char *inside,
                         char *dst, size_t n)
{
    bool attention = !strcmp(p->kind, "attentions");
    int made = -1;
    if (p->part == MIDDLE)
        made = snprintf(dst, n, "middle_block.%d.%s", attention ? 1 : p->unit ? 2 : 0, inside);
    else if (p->part == DOWN && samples(p))
        made = snprintf(dst, n, "input_blocks.%d.0.op", input_of(a, p->level, a->layers[p->level]));
    else if (p->part == DOWN)
        made = snprintf(dst, n, "input_blocks.%d.%d.%s", input_of(a, p->level, p->unit), attention,
                        inside);
    else if (samples(p)) {
        int last = a->layers[a->levels - 1 - p->level];
        made = snprintf(dst, n, "output_blocks.%d.%d.conv", output_of(a, p->level, last),
                        has_attention(a, p, last) ? 2 : 1);
    } else
        made = snprintf(dst, n, "output_blocks.%d.%d.%s", output_of(a, p->level, p->unit),
                        attention, inside);
    return made > 0 && (size_t)made < n;
}

bool unet_single_name(const struct unet_arch *a, const char *module, char *dst, size_t n)
{
    struct unet_place p = place_of(module);
    for (size_t i = 0; p.part == NOWHERE && i < sizeof outside / sizeof *outside; i++)
        if (!strcmp(module, outside[i][0]))
            return snprintf(dst, n, "%s", outside[i][1]) < (int)n;
    if (p.part == NOWHERE || (!samples(&p) && !in_bounds(a, &p)))
        return false;
    const char *inside = p.rest;
    for (size_t i = 0; !strcmp(p.kind, "resnets") && i < sizeof renamed / sizeof *renamed; i++)
        if (!strcmp(p.rest, renamed[i][0]))
            inside = renamed[i][1];
    return single_block(a, &p, inside, dst, n);
}

/* ---- strengths ---- */

/* Whether the block of that number has attention. */
static bool attends(const struct unet_arch *a, int number)
{
    if (number == 1 + inputs(a))
        return a->mid_depth > 0;
    for (int i = 0; i < a->levels; i++)
        for (int k = 0; k <= a->layers[i]; k++) {
            int level = a->levels - 1 - i;
            if (k < a->layers[i] && number == 1 + input_of(a, i, k))
                return a->depth[i][k] > 0;
            if (number == 2 + inputs(a) + output_of(a, level, k))
                return a->up_depth[i][k] > 0;
        }
    return false;
}

static const struct {
    const char *name;
    double base, shallow_in, deep_in, middle, deep_out, shallow_out;
} presets[] = {
    { "all", 1, 1, 1, 1, 1, 1 },    { "none", 0, 0, 0, 0, 0, 0 },
    { "ins", 1, 1, 0, 0, 0, 0 },    { "ind", 1, 0, 1, 0, 0, 0 },
    { "inall", 1, 1, 1, 0, 0, 0 },  { "midd", 1, 0, 1, 1, 1, 0 },
    { "outd", 1, 0, 0, 0, 1, 0 },   { "outs", 1, 0, 0, 0, 0, 1 },
    { "outall", 1, 0, 0, 0, 1, 1 }, { "all0.5", 0.5, 0.5, 0.5, 0.5, 0.5, 0.5 },
};

enum { PRESETS = sizeof presets / sizeof *presets };

static int attending(const struct unet_arch *a, int first, int n)
{
    int sum = 0;
    for (int i = first; i < first + n; i++)
        sum += attends(a, i);
    return sum;
}

/* Blocks [first, first + n): the first half of those with attention and the other, the rest 0. */
static void fill_halves(const struct unet_arch *a, int first, int n, double one, double other,
                        double ret[UNET_BLOCKS_MOST])
{
    int half = attending(a, first, n) / 2;
    for (int i = first, seen = 0; i < first + n; i++)
        ret[i] = !attends(a, i) ? 0 : seen++ < half ? one : other;
}

static void fill_preset(const struct unet_arch *a, int which, double ret[UNET_BLOCKS_MOST])
{
    int in = inputs(a), out = outputs(a);
    ret[0] = presets[which].base;
    fill_halves(a, 1, in, presets[which].shallow_in, presets[which].deep_in, ret);
    ret[1 + in] = presets[which].middle;
    fill_halves(a, 2 + in, out, presets[which].deep_out, presets[which].shallow_out, ret);
}

/* Numbers of the text; -1: something else. */
static int read_numbers(const char *text, double ret[UNET_BLOCKS_MOST])
{
    int n = 0;
    for (const char *p = text + strspn(text, " ");; n++) {
        char *end;
        if (p[strspn(p, "0123456789+-.eE")] && !strchr(";, ", p[strspn(p, "0123456789+-.eE")]))
            return -1;
        double v = strtod(p, &end);
        if (end == p || n == UNET_BLOCKS_MOST || !isfinite(v) || fabs(v) > 100)
            return -1;
        ret[n] = v;
        p = end + strspn(end, " ");
        if (!*p)
            return n + 1;
        p += *p == ';' || *p == ',';
        p += strspn(p, " ");
    }
}

static int fail_text(const struct unet_arch *a, const char *field, const char *text, int n,
                     int short_list, struct dr_error *err)
{
    char got[160], expected[200];
    size_t used = (size_t)snprintf(expected, sizeof expected, "%d or %d numbers for this UNet, or ",
                                   short_list, unet_block_count(a));
    for (int i = 0; i < PRESETS && used < sizeof expected; i++)
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", i ? ", " : "",
                                 presets[i].name);
    snprintf(got, sizeof got, "%d numbers", n);
    return dr_fail_field(err, DR_EINVAL, field, n > 0 ? got : text, expected, NULL);
}

int unet_block_strengths(const struct unet_arch *a, const char *field, const char *text,
                         double ret[UNET_BLOCKS_MOST], struct dr_error *err)
{
    double given[UNET_BLOCKS_MOST];
    int all = unet_block_count(a), short_list = 1 + attending(a, 1, all - 1);
    for (int i = 0; i < PRESETS; i++)
        if (!strcasecmp(presets[i].name, text)) {
            fill_preset(a, i, ret);
            return 0;
        }
    int n = read_numbers(text, given);
    if (n != all && n != short_list)
        return fail_text(a, field, text, n, short_list, err);
    ret[0] = given[0];
    for (int i = 1, k = 1; i < all; i++)
        ret[i] = n == all ? given[i] : attends(a, i) ? given[k++] : 0;
    return 0;
}
