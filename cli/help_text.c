/* help_text.c - see help_text.h. */
#include "cli/help_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/words.h"
#include "cli/report.h"
#include "cli/settings.h"

enum { OPTION_COLUMN = 27, VERB_COLUMN = 14, NAME_COLUMNS = 23, LEFT_BYTES = 96 };

const struct help_place help_files[] = {
    { "$XDG_CONFIG_HOME/darkroom/config.yaml",
      "configuration (~/.config/darkroom/config.yaml without the variable)" },
    { "$XDG_CACHE_HOME/darkroom/",
      "cache: packed weights, model digests (~/.cache/darkroom/ without the variable); safe to "
      "delete" },
    { NULL, NULL },
};

const struct help_place help_variables[] = {
    { "DARKROOM_MODELS", "folders, with ':' between, in which models are looked for by name" },
#define KIND(name, word, variable, others, help) { variable, "the same for " help " alone" },
#include "core/communication/model_folders.def"
#undef KIND
    { "DARKROOM_SHARE", "folder of the shipped files (default: share/ found from the program)" },
    { "DARKROOM_WORKER", "worker program (default: darkroom-worker beside this one)" },
    { "DARKROOM_LOG", "what the worker logs: error, warn (default), info, debug, off" },
    { "NO_COLOR", "if set, no colours" },
    { NULL, NULL },
};

const struct help_place help_statuses[] = {
    { "0", "success" },
    { "1", "failure" },
    { "2", "the command line, the configuration or a value is wrong" },
    { "130", "interrupted" },
    { NULL, NULL },
};

const struct help_place help_examples[] = {
    { "darkroom generate -p \"a red circle left of a blue square\" -o picture.png",
      "one picture by the shipped small model" },
    { "darkroom generate -m sdxl.safetensors -p \"a lighthouse at dusk\" -n \"people, text\" "
      "--steps 28 --cfg 6 --sampler \"DPM++ 2M Karras\" -W 1216 -H 832 -s 42",
      "a wide picture by a checkpoint of your own, always the same one" },
    { "darkroom generate -m sdxl.safetensors -p \"a lighthouse at dusk\" -b 4 --format webp -o "
      "pictures/",
      "four pictures with seeds that follow each other, into a folder" },
    { NULL, NULL },
};

const char help_configuration[] =
    "Options that you use every time go into the configuration, "
    "one a line (\"steps: 25\"); the command line wins. darkroom help "
    "config lists the keys and shows an example.";

/* Options of generate by heading. */
static const struct {
    const char *heading, *names;
} groups[] = {
    { "Prompt", "model prompt prompt-2 negative negative-2 from" },
    { "Changes of the model", "lora embedding" },
    { "Picture", "width height tile seed batch count" },
    { "Picture to begin with", "image strength resize mask" },
    { "Sampling",
      "recipe steps cfg cfg-rescale guidance sampler schedule scheduler spacing timesteps sigmas "
      "eta clip-skip rng preset" },
    { "SDXL size conditioning", "original-size target-size crop" },
    { "Output", "output format quality no-metadata json quiet" },
    { "Machine", "threads precision kernels vae-tiling config" },
    { "Debugging", "dump-stages load-stage help" },
};

static const char other[] = "Other";

const char *help_group_at(int i)
{
    int n = (int)(sizeof groups / sizeof *groups);
    return i < n ? groups[i].heading : i == n ? other : NULL;
}

const char *help_group(const struct option_info *o)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (word_in(groups[i].names, ' ', o->name))
            return groups[i].heading;
    return other;
}

/* Appends words from column `at` on, broken before `width`; further lines are indented. Ends the
 * line. */
static int put_wrapped(struct buf *out, const char *text, int at, int indent, int width)
{
    int column = at, r = 0;
    while (!r && *text && *text != '\n') {
        int n = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + n > width) {
            r = buf_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > at || (column > indent)) {
            r = buf_putc(out, ' ');
            column++;
        }
        if (!r)
            r = buf_append(out, text, (size_t)n);
        column += n;
        text += n;
        text += strspn(text, " ");
    }
    return r ? r : buf_putc(out, '\n');
}

