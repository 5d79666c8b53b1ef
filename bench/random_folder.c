/* random_folder.c - see random_folder.h. One network at a time is filled in memory and written;
 * model_index.json comes last, so that a folder that has it is whole. */
#include "bench/random_folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fs.h"
#include "models/arch_sdxl.h"
#include "bench/model.h"

static const char index_text[] =
    "{\"_class_name\": \"StableDiffusionXLPipeline\", \"force_zeros_for_empty_prompt\": true,\n"
    " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"], \"vae\": [\"diffusers\", "
    "\"AutoencoderKL\"],\n"
    " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],\n"
    " \"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"]}\n";

static const char unet_text[] =
    "{\"in_channels\": 4, \"out_channels\": 4, \"sample_size\": 128, \"flip_sin_to_cos\": true,\n"
    " \"freq_shift\": 0, \"block_out_channels\": [320, 640, 1280], \"layers_per_block\": 2,\n"
    " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", "
    "\"CrossAttnDownBlock2D\"],\n"
    " \"mid_block_type\": \"UNetMidBlock2DCrossAttn\",\n"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],\n"
    " \"transformer_layers_per_block\": [1, 2, 10], \"attention_head_dim\": [5, 10, 20],\n"
    " \"cross_attention_dim\": 2048, \"use_linear_projection\": true, \"norm_num_groups\": 32,\n"
    " \"norm_eps\": 1e-05, \"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": "
    "256,\n"
    " \"projection_class_embeddings_input_dim\": 2816}\n";

static const char vae_text[] =
    "{\"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 4, \"layers_per_block\": 2,\n"
    " \"block_out_channels\": [128, 256, 512, 512], \"norm_num_groups\": 32, \"scaling_factor\": "
    "0.13025,\n"
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", "
    "\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],\n"
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", "
    "\"UpDecoderBlock2D\"]}\n";

#define TEXT_CONFIG(class, width, layers, heads, mlp, act)                                         \
    "{\"architectures\": [\"" class "\"], \"vocab_size\": 49408, \"hidden_size\": " width          \
                                    ",\n \"num_hidden_layers\": " layers                           \
                                    ", \"num_attention_heads\": " heads                            \
                                    ", \"intermediate_size\": " mlp ", \"hidden_act\": \"" act     \
                                    "\",\n"                                                        \
                                    " \"max_position_embeddings\": 77, \"projection_dim\": " width \
                                    ", \"layer_norm_eps\": 1e-05, \"bos_token_id\": 49406, "       \
                                    "\"eos_token_id\": 49407}\n"

static const char text_text[] = TEXT_CONFIG("CLIPTextModel", "768", "12", "12", "3072",
                                            "quick_gelu");
static const char text_2_text[] = TEXT_CONFIG("CLIPTextModelWithProjection", "1280", "32", "20",
                                              "5120", "gelu");

const char *bench_file_config(enum component component)
{
    switch (component) {
    case COMPONENT_UNET:
        return unet_text;
    case COMPONENT_VAE:
        return vae_text;
    case COMPONENT_TEXT_ENCODER:
        return text_text;
    default:
        return text_2_text;
    }
}

/* ---- safetensors ---- */

enum { TENSORS_MOST = 4096 };

struct writing {
    struct buf header;
    struct dr_piece *pieces; /* [TENSORS_MOST + 2]: length, header, tensors */
    size_t count;
    int64_t offset;
};

