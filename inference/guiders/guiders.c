/* guiders.c - see guiders.h. */
#include "inference/guiders/guiders.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "schedulers/scheduler_factory.h"

enum { PATH_BYTES = 96 };

#define X(name) extern const struct guider_info guider_##name;
#include "inference/guiders/guiders.def"
#undef X

static const struct guider_info *const all[] = {
#define X(name) &guider_##name,
#include "inference/guiders/guiders.def"
#undef X
};

enum { LINES = sizeof all / sizeof *all };

const struct guider_info *guider_at_line(int i)
{
    return i < LINES ? all[i] : NULL;
}

static int line_of(const struct guider_info *info)
{
    int i = 0;
    while (i < LINES && all[i] != info)
        i++;
    return i;
}

const struct guider_info *guider_find(const char *name)
{
    for (int i = 0; i < LINES; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}

/* ---- reading ---- */

static int fail_name(const char *path, const char *name, struct dr_error *err)
{
    const char *names[LINES];
    for (int i = 0; i < LINES; i++)
        names[i] = all[i]->name;
    return dr_fail_choice(err, DR_EINVAL, path, name, names, LINES);
}

/* Whether the guider takes a key of the field: its name, the part of the run, and its own. */
static bool takes(const struct guider_info *info, const char *key)
{
    if (!strcmp(key, "name") || !strcmp(key, "start") || !strcmp(key, "end"))
        return true;
    for (const struct guider_option *o = info->options; o && o->name; o++)
        if (!strcmp(o->name, key))
            return true;
    return info->text && !strcmp(info->text, key);
}

static int check_keys(const struct request *q, int item, const struct guider_info *info,
                      const char *path, struct dr_error *err)
{
    const struct field_info *key;
    for (int i = 0; (key = field_key(FIELD_guidance, i)); i++) {
        char full[PATH_BYTES], list[160] = "start, end";
        size_t used = strlen(list);
        if (!request_item_has(q, FIELD_guidance, item, key->name) || takes(info, key->name))
            continue;
        for (const struct guider_option *o = info->options; o && o->name && used < sizeof list; o++)
            used += (size_t)snprintf(list + used, sizeof list - used, ", %s", o->name);
        if (info->text && used < sizeof list)
            snprintf(list + used, sizeof list - used, ", %s", info->text);
        snprintf(full, sizeof full, "%s.%s", path, key->name);
        int r = dr_fail(err, DR_EINVAL, "%s: %s has no key %s (it has %s)", path, info->name,
                        key->name, list);
        if (err) {
            snprintf(err->path, sizeof err->path, "%s", full);
            snprintf(err->got, sizeof err->got, "%s", key->name);
            snprintf(err->expected, sizeof err->expected, "%s", list);
        }
        return r;
    }
    return 0;
}

static int read_option(const struct request *q, int item, const struct guider_option *o,
                       const char *path, double *ret, struct dr_error *err)
{
    char full[PATH_BYTES], got[32], expected[80];
    *ret = o->dflt;
    if (!request_item_has(q, FIELD_guidance, item, o->name))
        return 0;
    *ret = request_item_real(q, FIELD_guidance, item, o->name);
    if (*ret >= o->lo && *ret <= o->hi && (!o->whole || *ret == floor(*ret)))
        return 0;
    snprintf(full, sizeof full, "%s.%s", path, o->name);
    snprintf(got, sizeof got, "%.9g", *ret);
    snprintf(expected, sizeof expected, "%s from %.9g to %.9g",
             o->whole ? "an integer" : "a number", o->lo, o->hi);
    return dr_fail_field(err, DR_EINVAL, full, got, expected, NULL);
}

static int read_text(const struct request *q, int item, const char *path, struct guider *g,
                     struct dr_error *err)
{
    char full[PATH_BYTES];
    const char *key = g->info->text;
    if (!key)
        return 0;
    snprintf(full, sizeof full, "%s.%s", path, key);
    bool given = request_item_has(q, FIELD_guidance, item, key);
    if (!given && !g->info->text_dflt)
        return dr_fail_field(err, DR_EINVAL, full, "nothing", "a text", g->info->text_help);
    const char *text = given ? request_item_text(q, FIELD_guidance, item, key) : g->info->text_dflt;
    if (strlen(text) >= sizeof g->text)
        return dr_fail_field(err, DR_ELIMIT, full, "a longer text", "at most 255 bytes", NULL);
    snprintf(g->text, sizeof g->text, "%s", text);
    return g->info->read ? g->info->read(g, full, err) : 0;
}

static int read_one(const struct request *q, int item, const char *path, struct guider *g,
                    struct dr_error *err)
{
    const char *name = request_item_text(q, FIELD_guidance, item, "name");
    *g = (struct guider){ .info = guider_find(name) };
    if (!g->info)
        return fail_name(path, name, err);
    int r = check_keys(q, item, g->info, path, err);
    g->start = request_item_real(q, FIELD_guidance, item, "start");
    g->end = request_item_real(q, FIELD_guidance, item, "end");
    if (!r && g->start >= g->end) {
        char full[PATH_BYTES], got[32], expected[48];
        snprintf(full, sizeof full, "%s.end", path);
        snprintf(got, sizeof got, "%.9g", g->end);
        snprintf(expected, sizeof expected, "more than start, %.9g", g->start);
        r = dr_fail_field(err, DR_EINVAL, full, got, expected, NULL);
    }
    for (int i = 0; !r && g->info->options && g->info->options[i].name; i++)
        r = read_option(q, item, &g->info->options[i], path, &g->option[i], err);
    return r ? r : read_text(q, item, path, g, err);
}

/* Puts it in its place among the others. */
static int add(struct guiders *list, const struct guider *g, const char *path, struct dr_error *err)
{
    int at = list->n;
    for (int i = 0; i < list->n; i++) {
        const struct guider_info *other = list->item[i].info;
        if (other == g->info)
            return dr_fail_field(err, DR_EINVAL, path, g->info->name, "each guider once", NULL);
        if (other->alone && g->info->alone)
            return dr_fail_field(err, DR_EINVAL, path, g->info->name, "one such guider",
                                 "it and an earlier one both replace the formula of guidance");
    }
    for (; at > 0 && line_of(list->item[at - 1].info) > line_of(g->info); at--)
        list->item[at] = list->item[at - 1];
    list->item[at] = *g;
    list->n++;
    return 0;
}

int guiders_read(const struct request *q, struct guiders *ret, struct dr_error *err)
{
    int n = request_count(q, FIELD_guidance), r = 0;
    ret->n = 0;
    for (int i = 0; !r && i < n; i++) {
        char path[32];
        struct guider g;
        snprintf(path, sizeof path, "guidance[%d]", i);
        r = read_one(q, i, path, &g, err);
        if (!r)
            r = add(ret, &g, path, err);
    }
    return r;
}

int guiders_bind(struct guiders *g, const struct unet *u, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; i < g->n; i++)
        if (g->item[i].info->freeu)
            g->item[i].info->freeu(&g->item[i], &g->freeu.freeu);
    for (int i = 0; !r && i < g->n; i++) {
        struct guider *one = &g->item[i];
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "guidance.%s.%s", one->info->name,
                 one->info->text ? one->info->text : "");
        one->changes[0].self.kind = one->info->self;
        if (one->info->row)
            r = unet_places(u, path, one->text, &one->changes[0].self, err);
        one->changes[1] = one->changes[0];
        one->changes[1].freeu = g->freeu.freeu;
    }
    return r;
}

