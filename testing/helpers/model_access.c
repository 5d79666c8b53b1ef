/* model_access.c - see model_access.h. */
#include "testing/helpers/model_access.h"

#include <fcntl.h>
#include <unistd.h>

#include "models/checkpoint_impl.h"
#include "models/inspect_model.h"
#include "models/tokenizers/clip_internal.h"

int st_open(const char *path, struct safetensors *ret, struct dr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return dr_fail_errno(err, path, "open");
    int r = st_open_fd(fd, path, ret, err);
    close(fd);
    return r;
}

int checkpoint_open(const char *path, struct checkpoint **ret, struct dr_error *err)
{
    return checkpoint_open_in(NULL, path, NULL, ret, err);
}

int inspect_model(const char *path, const struct digest_options *digest, json_t **ret,
                  struct dr_error *err)
{
    return inspect_model_spec(&(struct model_spec){ .model = { path, NULL } }, digest, ret, err);
}

bool checkpoint_find(const struct checkpoint *c, enum component component, const char *name,
                     struct weight_source *ret)
{
    const struct tensor_entry *e = tensor_table_find(&c->tables[component], name);
    if (!e)
        return false;
    *ret = e->src;
    if (e->transpose && !e->copy)
        ret->data = NULL;
    return true;
}

bool checkpoint_has_tokenizer(const struct checkpoint *c, int which)
{
    return c->tokenizer[which];
}

static int count_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    int64_t *total = ctx, n;
    (void)p;
    (void)name;
    if (!shape_count(shape, &n))
        return DR_EINVAL;
    *total += n;
    return 0;
}

int64_t params_count(void *network, visit_fn visit)
{
    int64_t total = 0;
    struct visitor v = { .param = count_param, .ctx = &total };
    int r = visit(network, &v);
    return r ? r : total;
}

int tok_open_folder(const char *folder, struct tok **ret_tok, struct dr_error *err)
{
    struct model_files *model;
    int r = model_files_open(NULL, folder, &model, err);
    if (r)
        return r;
    r = model_files_is_folder(model) ? tok_open_files(model, "", NULL, ret_tok, err)
                                     : dr_fail(err, DR_ENOENT, "%s: no such folder", folder);
    model_files_close(model);
    return r;
}

const char *tok_spelling(const struct tok *tok, int32_t id)
{
    for (int32_t i = 0; i < tok->added.n; i++)
        if (tok->added.tokens[i].id == id)
            return tok->added.tokens[i].content;
    return bpe_spelling(&tok->bpe, id);
}
