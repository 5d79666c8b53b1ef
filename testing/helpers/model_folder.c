/* model_folder.c - see model_folder.h. The networks themselves say what weights they want. */
#include "testing/helpers/model_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/model_access.h"

static char root[400];

const char *folder_root(void)
{
    return root;
}

const char *folder_path(const char *relative)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, relative);
    return path;
}

void folder_write(const char *relative, const char *members, const char *more)
{
    static char text[8192];
    snprintf(text, sizeof text, "{%s%s%s}\n", members, more ? "," : "", more ? more : "");
    test_write_text(folder_path(relative), text);
}

struct writing {
    struct st_writer *w[2];
    int n, turn;
    const char *cut;            /* prefix taken off names */
    const char *old, *spelling; /* replaced in names */
};

static int write_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    (void)p;
    struct writing *c = ctx;
    char other[PARAM_NAME * 2];
    size_t cut = c->cut && !strncmp(name, c->cut, strlen(c->cut)) ? strlen(c->cut) : 0;
    name += cut;
    const char *at = c->old ? strstr(name, c->old) : NULL;
    if (at) {
        snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, c->spelling,
                 at + strlen(c->old));
        name = other;
    }
    st_writer_add(c->w[c->turn++ % c->n], name, "F16", shape->n, shape->d, NULL);
    return 0;
}

const struct unet_arch folder_unet_arch = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 2,
    .channels = { 16, 24 },
    .layers = { 1, 1 },
    .depth = { { 0 }, { 2 } },
    .up_depth = { { 0, 0 }, { 2, 2 } },
    .mid = true,
    .mid_depth = 2,
    .mid_resnets = 2,
    .heads = { 2, 3 },
    .context = 20,
    .linear_projection = true,
    .time_dim = 64,
    .addition_time_dim = 16,
    .n_time_ids = 6,
    .pooled = 12,
    .groups = 8,
    .eps = 1e-5,
    .flip_sin_to_cos = true,
    .sample_size = 24,
};
const struct clip_arch folder_clip_arch[2] = {
    { .vocab = 30,
      .width = 8,
      .layers = 2,
      .heads = 2,
      .mlp = 12,
      .positions = 77,
      .eps = 1e-5,
      .act = ARCH_QUICK_GELU,
      .eos_id = 2,
      .bos_id = 49406 },
    { .vocab = 30,
      .width = 12,
      .layers = 3,
      .heads = 3,
      .mlp = 20,
      .positions = 77,
      .eps = 1e-6,
      .projection = 12,
      .act = ARCH_GELU,
      .eos_id = 29,
      .bos_id = 49406 },
};
const struct vae_arch folder_vae_arch = {
    .in_channels = 3,
    .out_channels = 3,
    .latent_channels = 4,
    .levels = 2,
    .channels = { 8, 16 },
    .layers = 1,
    .groups = 4,
    .scaling_factor = 0.13025,
    .quant_conv = true,
    .post_quant_conv = true,
    .mid_attention = true,
};

static void write_weights(void *network, visit_fn visit, const char *file, const char *cut,
                          const char *old, const char *spelling)
{
    struct writing c = {
        .w = { st_writer_new() }, .n = 1, .cut = cut, .old = old, .spelling = spelling
    };
    struct visitor v = { .param = write_param, .ctx = &c };
    assert_int_equal(visit(network, &v), 0);
    st_writer_save(c.w[0], folder_path(file));
    st_writer_free(c.w[0]);
}

void folder_unet(const struct unet_arch *arch, const char *file)
{
    struct dr_error err;
    struct unet *u;
    if (unet_new(arch, &u, &err))
        fail_msg("%s", err.text);
    write_weights(u, unet_visit, file, NULL, NULL, NULL);
    unet_free(u);
}

void folder_clip(int which, const char *file, const char *cut)
{
    struct dr_error err;
    struct clip_text *t;
    assert_int_equal(clip_text_new(&folder_clip_arch[which], &t, &err), 0);
    write_weights(t, clip_text_visit, file, cut, NULL, NULL);
    clip_text_free(t);
}

void folder_vae(const char *file, const char *old, const char *spelling)
{
    struct dr_error err;
    struct vae *v;
    assert_int_equal(vae_new(&folder_vae_arch, true, true, &v, &err), 0);
    write_weights(v, vae_visit, file, NULL, old, spelling);
    vae_free(v);
}

