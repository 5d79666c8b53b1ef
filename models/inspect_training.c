/* inspect_training.c - see inspect_training.h.
 *
 * Keys: kohya's sd-scripts (ss_*; "None" is Python's word for nothing), the ModelSpec of Stability
 * AI (modelspec.*), OneTrainer (ot_*), ai-toolkit (software, training_info).
 */
#include "models/inspect_training.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

enum { TEXT_BYTES = 400, WORD_BYTES = 100, WORDS = 20, TAGS_BYTES = 2 << 20, TAGS_MOST = 100000 };

static const struct {
    const char *name, *key;
} keys[] = {
    { "title", "modelspec.title" },
    { "title", "ss_output_name" },
    { "author", "modelspec.author" },
    { "base_model", "ss_sd_model_name" },
    { "base_model", "ss_base_model_version" },
    { "architecture", "modelspec.architecture" },
    { "architecture", "ss_base_model_version" },
    { "resolution", "ss_resolution" },
    { "resolution", "modelspec.resolution" },
    { "rank", "ss_network_dim" },
    { "alpha", "ss_network_alpha" },
    { "steps", "ss_steps" },
    { "steps", "ss_max_train_steps" },
    { "epochs", "ss_epoch" },
    { "images", "ss_num_train_images" },
    { "clip_skip", "ss_clip_skip" },
    { "prediction", "modelspec.prediction_type" },
    { "trigger_phrase", "modelspec.trigger_phrase" },
    { "usage_hint", "modelspec.usage_hint" },
    { "comment", "ss_training_comment" },
    { "description", "modelspec.description" },
    { "license", "modelspec.license" },
    { "date", "modelspec.date" },
};

/* A key that only that trainer writes. */
static const struct {
    const char *key, *trainer;
} trainers[] = {
    { "ot_branch", "OneTrainer" },
    { "ot_config", "OneTrainer" },
    { "ot_revision", "OneTrainer" },
    { "training_info", "ai-toolkit" },
    { "lora_adapter_metadata", "diffusers with peft" },
    { "ss_sd_scripts_commit_hash", "kohya sd-scripts" },
    { "ss_network_module", "kohya sd-scripts" },
};

/* NULL: it is not there, or Python's None. */
static const char *value_of(const struct st_header *h, const char *key)
{
    for (size_t i = 0; i < h->n_metadata; i++)
        if (!strcmp(h->metadata[i].key, key)) {
            const char *text = h->metadata[i].value;
            return *text && strcmp(text, "None") ? text : NULL;
        }
    return NULL;
}

/* A text of at most `most` bytes. */
static json_t *cut(const char *text, size_t most)
{
    size_t n = strlen(text);
    char buf[TEXT_BYTES + 4];
    if (n <= most)
        return json_string(text);
    n = utf8_valid_prefix(text, most);
    snprintf(buf, sizeof buf, "%.*s...", (int)n, text);
    return json_string(buf);
}

static int add_trainer(const struct st_header *h, json_t *t)
{
    char text[160];
    const char *module = value_of(h, "ss_network_module");
    for (size_t i = 0; i < sizeof trainers / sizeof *trainers; i++) {
        if (!value_of(h, trainers[i].key))
            continue;
        if (!module)
            return jx_set(t, "trainer", json_string(trainers[i].trainer));
        snprintf(text, sizeof text, "%s (%.80s)", trainers[i].trainer, module);
        return jx_set(t, "trainer", cut(text, sizeof text - 1));
    }
    const char *by = value_of(h, "modelspec.implementation");
    return by ? jx_set(t, "trainer", cut(by, TEXT_BYTES)) : 0;
}

static int add_texts(const struct st_header *h, json_t *t)
{
    int r = 0;
    for (size_t i = 0; !r && i < sizeof keys / sizeof *keys; i++) {
        const char *text = value_of(h, keys[i].key);
        if (text && !json_object_get(t, keys[i].name))
            r = jx_set(t, keys[i].name, cut(text, TEXT_BYTES));
    }
    return r;
}

/* ---- trigger words ---- */

static int note(json_t *t, const char *text)
{
    json_t *list = json_object_get(t, "notes");
    int r = 0;
    if (!list)
        r = jx_set(t, "notes", list = json_array());
    return r ? r : jx_add(list, json_string(text));
}

/* {"folder": {"tag": count}} as {"tag": count}, for all folders together. */
static int sum_tags(const json_t *folders, json_t *sum)
{
    const char *folder, *tag;
    json_t *tags, *n;
    int r = 0;
    json_object_foreach((json_t *)folders, folder, tags)
    {
        json_object_foreach(tags, tag, n)
        {
            json_int_t before = json_integer_value(json_object_get(sum, tag));
            json_int_t more = json_integer_value(n);
            if (!r && more > 0 && more < 1000000000)
                r = jx_set(sum, tag, json_integer(before + more));
        }
    }
    return r;
}

/* Takes the commonest out of the table; NULL: there is none. Of equals the first by its letters. */
static const char *commonest(const json_t *sum, json_int_t *ret_n)
{
    const char *best = NULL, *tag;
    json_t *n;
    json_object_foreach((json_t *)sum, tag, n)
    {
        json_int_t count = json_integer_value(n);
        if (!best || count > *ret_n || (count == *ret_n && strcmp(tag, best) < 0)) {
            best = tag;
            *ret_n = count;
        }
    }
    return best;
}

static int put_words(json_t *t, json_t *sum)
{
    json_t *list = json_array();
    const char *tag;
    json_int_t n = 0;
    int r = jx_set(t, "trigger_words", list);
    for (int i = 0; !r && i < WORDS && (tag = commonest(sum, &n)); i++) {
        r = jx_add(list, json_pack("{s:o,s:I}", "word", cut(tag, WORD_BYTES), "count", n));
        (void)json_object_del(sum, tag);
    }
    return r;
}

static int add_words(const struct st_header *h, json_t *t)
{
    static const struct jx_limits limits = { .bytes = TAGS_BYTES, .members = TAGS_MOST };
    static const char key[] = "ss_tag_frequency";
    struct dr_error why = { 0 };
    json_t *folders = NULL;
    const char *json = value_of(h, key);
    if (!json)
        return 0;
    int r = jx_parse(json, strlen(json), &limits, key, &folders, &why);
    if (r == DR_ENOMEM)
        return r;
    if (r || !json_is_object(folders)) {
        json_decref(folders);
        why.text[utf8_valid_prefix(why.text, strlen(why.text))] = '\0';
        return note(t, r ? why.text : "ss_tag_frequency: no JSON object");
    }
    json_t *sum = json_object();
    r = sum ? sum_tags(folders, sum) : DR_ENOMEM;
    if (!r && json_object_size(sum))
        r = put_words(t, sum);
    json_decref(sum);
    json_decref(folders);
    return r;
}

int inspect_training(const struct st_header *h, json_t *o)
{
    jx_init();
    json_t *t = json_object();
    int r = t ? add_trainer(h, t) : DR_ENOMEM;
    if (!r)
        r = add_texts(h, t);
    if (!r)
        r = add_words(h, t);
    if (!r && json_object_size(t))
        return jx_set(o, "training", t);
    json_decref(t);
    return r;
}
