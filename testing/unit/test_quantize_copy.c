/* test_quantize_copy.c - checkpoints with 8-bit weights: written, read again, and refused when
 * their scales are not what they must be. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "models/model_loader.h"
#include "quantize/copy.h"
#include "models/unet.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/test.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/model_access.h"

static const char layer[] = "mid_block.resnets.0.conv1.weight";

/* Chooses one layer. */
static bool is_layer(const void *ctx, const void *data)
{
    struct weight_source s;
    return checkpoint_find(ctx, COMPONENT_UNET, layer, &s) && s.data == data;
}

static struct checkpoint *open_must(const char *path)
{
    struct checkpoint *c;
    struct dr_error err = { 0 };
    if (checkpoint_open(path, &c, &err))
        fail_msg("%s", err.text);
    return c;
}

static const char *in_dir(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

/* What happens before a conversion's commit. */
static void (*before_commit)(const char *to);

static int convert(const char *from, const char *to, const atomic_int *stop, struct dr_error *err)
{
    struct quantize_copy copy;
    struct checkpoint *c;
    char folder[DR_PATH_MAX];
    int r = checkpoint_open(from, &c, err);
    if (r)
        return r;
    snprintf(folder, sizeof folder, "%.*s", (int)(dr_path_base(to) - to), to);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct quantize_choice choice = { .chosen = is_layer, .ctx = c, .note = "a note" };
    quantize_begin(&copy, fd, to);
    r = quantize_check(&copy, from, err);
    if (!r)
        r = quantize_write(&copy, c, &choice, stop, err);
    if (!r && before_commit)
        before_commit(to);
    if (!r)
        r = quantize_commit(&copy, err);
    quantize_end(&copy);
    checkpoint_close(c);
    if (fd >= 0)
        close(fd);
    return r;
}

/* What a UNet loaded from the file has for the layer; r of the loading. */
struct wanted {
    struct weight_source found;
};

static int keep_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct wanted *w = ctx;
    (void)shape;
    if (!strcmp(name, layer))
        w->found = p->src;
    return 0;
}

static int load(struct checkpoint *c, struct weight_source *ret, struct dr_error *err)
{
    struct unet *u;
    struct wanted w = { { .name = NULL } };
    struct visitor v = { .param = keep_param, .ctx = &w };
    int r = unet_new(checkpoint_unet_arch(c), &u, err);
    if (r)
        return r;
    r = checkpoint_load(c, COMPONENT_UNET, u, unet_visit, err);
    unet_visit(u, &v);
    unet_free(u);
    *ret = w.found;
    return r;
}

static void check_copy(const char *from, const char *to)
{
    struct checkpoint *a = open_must(from), *b = open_must(to);
    struct weight_source wide, narrow, other;
    struct dr_error err = { 0 };
    assert_int_equal(checkpoint_weights(a), CHECKPOINT_FLOAT);
    assert_int_equal(checkpoint_weights(b), CHECKPOINT_INT8);
    assert_int_equal(load(a, &wide, &err), 0);
    if (load(b, &narrow, &err))
        fail_msg("%s", err.text);
    assert_null(checkpoint_warning(b, 0));
    assert_int_equal(narrow.dtype, DTYPE_I8);
    assert_non_null(narrow.scales);
    assert_true(shape_equal(&wide.shape, &narrow.shape));
    int64_t count = 0, rows = wide.shape.d[0];
    shape_count(&wide.shape, &count);
    for (int64_t i = 0; i < count; i++) {
        float x, scale;
        size_t size = dtype_size(wide.dtype);
        dtype_to_f32(&x, (const char *)wide.data + (size_t)i * size, wide.dtype, 1);
        memcpy(&scale, (const char *)narrow.scales + (size_t)(i / (count / rows)) * 4, 4);
        float y = ((const int8_t *)narrow.data)[i] * scale;
        assert_true(fabsf(x - y) <= 0.501f * scale);
    }
    /* what was not chosen is the same bytes */
    assert_true(checkpoint_find(a, COMPONENT_VAE, "decoder.conv_in.weight", &wide));
    assert_true(checkpoint_find(b, COMPONENT_VAE, "decoder.conv_in.weight", &other));
    shape_count(&wide.shape, &count);
    assert_memory_equal(wide.data, other.data, (size_t)count * dtype_size(wide.dtype));
    checkpoint_close(a);
    checkpoint_close(b);
}