void folder_make(void)
{
    static int number;
    snprintf(root, sizeof root, "%s/model%d", test_dir(), number++);
    folder_write("model_index.json", FOLDER_INDEX, NULL);
    folder_write("unet/config.json", FOLDER_UNET, NULL);
    folder_write("vae/config.json", FOLDER_VAE, NULL);
    folder_write("text_encoder/config.json", FOLDER_CLIP1, NULL);
    folder_write("text_encoder_2/config.json", FOLDER_CLIP2, NULL);
    folder_write("scheduler/scheduler_config.json",
                 "\"_class_name\":\"EulerDiscreteScheduler\",\"lambda_min_clipped\":-Infinity",
                 NULL);
    test_make_dirs(folder_path("tokenizer"));
    test_make_dirs(folder_path("tokenizer_2"));
    folder_unet(&folder_unet_arch, "unet/diffusion_pytorch_model.safetensors");
    folder_clip(0, "text_encoder/model.safetensors", NULL);
    folder_clip(1, "text_encoder_2/model.safetensors", NULL);
    folder_vae("vae/diffusion_pytorch_model.safetensors", NULL, NULL);
}

int folder_load(struct checkpoint *c, struct dr_error *err)
{
    struct unet *unet = NULL;
    struct clip_text *clip[2] = { NULL, NULL };
    struct vae *vae = NULL;
    int r = unet_new(checkpoint_unet_arch(c), &unet, err);
    for (int i = 0; !r && i < 2; i++)
        r = clip_text_new(checkpoint_clip_arch(c, i), &clip[i], err);
    if (!r)
        r = vae_new(checkpoint_vae_arch(c), true, true, &vae, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_UNET, unet, unet_visit, err);
    for (int i = 0; !r && i < 2; i++)
        r = checkpoint_load(c, i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER, clip[i],
                            clip_text_visit, err);
    if (!r)
        r = checkpoint_load(c, COMPONENT_VAE, vae, vae_visit, err);
    unet_free(unet);
    clip_text_free(clip[0]);
    clip_text_free(clip[1]);
    vae_free(vae);
    return r;
}

struct checkpoint *folder_open(void)
{
    struct dr_error err = { 0 };
    struct checkpoint *c = NULL;
    if (checkpoint_open(root, &c, &err) || folder_load(c, &err))
        fail_msg("%s", err.text);
    return c;
}

void folder_must_load(void)
{
    uint64_t blocks = test_blocks();
    struct checkpoint *c = folder_open();
    if (checkpoint_warning(c, 0))
        fail_msg("%s", checkpoint_warning(c, 0));
    checkpoint_close(c);
    assert_int_equal(test_blocks(), blocks);
}

void folder_must_fail(int code, const char *words)
{
    struct dr_error err = { 0 };
    struct checkpoint *c;
    uint64_t blocks = test_blocks();
    int r = checkpoint_open(root, &c, &err);
    if (!r) {
        r = folder_load(c, &err);
        checkpoint_close(c);
    }
    if (r != code || !strstr(err.text, words))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, err.text, code, words);
    assert_int_equal(test_blocks(), blocks);
}

void folder_shards(const char *first, const char *second, const char *index)
{
    struct dr_error err;
    struct unet *u;
    struct writing c = { .w = { st_writer_new(), st_writer_new() }, .n = 2 };
    struct visitor v = { .param = write_param, .ctx = &c };
    assert_int_equal(unet_new(&folder_unet_arch, &u, &err), 0);
    assert_int_equal(unet_visit(u, &v), 0);
    unet_free(u);
    st_writer_save(c.w[0], folder_path("unet/a.safetensors"));
    st_writer_save(c.w[1], folder_path("unet/b.safetensors"));
    st_writer_free(c.w[0]);
    st_writer_free(c.w[1]);
    unlink(folder_path("unet/diffusion_pytorch_model.safetensors"));
    char text[1024];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"conv_in.weight\":\"%s\","
             "\"conv_in.bias\":\"%s\"}}",
             first, second);
    test_write_text(folder_path(index), text);
}

void folder_set_key(const char *file, const char *members, const char *key, const char *value)
{
    static char kept[8192], added[256];
    snprintf(kept, sizeof kept, "%s", members);
    snprintf(added, sizeof added, "\"%s\":", key);
    char *at = strstr(kept, added);
    if (at) {
        int depth = 0;
        char *end = at + strlen(added);
        while (*end && (*end != ',' || depth)) {
            depth += (*end == '[') - (*end == ']');
            end++;
        }
        end += *end == ',';
        memmove(at, end, strlen(end) + 1);
        size_t n = strlen(kept);
        if (n && kept[n - 1] == ',')
            kept[n - 1] = '\0';
    }
    snprintf(added, sizeof added, "\"%s\":%s", key, value);
    folder_write(file, kept, added);
}