const struct unet_changes *guiders_changes(const struct guiders *g, const struct guider *one,
                                           const struct sched_ask *ask)
{
    bool freeu = false;
    for (int i = 0; i < g->n; i++)
        freeu = freeu || (g->item[i].info->freeu && guider_acts(&g->item[i], ask));
    return one ? &one->changes[freeu] : freeu ? &g->freeu : NULL;
}

/* ---- the run ---- */

static void bounds(const struct guider *g, int steps, int *ret_first, int *ret_end)
{
    *ret_first = (int)(g->start * steps);
    *ret_end = (int)(g->end * steps);
}

bool guider_acts(const struct guider *g, const struct sched_ask *ask)
{
    int first, end;
    bounds(g, ask->steps, &first, &end);
    return !ask->steps || (ask->step >= first && ask->step < end);
}

static int fail_guider(const struct guider *g, const char *got, const char *expected,
                       const char *hint, struct dr_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "guidance.%s", g->info->name);
    return dr_fail_field(err, DR_EINVAL, path, got, expected, hint);
}

static int check_range(const struct guider *g, const struct sched_config *sched, int steps,
                       struct dr_error *err)
{
    char got[64], expected[64];
    int first, end;
    bool ranged = g->start > 0 || g->end < 1 || g->n_points;
    snprintf(got, sizeof got, "start %.9g, end %.9g", g->start, g->end);
    if (ranged && !sched_count(sched))
        return fail_guider(g, g->n_points ? g->text : got, "no part of the run",
                           "this sampler decides while it runs how many steps there are", err);
    bounds(g, steps, &first, &end);
    snprintf(expected, sizeof expected, "some of the %d steps between them", steps);
    return first < end ? 0 : fail_guider(g, got, expected, NULL, err);
}