static int add_tensor(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct writing *w = ctx;
    int64_t count, size;
    if (w->count == TENSORS_MOST + 2 || !shape_count(shape, &count))
        return DR_ELIMIT;
    size = count * (int64_t)dtype_size(p->src.dtype);
    int r = buf_printf(&w->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", w->offset ? "," : "{",
                       name, dtype_name(p->src.dtype));
    for (int i = 0; i < shape->n && !r; i++)
        r = buf_printf(&w->header, "%s%" PRId64, i ? "," : "", shape->d[i]);
    if (!r)
        r = buf_printf(&w->header, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", w->offset,
                       w->offset + size);
    w->pieces[w->count++] = (struct dr_piece){ p->src.data, (size_t)size };
    w->offset += size;
    return r;
}

static int write_tensors(const char *path, void *network, visit_fn visit, struct dr_error *err)
{
    struct writing w = { .count = 2 };
    struct visitor v = { .param = add_tensor, .ctx = &w };
    unsigned char length[8];
    buf_init(&w.header, DR_TAG_FILE, 0);
    w.pieces = dr_calloc(DR_TAG_FILE, TENSORS_MOST + 2, sizeof *w.pieces);
    int r = w.pieces ? visit(network, &v) : DR_ENOMEM;
    if (!r)
        r = buf_putc(&w.header, '}');
    while (!r && w.header.len % 8)
        r = buf_putc(&w.header, ' ');
    if (r) {
        dr_fail(err, r, "%s: out of memory for its header", path);
    } else {
        for (int i = 0; i < 8; i++)
            length[i] = (unsigned char)((uint64_t)w.header.len >> (8 * i));
        w.pieces[0] = (struct dr_piece){ length, sizeof length };
        w.pieces[1] = (struct dr_piece){ w.header.data, w.header.len };
        r = dr_write_pieces(path, w.pieces, w.count, err);
    }
    dr_free(w.pieces);
    buf_free(&w.header);
    return r;
}

/* ---- components ---- */

static int write_text(const char *folder, const char *name, const char *text, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    int r = dr_path_join(path, sizeof path, folder, name);
    return r ? dr_fail(err, r, "%s: the path is too long", folder)
             : dr_write_file(path, text, strlen(text), err);
}

/* `file` beside its config.json; the network's weights are made and forgotten here. */
static int write_component(const char *folder, enum component component, const char *file,
                           void *network, visit_fn visit, const atomic_int *stop,
                           struct dr_error *err)
{
    char own[DR_PATH_MAX], path[DR_PATH_MAX];
    int r = dr_path_join(own, sizeof own, folder, component_name(component));
    if (!r)
        r = dr_path_join(path, sizeof path, own, file);
    if (r)
        return dr_fail(err, r, "%s: the path is too long", folder);
    r = dr_mkdirs(own, err);
    if (!r)
        r = write_text(own, "config.json", bench_file_config(component), err);
    if (!r)
        r = bench_model_fill(network, visit, stop, err);
    if (!r)
        r = write_tensors(path, network, visit, err);
    bench_model_empty(network, visit);
    return r;
}

static int write_encoder(const char *folder, int which, const atomic_int *stop,
                         struct dr_error *err)
{
    struct clip_text *t;
    int r = clip_text_new(&arch_sdxl_text[which], &t, err);
    if (r)
        return r;
    r = write_component(folder, which ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER,
                        "model.safetensors", t, clip_text_visit, stop, err);
    clip_text_free(t);
    return r;
}

static int write_unet(const char *folder, const atomic_int *stop, struct dr_error *err)
{
    struct unet *u;
    int r = unet_new(&arch_sdxl_unet, &u, err);
    if (r)
        return r;
    r = write_component(folder, COMPONENT_UNET, "diffusion_pytorch_model.safetensors", u,
                        unet_visit, stop, err);
    unet_free(u);
    return r;
}

static int write_vae(const char *folder, const atomic_int *stop, struct dr_error *err)
{
    struct vae *v;
    int r = vae_new(&arch_sdxl_vae, true, true, &v, err);
    if (r)
        return r;
    r = write_component(folder, COMPONENT_VAE, "diffusion_pytorch_model.safetensors", v, vae_visit,
                        stop, err);
    vae_free(v);
    return r;
}

int bench_file_write(const char *folder, const atomic_int *stop, struct dr_error *err)
{
    static const char last[] = "model_index.json";
    char path[DR_PATH_MAX];
    int r = dr_path_join(path, sizeof path, folder, last);
    if (r)
        return dr_fail(err, r, "%s: the path is too long", folder);
    if (dr_is_file(path))
        return 0;
    for (int i = 0; i < BENCH_ENCODERS && !r; i++)
        r = write_encoder(folder, i, stop, err);
    if (!r)
        r = write_vae(folder, stop, err);
    if (!r)
        r = write_unet(folder, stop, err);
    return r ? r : write_text(folder, last, index_text, err);
}
