/* pictures.c - see pictures.h. Few steps without guidance are what distilled models take, many
 * steps with guidance the others. */
#include "bench/pictures.h"

#include "base/json.h"
#include "base/path_text.h"

static const struct picture_case {
    const char *name;
    int pixels; /* of the edge */
    int steps;
    double guidance;
} cases[] = {
    { "picture_4_512", 512, 4, 1 },
    { "picture_4_1024", 1024, 4, 1 },
    { "picture_30_1024", 1024, 30, 5 },
};

enum { CASES = sizeof cases / sizeof *cases };

const char *bench_picture_name(int i)
{
    return i >= 0 && i < CASES ? cases[i].name : NULL;
}

/* A negative prompt, so that guidance has two texts to encode. */
json_t *bench_picture_request(int i, const char *path, const char *kernels, const char *precision)
{
    const struct picture_case *c = &cases[i];
    json_t *data = json_pack(
        "{s:o,s:s,s:s,s:i,s:i,s:i,s:f,s:s,s:i,s:s,s:s}", "model", path_text_json(path), "prompt",
        "a lighthouse on a cliff above the sea, late afternoon", "sampler", "euler", "width",
        c->pixels, "height", c->pixels, "steps", c->steps, "guidance_scale", c->guidance, "spacing",
        "trailing", "seed", 1, "kernels", kernels, "precision", precision);
    if (data && c->guidance > 1 && jx_set(data, "negative_prompt", json_string("blurred")) < 0) {
        json_decref(data);
        data = NULL;
    }
    return data;
}