int guiders_check(const struct guiders *g, const struct sched_config *sched, int first_step,
                  bool on, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < g->n; i++)
        r = check_range(&g->item[i], sched, sched->steps - first_step, err);
    for (int i = 0; !r && i < g->n && !on; i++)
        if (!g->item[i].info->row && !g->item[i].info->freeu)
            r = fail_guider(&g->item[i], "a guidance scale of 1 or less", "more than 1",
                            "without classifier-free guidance it has nothing to act on", err);
    return r;
}

/* ---- saying what there is ---- */

static int add_keys(json_t *o, const struct guider *g)
{
    int r = jx_set(o, "name", json_string(g->info->name));
    for (int i = 0; !r && g->info->options && g->info->options[i].name; i++)
        r = jx_set(o, g->info->options[i].name, json_real(g->option[i]));
    if (!r && g->info->text)
        r = jx_set(o, g->info->text, json_string(g->text));
    if (!r)
        r = jx_set(o, "start", json_real(g->start));
    return r ? r : jx_set(o, "end", json_real(g->end));
}

json_t *guiders_json(const struct guiders *g)
{
    json_t *list = json_array();
    for (int i = 0; list && i < g->n; i++) {
        json_t *o = json_object();
        int r = add_keys(o, &g->item[i]);
        if (!r)
            r = jx_add(list, json_incref(o));
        json_decref(o);
        if (r < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* "apg,eta=0,momentum=-0.5,norm=15; interval,start=0.2" */
int guiders_text(const struct guiders *g, struct buf *dst)
{
    int r = 0;
    for (int i = 0; !r && i < g->n; i++) {
        const struct guider *one = &g->item[i];
        r = buf_printf(dst, "%s%s", i ? "; " : "", one->info->name);
        for (int k = 0; !r && one->info->options && one->info->options[k].name; k++)
            r = buf_printf(dst, ",%s=%.9g", one->info->options[k].name, one->option[k]);
        if (!r && one->info->text)
            r = buf_printf(dst, ",%s=%s", one->info->text, one->text);
        if (!r && one->start > 0)
            r = buf_printf(dst, ",start=%.9g", one->start);
        if (!r && one->end < 1)
            r = buf_printf(dst, ",end=%.9g", one->end);
    }
    return r;
}

static json_t *options_json(const struct guider_info *info)
{
    json_t *array = json_array();
    for (const struct guider_option *o = info->options; array && o && o->name; o++)
        if (jx_add(array, json_pack("{s:s,s:f,s:f,s:f,s:b,s:s}", "name", o->name, "minimum", o->lo,
                                    "maximum", o->hi, "default", o->dflt, "integer", o->whole,
                                    "help", o->help)) < 0) {
            json_decref(array);
            return NULL;
        }
    if (array && info->text &&
        jx_add(array, json_pack("{s:s,s:s,s:s?}", "name", info->text, "help", info->text_help,
                                "default", info->text_dflt)) < 0) {
        json_decref(array);
        return NULL;
    }
    return array;
}

json_t *guiders_list_json(void)
{
    json_t *array = json_array();
    for (int i = 0; array && i < LINES; i++) {
        const struct guider_info *g = all[i];
        if (jx_add(array, json_pack("{s:s,s:s,s:s,s:s?,s:[],s:o}", "name", g->name, "title",
                                    g->title, "paper", g->paper, "diffusers", g->diffusers,
                                    "aliases", "options", options_json(g))) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