/* Paragraphs, an empty line between them. */
static int put_paragraphs(struct buf *out, const char *text, int width)
{
    int r = 0;
    while (!r && *text) {
        r = *text == '\n' ? buf_putc(out, '\n') : put_wrapped(out, text, 0, 0, width);
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return r;
}

static int put_row(struct buf *out, const char *left, const char *right, int column, int width)
{
    int n = (int)strlen(left);
    int r = buf_printf(out, *right ? "  %s" : "  %s\n", left);
    if (!*right)
        return r;
    if (!r)
        r = n + 4 > column ? buf_printf(out, "\n%*s", column, "")
                           : buf_printf(out, "%*s", column - n - 2, "");
    return r ? r : put_wrapped(out, right, column, column, width);
}

int help_option(const struct option_info *o, struct buf *out)
{
    const char *rest = o->choices, *name;
    int r = buf_puts(out, o->help), n;
    if (!r && o->more)
        r = buf_puts(out, o->more);
    for (bool first = true; !r && (n = option_choice(&rest, &name)); first = false)
        r = buf_printf(out, "%s%.*s", first ? "; one of " : ", ", n, name);
    if (!r && *o->dflt && !strstr(o->help, "default"))
        r = buf_printf(out, " (default: %s)", o->dflt);
    return r;
}

static int put_option(struct buf *out, const struct option_info *o, int width)
{
    char left[LEFT_BYTES];
    struct buf help;
    snprintf(left, sizeof left, "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
             o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name, o->value ? " " : "",
             o->value ? o->value : "");
    buf_init(&help, DR_TAG_BASE, 0);
    int r = help_option(o, &help);
    if (!r)
        r = put_row(out, left, buf_text(&help), OPTION_COLUMN, width);
    buf_free(&help);
    return r;
}

static int put_places(struct buf *out, const char *title, const struct help_place *p, int width)
{
    int r = buf_printf(out, "\n%s:\n", title);
    for (; !r && p->name; p++)
        r = put_row(out, p->name, p->what, VERB_COLUMN + 4, width);
    return r;
}

static int put_group(struct buf *out, const char *heading, const struct option_info *options, int n,
                     int width)
{
    bool any = false;
    int r = 0;
    for (int i = 0; !r && i < n; i++) {
        if (strcmp(help_group(&options[i]), heading) != 0)
            continue;
        if (!any)
            r = buf_printf(out, "\n%s:\n", heading);
        any = true;
        if (!r)
            r = put_option(out, &options[i], width);
    }
    return r;
}

/* All options of generate under headings, then examples. */
static int put_groups(struct buf *out, const struct option_info *options, int n, int width)
{
    int r = 0;
    const char *heading;
    for (int i = 0; !r && (heading = help_group_at(i)); i++)
        r = put_group(out, heading, options, n, width);
    if (!r)
        r = buf_puts(
            out,
            "\ndarkroom help OPTION describes one of them (darkroom help cfg).\n\nexamples:\n");
    for (const struct help_place *e = help_examples; !r && e->name; e++) {
        r = buf_puts(out, "  ");
        if (!r)
            r = put_wrapped(out, e->name, 2, 6, width);
        if (!r)
            r = buf_puts(out, "      ");
        if (!r)
            r = put_wrapped(out, e->what, 6, 6, width);
    }
    return r;
}

int help_verb(const struct cli_verb *verb, int width, struct buf *out)
{
    struct option_info options[CLI_OPTIONS];
    bool drawing = verb == &cli_generate, like = verb->request && !drawing;
    int n = verb->raw ? 0 : cli_options(verb, options);
    int r = buf_printf(out, "usage: darkroom %s%s%s%s\n%s\n", verb->name,
                       *verb->synopsis ? " " : "", verb->synopsis,
                       verb->raw || verb->request ? "" : " [OPTION]...", verb->summary);
    if (!r && drawing)
        r = put_groups(out, options, n, width);
    if (!r && n && !drawing)
        r = buf_puts(out, "\noptions:\n");
    for (int i = 0; !r && i < n && !drawing; i++)
        if (!like || options[i].id >= FIELD_COUNT)
            r = put_option(out, &options[i], width);
    if (!r && like)
        r = buf_puts(out, "and those of a picture, as for generate: darkroom help generate\n");
    if (!r && verb->notes)
        r = buf_putc(out, '\n');
    return r || !verb->notes ? r : put_paragraphs(out, verb->notes, width);
}

/* "0 to 1 (1)", "phi_1 or phi_2 (phi_1)", or "" where neither a range nor words are said. */
static void option_range(const json_t *o, char *dst, size_t n)
{
    const json_t *choices = json_object_get(o, "choices"), *choice;
    double dflt = json_number_value(json_object_get(o, "default"));
    size_t i, used = 0;
    dst[0] = '\0';
    if (json_object_get(o, "minimum") && !json_array_size(choices))
        snprintf(dst, n, "%.9g to %.9g (%.9g)", json_number_value(json_object_get(o, "minimum")),
                 json_number_value(json_object_get(o, "maximum")), dflt);
    json_array_foreach(choices, i, choice)
    {
        if (used < n)
            used += (size_t)snprintf(dst + used, n - used, "%s%s", i ? " or " : "",
                                     json_string_value(choice));
    }
    if (json_array_size(choices) && used < n)
        snprintf(dst + used, n - used, " (%s)",
                 json_string_value(json_array_get(choices, (size_t)dflt)));
}

/* A row for each thing that an item can be given: "  eta  0 to 1 (1): noise that is fresh". */
static int put_item_options(const json_t *item, int width, struct buf *out)
{
    size_t i;
    json_t *o;
    char name[64], range[120], what[300];
    int r = 0;
    json_array_foreach(json_object_get(item, "options"), i, o)
    {
        snprintf(name, sizeof name, "  ,%s=", json_string_value(json_object_get(o, "name")));
        option_range(o, range, sizeof range);
        snprintf(what, sizeof what, "%s%s%s", range, *range ? ": " : "",
                 json_string_value(json_object_get(o, "help")));
        if (!r)
            r = put_row(out, name, what, VERB_COLUMN + 6, width);
    }
    return r;
}

/* ": checkpoint, unet or lora; euler, trailing, 4 steps, cfg 1; licence OpenRAIL++" */
static int put_recipe(const json_t *item, struct buf *out)
{
    const json_t *files = json_object_get(item, "files"), *eta = json_object_get(item, "eta");
    const char *spacing = json_string_value(json_object_get(item, "spacing"));
    const char *timesteps = json_string_value(json_object_get(item, "timesteps"));
    json_int_t size = json_integer_value(json_object_get(item, "size"));
    size_t i, n = json_array_size(files);
    json_t *file;
    int r = buf_puts(out, ": ");
    json_array_foreach(files, i, file)
    {
        if (!r)
            r = buf_printf(out, "%s%s",
                           !i          ? ""
                           : i + 1 < n ? ", "
                                       : " or ",
                           json_string_value(file));
    }
    if (!r)
        r = buf_printf(out, "; %s", jx_text(item, "sampler"));
    if (!r && spacing)
        r = buf_printf(out, ", %s", spacing);
    if (!r && timesteps)
        r = buf_printf(out, ", timesteps %s", timesteps);
    else if (!r)
        r = buf_printf(out, ", %d steps", (int)json_integer_value(json_object_get(item, "steps")));
    if (!r)
        r = buf_printf(out, ", cfg %.9g",
                       json_number_value(json_object_get(item, "guidance_scale")));
    if (!r && json_is_number(eta))
        r = buf_printf(out, ", eta %.9g", json_number_value(eta));
    if (!r && size)
        r = buf_printf(out, ", %dx%d", (int)size, (int)size);
    return r ? r : buf_printf(out, "; licence %s", jx_text(item, "licence"));
}

/* "DPM++ 2M; also dpm++2m, DPMSolverMultistep" */
static int put_item_words(const struct list_info *list, const json_t *item, struct buf *out)
{
    size_t i;
    json_t *alias;
    const char *title = json_string_value(json_object_get(item, "title"));
    const char *what = list_words(list, list_item_name(item));
    bool unusable = json_is_false(json_object_get(item, "usable"));
    int r = title ? buf_puts(out, title) : 0;
    if (!r && *what)
        r = buf_printf(out, "%s%s", title ? ": " : "", what);
    if (!r && unusable)
        r = buf_printf(out, "%snot on this processor", *what ? "; " : "");
    if (!r && json_object_get(item, "licence"))
        r = put_recipe(item, out);
    json_array_foreach(json_object_get(item, "aliases"), i, alias)
    {
        if (!r)
            r = buf_printf(out, "%s%s", i ? ", " : "; also ", json_string_value(alias));
    }
    return r;
}

int help_list(const struct list_info *list, const json_t *items, int width, struct buf *out)
{
    int r = put_paragraphs(out, list->about, width);
    if (!r)
        r = buf_putc(out, '\n');
    return r ? r : help_items(list, items, width, out);
}

int help_items(const struct list_info *list, const json_t *items, int width, struct buf *out)
{
    size_t i;
    json_t *item;
    int r = 0;
    json_array_foreach(items, i, item)
    {
        struct buf words;
        buf_init(&words, DR_TAG_BASE, 0);
        const char *name = list_item_name(item);
        if (!r && name)
            r = put_item_words(list, item, &words);
        if (!r && name)
            r = put_row(out, name, buf_text(&words), VERB_COLUMN + 6, width);
        if (!r)
            r = put_item_options(item, width, out);
        buf_free(&words);
    }
    return r;
}

/* Names and paths of files. */
static int put_shown_row(struct buf *out, const char *name, const char *path)
{
    int columns = *name ? NAME_COLUMNS - (int)strlen(name) : 0;
    int r = buf_puts(out, "  ");
    if (!r)
        r = report_put(out, name);
    if (!r)
        r = buf_printf(out, "%*s%s", columns > 0 ? columns : 0, "", *name ? " " : "");
    return r ? r : report_put(out, path);
}

int help_models(const json_t *answer, int width, struct buf *out)
{
    size_t i;
    json_t *item;
    int r = put_paragraphs(out,
                           "-m takes the path of a checkpoint file (.safetensors) or diffusers "
                           "folder, or a name: of a file, with or without .safetensors, or of a "
                           "diffusers folder, in one of the folders below. models in the "
                           "configuration and the variable DARKROOM_MODELS add folders; `darkroom "
                           "models` also lists LoRAs, embeddings and parts.\n",
                           width);
    if (!r)
        r = buf_puts(out, "\nfolders:\n");
    json_array_foreach(json_object_get(answer, "folders"), i, item)
    {
        bool exists = json_is_true(json_object_get(item, "exists"));
        if (!r)
            r = put_shown_row(out, "", json_string_value(json_object_get(item, "path")));
        if (!r)
            r = buf_puts(out, exists ? "\n" : " (does not exist)\n");
    }
    if (!r)
        r = buf_puts(out, "\nnames:\n");
    json_array_foreach(json_object_get(answer, "models"), i, item)
    {
        if (!r)
            r = put_shown_row(out, json_string_value(json_object_get(item, "name")),
                              json_string_value(json_object_get(item, "path")));
        if (!r)
            r = buf_putc(out, '\n');
    }
    return r;
}

int help_aliases(const struct option_info *o, struct buf *out)
{
    const char *state = NULL, *name;
    int r = 0;
    for (int n; !r && (n = option_alias(o, &state, &name));) {
        r = buf_puts(out, " --");
        for (int i = 0; !r && i < n; i++)
            r = buf_putc(out, name[i] == '_' ? '-' : name[i]);
    }
    return r;
}

int help_config(int width, struct buf *out)
{
    struct option_info keys[SETTINGS_KEYS];
    char path[DR_PATH_MAX] = "~/.config/darkroom/config.yaml";
    int n = settings_keys(keys);
    (void)dr_config_path(path, sizeof path, "config.yaml", NULL);
    int r = buf_printf(out, "The configuration is %s, or the file of --config.\n\n", path);
    if (!r)
        r = put_paragraphs(
            out,
            "One \"key: value\" a line (YAML). Keys are long names of options of "
            "generate, other programs' names included; the command line wins. \"~/\" "
            "is the home folder, other relative paths begin at the folder of the "
            "file. A mistake stops verbs that draw; for others it is a warning "
            "unless they use the value.\n\nkeys:\n",
            width);
    for (int i = 0; !r && i < n; i++) {
        struct option_info key = keys[i];
        char left[LEFT_BYTES];
        struct buf help;
        key.choices = key.choices ? key.choices : "";
        key.dflt = key.dflt ? key.dflt : "";
        snprintf(left, sizeof left, "%s: %s", key.name, key.value ? key.value : "");
        buf_init(&help, DR_TAG_BASE, 0);
        r = help_option(&key, &help);
        if (!r)
            r = put_row(out, left, buf_text(&help), OPTION_COLUMN, width);
        buf_free(&help);
    }
    return r ? r
             : buf_puts(out, "\nexample:\n"
                             "  # models, and the one to use\n"
                             "  models: ~/models:/data/models\n"
                             "  model: sd_xl_base_1.0\n"
                             "  # how pictures are drawn\n"
                             "  steps: 28\n"
                             "  cfg: 6\n"
                             "  sampler: DPM++ 2M Karras\n"
                             "  # where they go\n"
                             "  output: ~/pictures/\n"
                             "  format: webp\n"
                             "  metadata: true\n"
                             "  # this machine\n"
                             "  threads: 8\n"
                             "  cache-limit: 64G\n");
}

/* "1 to 16"; nothing if it is not a number. */
static int put_bounds(const struct field_info *f, struct buf *out)
{
    if (f->type == FIELD_TYPE_SEED)
        return buf_puts(out, "  range -1 to 2^64-1\n");
    if (f->type != FIELD_TYPE_INT && f->type != FIELD_TYPE_REAL)
        return 0;
    int r = buf_printf(out, "  range %" PRId64 " to %" PRId64, f->lo, f->hi);
    if (!r && *f->unit)
        r = buf_printf(out, " %s", f->unit);
    return r ? r : buf_putc(out, '\n');
}

int help_key(const struct field_info *key, struct buf *out)
{
    int r = buf_puts(out, key->help);
    if (!r && (key->type == FIELD_TYPE_INT || key->type == FIELD_TYPE_REAL))
        r = buf_printf(out, " (%" PRId64 " to %" PRId64 "%s%s)", key->lo, key->hi,
                       *key->dflt ? ", default: " : "", key->dflt);
    for (const char *p = key->aliases; !r && *p;) {
        int n = (int)strcspn(p, " ");
        r = buf_printf(out, "%s%.*s", p == key->aliases ? ". Also " : " ", n, p);
        p += n;
        p += *p == ' ';
    }
    return r;
}

/* The keys of a list's values. */
static int put_keys(enum field_id id, int width, struct buf *out)
{
    const struct field_info *key;
    struct buf text;
    int r = field_key(id, 0) ? buf_puts(out, "  keys\n") : 0;
    for (int i = 0; !r && (key = field_key(id, i)); i++) {
        buf_init(&text, DR_TAG_BASE, 0);
        r = help_key(key, &text);
        if (!r)
            r = put_row(out, key->name, buf_text(&text), OPTION_COLUMN, width);
        buf_free(&text);
    }
    return r;
}

int help_field(const struct option_info *o, int width, struct buf *out)
{
    struct buf also;
    int r = put_option(out, o, width);
    buf_init(&also, DR_TAG_BASE, 0);
    if (!r)
        r = help_aliases(o, &also);
    if (!r && o->id < FIELD_COUNT)
        r = put_bounds(field_info((enum field_id)o->id), out);
    if (!r && also.len)
        r = buf_printf(out, "  also  %s\n", buf_text(&also) + 1);
    if (!r && o->id < FIELD_COUNT)
        r = buf_printf(out, "  JSON  %s\n", field_info((enum field_id)o->id)->name);
    if (!r && o->id < FIELD_COUNT)
        r = put_keys((enum field_id)o->id, width, out);
    buf_free(&also);
    return r;
}

int help_overview(int width, struct buf *out)
{
    const struct cli_verb *verb;
    const struct list_info *list;
    int r = buf_puts(
        out, "usage: darkroom VERB [OPTION]...\nDraw pictures from text with SDXL models.\n"
             "\n  darkroom generate -p \"a red circle left of a blue square\" -o picture.png\n"
             "\nverbs:\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++)
        r = put_row(out, verb->name, verb->summary, VERB_COLUMN, width);
    if (!r)
        r = buf_puts(out, "\ndarkroom help VERB describes one of them.\n"
                          "\ntopics:\n");
    for (int i = 0; !r && (list = list_at(i)); i++)
        r = put_row(out, list->name, list->summary, VERB_COLUMN, width);
    if (!r)
        r = buf_puts(out, "\ndarkroom help TOPIC or OPTION (such as cfg) describes one of them.\n");
    if (!r)
        r = put_places(out, "variables", help_variables, width);
    if (!r)
        r = put_places(out, "files", help_files, width);
    if (!r)
        r = put_places(out, "exit status", help_statuses, width);
    if (!r)
        r = buf_putc(out, '\n');
    return r ? r : put_paragraphs(out, help_configuration, width);
}
