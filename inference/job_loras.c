/* job_loras.c - see job_loras.h. */
#include "inference/job_loras.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "models/adapters/unet_blocks.h"
#include "models/unet.h"

/* ---- opening ---- */

static const char *stem(struct job *job, const char *path)
{
    static const char extension[] = ".safetensors"; /* the one that a name is completed by */
    const char *base = dr_path_base(path);
    size_t n = strlen(base), skip = sizeof extension - 1;
    if (n > skip && !strcasecmp(base + n - skip, extension))
        n -= skip;
    char *name = arena_strndup(&job->arena, base, n);
    for (size_t at; name && (at = utf8_valid_prefix(name, strlen(name))) < strlen(name);)
        name[at] = '?'; /* receipts are UTF-8 */
    return name;
}

static int take_keys(const struct request *q, int i, struct job *job, const char *path,
                     struct job_lora *l, struct dr_error *err)
{
    const enum field_id id = FIELD_loras;
    l->strength = request_item_real(q, id, i, "strength");
    l->text_strength = request_item_has(q, id, i, "text_strength")
                           ? request_item_real(q, id, i, "text_strength")
                           : l->strength;
    l->start = request_item_real(q, id, i, "start");
    l->end = request_item_real(q, id, i, "end");
    l->blocks = arena_strdup(&job->arena, request_item_text(q, id, i, "blocks"));
    l->name = stem(job, path);
    return l->blocks && l->name ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for a LoRA");
}

static int check_span(const struct job *job, const struct job_lora *l, const char *field,
                      struct dr_error *err)
{
    char path[80], got[48];
    snprintf(path, sizeof path, "%s.end", field);
    snprintf(got, sizeof got, "%g", l->end);
    if (l->end <= l->start)
        return dr_fail_field(err, DR_EINVAL, path, got, "a number above start", NULL);
    if (job_evaluations(job) || (l->start <= 0 && l->end >= 1))
        return 0;
    snprintf(path, sizeof path, "%s.start", field);
    snprintf(got, sizeof got, "%g to %g", l->start, l->end);
    return dr_fail_field(err, DR_EINVAL, path, got, "0 to 1",
                         "this sampler chooses how many evaluations it makes while it runs");
}

static int check_digest(const struct request *q, int i, const struct job_lora *l, const char *field,
                        struct dr_error *err)
{
    char path[80];
    const char *wanted = request_item_text(q, FIELD_loras, i, "sha256");
    snprintf(path, sizeof path, "%s.sha256", field);
    return !*wanted || !strcasecmp(wanted, lora_file_digest(l->file))
               ? 0
               : dr_fail_field(err, DR_EINVAL, path, lora_file_digest(l->file), wanted,
                               "the file that was found is another one");
}

/* The file's changes of one network with their strengths. */
static int scale_part(struct job_lora *l, enum component component, const struct unet_arch *unet,
                      const double *blocks, struct dr_error *err)
{
    const struct weight_delta *deltas;
    size_t n = lora_file_deltas(l->file, component, &deltas);
    bool text = component != COMPONENT_UNET;
    struct weight_delta *list = dr_malloc(DR_TAG_MODEL, (n + 1) * sizeof *list);
    if (!list)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu changes of weights", n);
    for (size_t i = 0; i < n; i++) {
        int block = text ? 0 : unet_block_of(unet, deltas[i].param);
        double factor = text || block ? blocks[block] : 1; /* 1: in no block of the UNet */
        list[i] = deltas[i];
        list[i].strength = (text ? l->text_strength : l->strength) * factor;
    }
    l->part[component].list = list;
    l->part[component].n = n;
    return 0;
}

static int scale_all(struct job_lora *l, const struct unet_arch *unet, const char *field,
                     struct dr_error *err)
{
    double blocks[UNET_BLOCKS_MOST];
    char path[80];
    int r = 0;
    snprintf(path, sizeof path, "%s.blocks", field);
    for (int i = 0; i < UNET_BLOCKS_MOST; i++)
        blocks[i] = 1;
    if (*l->blocks)
        r = unet_block_strengths(unet, path, l->blocks, blocks, err);
    for (int c = 0; !r && c < COMPONENT_COUNT; c++)
        r = scale_part(l, (enum component)c, unet, blocks, err);
    return r;
}

/* Shapes of all changes, each LoRA by itself, so that an error can name it. */
static int check_shapes(const struct job_lora *l, const struct pipeline *p, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < p->n_networks; i++) {
        const struct pipeline_network *net = &p->networks[i];
        size_t n = l->part[net->component].n;
        const struct weight_delta **list = dr_malloc(DR_TAG_MODEL, (n + 1) * sizeof *list);
        if (!list)
            return dr_fail(err, DR_ENOMEM, "out of memory for %zu changes of weights", n);
        for (size_t k = 0; k < n; k++)
            list[k] = &l->part[net->component].list[k];
        const struct variant_spec spec = {
            .network = net->network, .visit = net->visit, .be = p->plan, .deltas = list, .n = n
        };
        struct variant_facts facts;
        r = weight_variant_check(&spec, &facts, err);
        dr_free(list);
    }
    return r;
}

/* An error about the file or a key of the LoRA. */
static int name_field(const char *field, const char *path, int r, struct dr_error *err)
{
    char text[sizeof err->text];
    if (!err || !strncmp(err->path, field, strlen(field)))
        return r;
    bool names_file = strstr(err->text, path) != NULL;
    snprintf(text, sizeof text, "%s: %.200s%s%.280s", field, names_file ? "" : path,
             names_file ? "" : ": ", err->text);
    snprintf(err->text, sizeof err->text, "%s", text);
    snprintf(err->path, sizeof err->path, "%s", field);
    return r;
}