static void copies_of_single_files(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    sgm_save(&sgm_tiny, false, in_dir("wide.safetensors"));
    if (convert(in_dir("wide.safetensors"), in_dir("narrow.safetensors"), NULL, &err))
        fail_msg("%s", err.text);
    check_copy(in_dir("wide.safetensors"), in_dir("narrow.safetensors"));
}

static void copies_of_folders(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    const char *from = test_source("testing/golden/odd/model");
    if (!dr_is_dir(from))
        from = test_source("share/models/tiny");
    if (convert(from, in_dir("copy"), NULL, &err))
        fail_msg("%s", err.text);
    check_copy(from, in_dir("copy"));
    assert_true(dr_is_file(in_dir("copy/unet/config.json")));
    assert_true(dr_is_file(in_dir("copy/tokenizer/vocab.json")));
}

static void put_text(const char *path, const char *text)
{
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
}

static void run(const char *command)
{
    if (system(command))
        fail_msg("%s", command);
}

/* The model's files and its licence, links as what they lead to; nothing else. */
static void copies_are_of_the_models_files(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct stat st;
    char command[1000];
    snprintf(command, sizeof command,
             "cd '%s' && cp -r '%s' from && mv from/vae vae && ln -s ../vae from/vae && mv "
             "from/tokenizer/vocab.json words && ln -s ../../words from/tokenizer/vocab.json && "
             "mkfifo from/unet/pipe && ln -s /nowhere from/dangling && mkdir from/pictures",
             test_dir(), test_source("testing/golden/odd/model"));
    run(command);
    put_text(in_dir("from/LICENSE.md"), "free");
    put_text(in_dir("from/README.md"), "a card");
    put_text(in_dir("from/pictures/a.png"), "x");
    put_text(in_dir("from/unet/other.bin"), "x");
    if (convert(in_dir("from"), in_dir("to"), NULL, &err))
        fail_msg("%s", err.text);
    check_copy(in_dir("from"), in_dir("to"));
    assert_int_equal(lstat(in_dir("to/vae"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(lstat(in_dir("to/tokenizer/vocab.json"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(dr_is_file(in_dir("to/LICENSE.md")), true);
    static const char *const absent[] = { "to/README.md", "to/pictures", "to/unet/other.bin",
                                          "to/unet/pipe", "to/dangling" };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        assert_int_equal(lstat(in_dir(absent[i]), &st), -1);
}

static int entries(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    atomic_int stop = 1;
    sgm_save(&sgm_tiny, false, in_dir("wide.safetensors"));
    int before = entries(test_dir());
    assert_int_equal(convert(in_dir("wide.safetensors"), in_dir("stopped"), &stop, &err),
                     DR_ECANCELED);
    assert_int_equal(convert(in_dir("wide.safetensors"), in_dir("wide.safetensors"), NULL, &err),
                     DR_EINVAL);
    assert_non_null(strstr(err.text, "does not exist yet"));
    assert_true(convert(in_dir("wide.safetensors"), in_dir("no/such/place"), NULL, &err) < 0);
    assert_int_equal(entries(test_dir()), before);
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void link_to(const char *target, const char *name)
{
    assert_int_equal(symlink(target, in_dir(name)), 0);
}

static void take_the_name(const char *to)
{
    FILE *f = fopen(to, "w");
    assert_non_null(f);
    assert_true(fputs("mine", f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Somebody puts files of his own into the folder that is being made. */
static void add_a_file(const char *to)
{
    char command[2000];
    snprintf(command, sizeof command, "for d in %s.*.tmp.d; do echo x > $d/theirs; done", to);
    assert_int_equal(system(command), 0);
    take_the_name(to);
}

static void nothing_that_came_meanwhile_is_harmed(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    sgm_save(&sgm_tiny, false, in_dir("wide.safetensors"));
    int before = entries(test_dir());
    before_commit = take_the_name;
    assert_int_equal(convert(in_dir("wide.safetensors"), in_dir("late.safetensors"), NULL, &err),
                     DR_EINVAL);
    assert_non_null(strstr(err.text, "does not exist yet"));
    struct stat st;
    assert_int_equal(stat(in_dir("late.safetensors"), &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(entries(test_dir()), before + 1);
    before_commit = add_a_file;
    assert_int_equal(convert(test_source("testing/golden/odd/model"), in_dir("late"), NULL, &err),
                     DR_EINVAL);
    before_commit = NULL;
    assert_int_equal(stat(in_dir("late"), &st), 0);
    assert_int_equal(st.st_size, 4);
    char command[600];
    snprintf(command, sizeof command, "test \"$(cd %s/late.*.tmp.d && find . -type f)\" = ./theirs",
             test_dir());
    assert_int_equal(system(command), 0);
}

/* A model whose files lie as in the cache of the Hugging Face hub, and links to elsewhere. */
static void links_bring_nothing_from_outside(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    char command[1200];
    assert_int_equal(mkdir(in_dir("hub"), 0777) | mkdir(in_dir("secret"), 0777), 0);
    put("secret/words", "secret words");
    snprintf(command, sizeof command,
             "cd %s/hub && mkdir blobs && cp -r %s model && cd model && i=0 && "
             "for f in $(find . -type f -printf '%%P\\n'); do i=$((i+1)); mv $f ../blobs/$i; "
             "ln -s $(echo $f | sed 's,[^/]*/,../,g;s,[^/]*$,,')../blobs/$i $f; done && "
             "cp -rL scheduler ../elsewhere && rm -r scheduler && ln -s ../elsewhere scheduler && "
             "find . -type l | grep -q . && ls vae/ > /dev/null",
             test_dir(), test_source("testing/golden/odd/model"));
    assert_int_equal(system(command), 0);
    /* a licence of the hub's, one of the folder's, and links to elsewhere */
    put("hub/blobs/licence", "free");
    link_to("../blobs/licence", "hub/model/LICENSE");
    put("hub/model/vae/terms", "more");
    link_to("vae/terms", "hub/model/NOTICE");
    static const char *const elsewhere[][2] = {
        { "../../secret/words", "hub/model/LICENSE.txt" },
        { "/etc/passwd", "hub/model/COPYING" },
        { "/proc/self/environ", "hub/model/LICENCE" },
        { "nowhere", "hub/model/NOTICE.txt" },
        { "../../secret", "hub/model/LICENSES" },
        { "/dev/zero", "hub/model/COPYING.0" },
        { "COPYING.0", "hub/model/COPYING.1" },
        { ".", "hub/model/notices" },
        { "../../secret/words", "hub/model/notes.txt" },
    };
    enum { N = sizeof elsewhere / sizeof *elsewhere };
    for (int i = 0; i < N; i++)
        link_to(elsewhere[i][0], elsewhere[i][1]);
    assert_int_equal(mkfifo(in_dir("hub/model/LICENSE.pipe"), 0600), 0);
    if (convert(in_dir("hub/model"), in_dir("hub/copy"), NULL, &err))
        fail_msg("%s", err.text);
    check_copy(test_source("testing/golden/odd/model"), in_dir("hub/copy"));
    static const char *const there[] = { "hub/copy/tokenizer/vocab.json", "hub/copy/LICENSE",
                                         "hub/copy/NOTICE",
                                         "hub/copy/scheduler/scheduler_config.json" };
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        assert_true(dr_is_file(in_dir(there[i])));
    for (int i = 0; i < N; i++) {
        snprintf(command, sizeof command, "hub/copy/%s", dr_path_base(elsewhere[i][1]));
        assert_int_equal(access(in_dir(command), F_OK), -1);
    }
    assert_int_equal(access(in_dir("hub/copy/LICENSE.pipe"), F_OK), -1);
    snprintf(command, sizeof command, "test -z \"$(find %s/hub/copy -type l)\"", test_dir());
    assert_int_equal(system(command), 0);
}

static void a_model_is_not_copied_into_itself(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    char command[600];
    snprintf(command, sizeof command, "cp -r %s %s/model && chmod -R u+w %s/model",
             test_source("testing/golden/odd/model"), test_dir(), test_dir());
    assert_int_equal(system(command), 0);
    link_to("model/vae", "way");
    static const char *const places[] = { "model/copy", "model/vae/copy", "way/copy",
                                          "model/unet/../copy" };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        assert_int_equal(convert(in_dir("model"), in_dir(places[i]), NULL, &err), DR_EINVAL);
        assert_non_null(strstr(err.text, "outside of the model's own folder"));
    }
    /* a component that lies elsewhere, with the copy in it: the copy has no copy of itself */
    snprintf(command, sizeof command, "cd %s && mv model/vae apart && ln -s ../apart model/vae",
             test_dir());
    assert_int_equal(system(command), 0);
    assert_int_equal(convert(in_dir("model"), in_dir("apart/copy"), NULL, &err), 0);
    assert_true(dr_is_file(in_dir("apart/copy/vae/config.json")));
    snprintf(command, sizeof command, "! ls %s/apart/copy/vae/ | grep -q copy", test_dir());
    assert_int_equal(system(command), 0);
}

/* ---- scales that are wrong ---- */

/* Replaces every `from` in the header by `to`, of the same length. */
static void patch(const char *path, const char *from, const char *to)
{
    struct dr_map map;
    struct dr_error err = { 0 };
    assert_int_equal(dr_map_open(&map, path, &err), 0);
    const char *at = memmem(map.data, map.size, from, strlen(from));
    assert_non_null(at);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, to, strlen(to), at - (const char *)map.data), strlen(to));
    close(fd);
    dr_map_close(&map);
}

static void must_refuse(const char *words)
{
    struct checkpoint *c = open_must(in_dir("narrow.safetensors"));
    struct weight_source s;
    struct dr_error err = { 0 };
    assert_int_equal(load(c, &s, &err), DR_EFORMAT);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    checkpoint_close(c);
}

static void make_narrow(void)
{
    struct dr_error err = { 0 };
    const char *path = in_dir("narrow.safetensors");
    unlink(path);
    sgm_save(&sgm_tiny, false, in_dir("wide.safetensors"));
    assert_int_equal(convert(in_dir("wide.safetensors"), path, NULL, &err), 0);
}

static void refuses_wrong_scales(void **state)
{
    (void)state;
    const char *path = in_dir("narrow.safetensors");
    make_narrow();
    patch(path, "weight_scale\"", "weight_scalf\"");
    must_refuse("without a scale");
    make_narrow();
    patch(path, "\"F32\"", "\"I32\"");
    must_refuse("scale of I32");
    static const float bad[] = { NAN, INFINITY, -1 };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) { /* the scales are the file's end */
        make_narrow();
        int fd = open(path, O_WRONLY);
        off_t end = lseek(fd, 0, SEEK_END);
        assert_int_equal(pwrite(fd, &bad[i], sizeof *bad, end - (off_t)sizeof *bad), sizeof *bad);
        close(fd);
        must_refuse("expected a finite one");
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(copies_of_single_files),
    cmocka_unit_test(copies_of_folders),
    cmocka_unit_test(copies_are_of_the_models_files),
    cmocka_unit_test(leaves_nothing_behind),
    cmocka_unit_test(nothing_that_came_meanwhile_is_harmed),
    cmocka_unit_test(links_bring_nothing_from_outside),
    cmocka_unit_test(a_model_is_not_copied_into_itself),
    cmocka_unit_test(refuses_wrong_scales),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
