/* fuzz_lora.c - libFuzzer target: any bytes as a file of a LoRA or a relative of it, for the UNet
 * of testing/golden/odd. What is accepted names parameters of that UNet, has finite numbers, and
 * its changes say of themselves whether they fit. */
#include "testing/fuzz/fuzz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/adapters/lora_file.h"
#include "models/unet.h"

static const struct unet_arch arch = { .in_channels = 4,
                                       .out_channels = 4,
                                       .levels = 3,
                                       .channels = { 12, 20, 28 },
                                       .layers = { 2, 2, 2 },
                                       .depth = { { 0 }, { 1, 1 }, { 2, 1 } },
                                       .up_depth = { { 0 }, { 1, 1, 1 }, { 1, 2, 1 } },
                                       .mid = true,
                                       .mid_depth = 2,
                                       .mid_resnets = 2,
                                       .heads = { 2, 4, 2 },
                                       .context = 68,
                                       .linear_projection = true,
                                       .time_dim = 48,
                                       .addition_time_dim = 10,
                                       .n_time_ids = 6,
                                       .pooled = 44,
                                       .groups = 4,
                                       .eps = 3e-5 };

struct fitting {
    const struct weight_delta *deltas;
    size_t n, found;
};

static int on_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct fitting *f = ctx;
    (void)p;
    for (size_t i = 0; i < f->n; i++) {
        struct dr_error err = { 0 };
        if (strcmp(f->deltas[i].param, name) != 0)
            continue;
        f->found++;
        int r = f->deltas[i].kind->check(&f->deltas[i], shape, &err);
        if (r)
            fuzz_must_explain(r, &err);
    }
    return 0;
}

static void check_file(const struct lora_file *f, struct unet *u)
{
    struct fitting all = { .n = lora_file_deltas(f, COMPONENT_UNET, &all.deltas) };
    struct visitor v = { .param = on_param, .ctx = &all };
    FUZZ_MUST(all.n > 0 && strlen(lora_file_digest(f)) == 64);
    for (size_t i = 0; i < all.n; i++)
        FUZZ_MUST(isfinite(all.deltas[i].alpha) && all.deltas[i].strength == 1);
    FUZZ_MUST(!unet_visit(u, &v) && all.found == all.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct dr_error err = { 0 };
    struct lora_file *f;
    struct unet *u;
    char path[64];
    int fd = memfd_create("lora", MFD_CLOEXEC);
    setenv("XDG_CACHE_HOME", "/nowhere", 1); /* digests are not kept */
    FUZZ_MUST(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    FUZZ_MUST(!unet_new(&arch, &u, &err));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const struct adapter_network network = { COMPONENT_UNET, u, unet_visit };
    const struct lora_model model = { &network, 1, &arch, false };
    int r = lora_file_open(NULL, path, &model, NULL, &f, &err);
    if (r < 0) {
        fuzz_must_explain(r, &err);
    } else {
        check_file(f, u);
        lora_file_close(f);
    }
    unet_free(u);
    close(fd);
    fuzz_must_be_clean();
    return 0;
}