static int open_one(const struct request *q, int i, const struct lora_place *place,
                    struct pipeline *p, const atomic_int *stop, struct job *job,
                    struct dr_error *err)
{
    struct adapter_network networks[PIPELINE_NETWORKS];
    struct job_lora *l = &job->loras->lora[i];
    const struct unet_arch *unet = unet_arch(p->unet);
    struct lora_model model = { .networks = networks, .unet = unet };
    char field[32];
    snprintf(field, sizeof field, "loras[%d]", i);
    for (int k = 0; k < p->n_networks; k++)
        if (p->networks[k].component != COMPONENT_VAE)
            networks[model.n++] = (struct adapter_network){ p->networks[k].component,
                                                            p->networks[k].network,
                                                            p->networks[k].visit };
    int r = take_keys(q, i, job, place->path, l, err);
    if (!r)
        r = lora_file_open(place->root.fd < 0 ? NULL : &place->root, place->path, &model, stop,
                           &l->file, err);
    if (!r)
        r = check_digest(q, i, l, field, err);
    if (!r)
        r = check_span(job, l, field, err);
    if (!r)
        r = scale_all(l, unet, field, err);
    if (!r)
        r = check_shapes(l, p, err);
    return r ? name_field(field, place->path, r, err) : 0;
}

int job_loras_open(const struct request *q, const struct lora_place *places, struct pipeline *p,
                   const atomic_int *stop, struct job *job, struct dr_error *err)
{
    int n = request_count(q, FIELD_loras), r = 0;
    if (!n)
        return 0;
    struct dr_tally *before = dr_tally_use(&job->tally);
    job->loras = dr_calloc(DR_TAG_MODEL, 1, sizeof *job->loras);
    if (!job->loras)
        r = dr_fail(err, DR_ENOMEM, "out of memory for LoRAs");
    for (int i = 0; !r && i < n; i++) {
        r = open_one(q, i, &places[i], p, stop, job, err);
        job->loras->n++;
    }
    dr_tally_use(before);
    return r;
}

void job_loras_close(struct job_loras *loras)
{
    if (!loras)
        return;
    for (int i = 0; i < loras->n; i++) {
        lora_file_close(loras->lora[i].file);
        for (int c = 0; c < COMPONENT_COUNT; c++)
            dr_free(loras->lora[i].part[c].list);
    }
    dr_free(loras);
}

int job_loras_count(const struct job *job)
{
    return job->loras ? job->loras->n : 0;
}

const char *job_loras_warning(const struct job *job, int i)
{
    return lora_file_warning(job->loras->lora[i].file);
}

int job_loras_check(const struct job *job, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < job_loras_count(job); i++)
        r = lora_file_check(job->loras->lora[i].file, err);
    return r;
}

/* ---- phases ---- */

/* The first evaluation at or after that fraction of the run. */
static int evaluation_at(const struct job *job, double fraction)
{
    return (int)ceil(fraction * job_evaluations(job) - 1e-6);
}

static bool acts(const struct job *job, const struct job_lora *l, int evaluation)
{
    if (!job_evaluations(job))
        return true; /* the whole run: nothing else is accepted */
    return evaluation >= evaluation_at(job, l->start) && evaluation < evaluation_at(job, l->end);
}

bool job_loras_idle(const struct job *job, int i)
{
    const struct job_lora *l = &job->loras->lora[i];
    int first = evaluation_at(job, l->start);
    return job_evaluations(job) && !acts(job, l, first);
}

static void add_first(int ret_first[LORA_PHASES], int *n, int at)
{
    int i = *n;
    for (int k = 0; k < *n; k++)
        if (ret_first[k] == at)
            return;
    for (; i > 0 && ret_first[i - 1] > at; i--)
        ret_first[i] = ret_first[i - 1];
    ret_first[i] = at;
    ++*n;
}

int job_loras_phases(const struct job *job, int ret_first[LORA_PHASES])
{
    int n = 0, all = job_evaluations(job);
    add_first(ret_first, &n, 0);
    for (int i = 0; all && i < job_loras_count(job); i++) {
        int start = evaluation_at(job, job->loras->lora[i].start),
            end = evaluation_at(job, job->loras->lora[i].end);
        if (start < all)
            add_first(ret_first, &n, start);
        if (end < all)
            add_first(ret_first, &n, end);
    }
    return n;
}

int job_loras_spec(const struct job *job, const struct pipeline_network *network, int evaluation,
                   struct backend *be, const atomic_int *stop, struct variant_spec *ret,
                   struct dr_error *err)
{
    size_t most = 0, n = 0;
    enum component part = network->component;
    for (int i = 0; i < job_loras_count(job); i++)
        most += job->loras->lora[i].part[part].n;
    const struct weight_delta **list = dr_malloc(DR_TAG_JOB, (most + 1) * sizeof *list);
    if (!list)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu changes of weights", most);
    for (int i = 0; i < job_loras_count(job); i++) {
        const struct job_lora *l = &job->loras->lora[i];
        bool on = part != COMPONENT_UNET || acts(job, l, evaluation);
        for (size_t k = 0; on && k < l->part[part].n; k++)
            list[n++] = &l->part[part].list[k];
    }
    *ret = (struct variant_spec){ .network = network->network,
                                  .visit = network->visit,
                                  .be = be,
                                  .deltas = list,
                                  .n = n,
                                  .stop = stop };
    return 0;
}
