/* doc_tables.c - the tables in docs/ that repeat a table of the program are written by the program.
 *
 *     doc_tables SOURCE           exits 1 and names each page whose tables are out of date
 *     doc_tables --write SOURCE   brings them up to date (`make docs`)
 *
 * In a page a table lies between two comments, which say which one:
 *
 *     <!-- table: errors -->
 *     ...
 *     <!-- end of table -->
 *
 * Fields, verbs, options and errors come from the .def files; samplers, schedules, presets and
 * kernel sets are what an engine answers to `capabilities`, as any host gets it.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/help_text.h"
#include "cli/lists.h"
#include "core/communication/message.h"
#include "core/communication/request.h"
#include "include/darkroom.h"

static const char begin_mark[] = "<!-- table: ", end_mark[] = "<!-- end of table -->";
static const char *const pages[] = { "docs/api_documentation.md", "docs/command_line.md",
                                     "docs/models.md", "docs/guidance.md", "docs/samplers.md" };

static json_t *capabilities; /* of an engine of this build */

static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("doc_tables: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

/* Words between separators as code: "a b" becomes "`a` `b`". */
static void put_words(FILE *out, const char *words, const char *separators)
{
    for (const char *p = words; *p;) {
        int n = (int)strcspn(p, separators);
        fprintf(out, "%s`%.*s`", p == words ? "" : " ", n, p);
        p += n;
        p += *p != '\0';
    }
}

/* Text of a cell: a bar would end it. */
static void put_cell(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void put_head(FILE *out, const char *const *columns)
{
    for (int i = 0; columns[i]; i++)
        fprintf(out, "| %s ", columns[i]);
    fputs("|\n", out);
    for (int i = 0; columns[i]; i++)
        fputs("|---", out);
    fputs("|\n", out);
}

static void put_values(FILE *out, const struct field_info *f)
{
    static const char *const kinds[] = {
        [FIELD_TYPE_TEXT] = "text",
        [FIELD_TYPE_INT] = "integer",
        [FIELD_TYPE_SEED] = "integer, -1 to 2^64-1",
        [FIELD_TYPE_REAL] = "number",
        [FIELD_TYPE_FLAG] = "boolean",
        [FIELD_TYPE_NAME] = "name",
        [FIELD_TYPE_SPEC] = "name with options",
        [FIELD_TYPE_SIZE] = "\"WxH\"",
        [FIELD_TYPE_PAIR] = "\"TOP,LEFT\"",
        [FIELD_TYPE_MAP] = "object of texts",
        [FIELD_TYPE_SPECS] = "array of names with keys",
        [FIELD_TYPE_NUMBERS] = "array of numbers",
    };
    if (f->type == FIELD_TYPE_CHOICE) {
        put_words(out, f->choices, "|");
        return;
    }
    if ((size_t)f->type >= sizeof kinds / sizeof *kinds || !kinds[f->type])
        die("%s: a type of field that this program does not know", f->name);
    fputs(kinds[f->type], out);
    if (f->type == FIELD_TYPE_INT || f->type == FIELD_TYPE_REAL)
        fprintf(out, ", %lld to %lld", (long long)f->lo, (long long)f->hi);
}

static void put_fields(FILE *out)
{
    put_head(out, (const char *const[]){ "field", "values", "default", "also", "meaning", NULL });
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        fprintf(out, "| `%s` | ", f->name);
        put_values(out, f);
        fputs(" | ", out);
        if (*f->dflt)
            fprintf(out, "`%s`", f->dflt);
        fputs(" | ", out);
        put_words(out, f->aliases, " ");
        fputs(" | ", out);
        put_cell(out, f->help);
        fputs(" |\n", out);
    }
}

/* Of fields whose values have keys. */
static void put_keys(FILE *out)
{
    put_head(out,
             (const char *const[]){ "field", "key", "values", "default", "also", "meaning", NULL });
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *key;
        for (int k = 0; (key = field_key((enum field_id)i, k)); k++) {
            fprintf(out, "| `%s` | `%s` | ", field_info((enum field_id)i)->name, key->name);
            put_values(out, key);
            fputs(" | ", out);
            if (*key->dflt)
                fprintf(out, "`%s`", key->dflt);
            fputs(" | ", out);
            put_words(out, key->aliases, " ");
            fputs(" | ", out);
            put_cell(out, key->help);
            fputs(" |\n", out);
        }
    }
}

static void put_verbs(FILE *out)
{
    static const char *const spellings[] = {
#define VERB(name, mode, words) words,
#include "core/communication/message_verbs.def"
#undef VERB
    };
    put_head(out, (const char *const[]){ "verb", "answered", "other spellings", NULL });
    for (int v = 0; v < VERB_COUNT; v++) {
        fprintf(out, "| `%s` | %s | ", verb_name((enum verb)v),
                verb_immediate((enum verb)v) ? "at once" : "in turn");
        put_words(out, spellings[v], " ");
        fputs(" |\n", out);
    }
}

static void put_errors(FILE *out)
{
    put_head(out, (const char *const[]){ "code", "value in C", "meaning", NULL });
#define X(name, value, wire, meaning)                                                              \
    fprintf(out, "| `%s` | `DARKROOM_%s` %d | %s |\n", wire, #name, value, meaning);
#include "base/errors.def"
#undef X
}

/* ["a", "b"] as `a` `b`. */
static void put_names(FILE *out, const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        fprintf(out, "%s`%s`", i ? " " : "", json_string_value(json_array_get(names, i)));
}

static const json_t *list_of(const char *key)
{
    const json_t *list = json_object_get(capabilities, key);
    if (!json_array_size(list))
        die("capabilities have no %s", key);
    return list;
}

/* "`eta` 0 to 1 (1), `r` 0.01 to 1 (0.5)" */
static void put_options(FILE *out, const json_t *options)
{
    for (size_t i = 0; i < json_array_size(options); i++) {
        const json_t *o = json_array_get(options, i), *choices = json_object_get(o, "choices");
        if (json_array_size(choices)) {
            size_t dflt = (size_t)json_number_value(json_object_get(o, "default"));
            fprintf(out, "%s`%s` ", i ? ", " : "", list_item_name(o));
            put_names(out, choices);
            fprintf(out, " (%s)", json_string_value(json_array_get(choices, dflt)));
            continue;
        }
        if (!json_object_get(o, "minimum")) { /* a text */
            fprintf(out, "%s`%s` %s", i ? ", " : "", list_item_name(o),
                    json_string_value(json_object_get(o, "help")));
            continue;
        }
        fprintf(out, "%s`%s` %.9g to %.9g (%.9g)", i ? ", " : "", list_item_name(o),
                json_number_value(json_object_get(o, "minimum")),
                json_number_value(json_object_get(o, "maximum")),
                json_number_value(json_object_get(o, "default")));
    }
}

static void put_samplers(FILE *out)
{
    const json_t *all = list_of("samplers");
    put_head(out, (const char *const[]){ "sampler", "title", "class in diffusers", "also",
                                         "options", NULL });
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const char *class = json_string_value(json_object_get(one, "diffusers"));
        fprintf(out, "| `%s` | %s | %s%s%s | ", list_item_name(one),
                json_string_value(json_object_get(one, "title")), class ? "`" : "",
                class ? class : "none", class ? "`" : "");
        put_names(out, json_object_get(one, "aliases"));
        fprintf(out, " | ");
        put_options(out, json_object_get(one, "options"));
        fprintf(out, " |\n");
    }
}

static void put_guiders(FILE *out)
{
    const json_t *all = list_of("guidance");
    put_head(out, (const char *const[]){ "guider", "what it is", "from", "class in diffusers",
                                         "options", NULL });
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i), *options = json_object_get(one, "options");
        const char *class = json_string_value(json_object_get(one, "diffusers"));
        fprintf(out, "| `%s` | %s | %s | %s | ", list_item_name(one),
                json_string_value(json_object_get(one, "title")),
                json_string_value(json_object_get(one, "paper")), class ? class : "none");
        put_options(out, options);
        fprintf(out, " |\n");
    }
}

static const struct list_info *list_named(const char *name)
{
    const struct list_info *list;
    for (int i = 0; (list = list_at(i)); i++)
        if (!strcmp(list->name, name))
            return list;
    die("no list %s", name);
    return NULL;
}

/* Schedules and presets: what the worker says of them, and the words of `darkroom help`. */
static void put_list(FILE *out, const char *name, const char *column)
{
    const struct list_info *list = list_named(name);
    const json_t *items = list_items(list, capabilities);
    if (!json_array_size(items))
        die("capabilities have no %s", name);
    put_head(out, (const char *const[]){ column, "also", "meaning", NULL });
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *one = json_array_get(items, i);
        fprintf(out, "| `%s` | ", list_item_name(one));
        put_names(out, json_object_get(one, "aliases"));
        fprintf(out, " | %s |\n", list_words(list, list_item_name(one)));
    }
}

static void put_schedules(FILE *out)
{
    const struct list_info *list = list_named("schedules");
    const json_t *items = list_of("schedules");
    put_head(out, (const char *const[]){ "schedule", "also", "meaning", "options", NULL });
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *one = json_array_get(items, i);
        fprintf(out, "| `%s` | ", list_item_name(one));
        put_names(out, json_object_get(one, "aliases"));
        fprintf(out, " | %s | ", list_words(list, list_item_name(one)));
        put_options(out, json_object_get(one, "options"));
        fprintf(out, " |\n");
    }
}

static void put_presets(FILE *out)
{
    put_list(out, "presets", "preset");
}

/* The words of a list: "checkpoint, unet, lora". */
static void put_joined(FILE *out, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        fprintf(out, "%s%s", i ? ", " : "", json_string_value(json_array_get(list, i)));
}

static void put_recipes(FILE *out)
{
    const json_t *all = list_of("recipes");
    put_head(out, (const char *const[]){ "recipe", "for", "file", "models", "sampler", "steps",
                                         "cfg", "size", "licence", NULL });
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const json_t *eta = json_object_get(one, "eta"), *size = json_object_get(one, "size");
        const char *spacing = json_string_value(json_object_get(one, "spacing"));
        const char *timesteps = json_string_value(json_object_get(one, "timesteps"));
        fprintf(out, "| `%s` | ", list_item_name(one));
        put_cell(out, jx_text(one, "title"));
        fputs(" | ", out);
        put_joined(out, json_object_get(one, "files"));
        fputs(" | ", out);
        put_joined(out, json_object_get(one, "families"));
        fprintf(out, " | `%s`%s%s", jx_text(one, "sampler"), spacing ? ", " : "",
                spacing ? spacing : "");
        if (json_is_number(eta))
            fprintf(out, ", eta %.9g", json_number_value(eta));
        fprintf(out, " | %d%s%s | %.9g | ", (int)json_integer_value(json_object_get(one, "steps")),
                timesteps ? ": timesteps " : "", timesteps ? timesteps : "",
                json_number_value(json_object_get(one, "guidance_scale")));
        if (json_is_integer(size))
            fprintf(out, "%dx%d", (int)json_integer_value(size), (int)json_integer_value(size));
        else
            fputs("the model's", out);
        fputs(" | ", out);
        put_cell(out, jx_text(one, "licence"));
        fputs(" |\n", out);
    }
}

static void put_kernel_sets(FILE *out)
{
    const struct list_info *list = list_named("kernels");
    const json_t *items = list_items(list, capabilities);
    if (!json_array_size(items))
        die("capabilities have no kernel sets");
    put_head(out, (const char *const[]){ "kernel set", "precision", "meaning", NULL });
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *one = json_array_get(items, i);
        fprintf(out, "| `%s` | `%s` | %s |\n", list_item_name(one),
                json_string_value(json_object_get(one, "precision")),
                list_words(list, list_item_name(one)));
    }
}

static void put_commands(FILE *out)
{
    const struct cli_verb *verb;
    put_head(out, (const char *const[]){ "command", "what it does", NULL });
    for (int i = 0; (verb = cli_verb_at(i)); i++) {
        fprintf(out, "| `darkroom %s%s", verb->name, *verb->synopsis ? " " : "");
        put_cell(out, verb->synopsis);
        fputs("` | ", out);
        put_cell(out, verb->summary);
        fputs(" |\n", out);
    }
}

/* "`-o` `--output PATH` | help": two cells. */
static void put_option(FILE *out, const struct option_info *o)
{
    struct buf help;
    buf_init(&help, DR_TAG_TEST, 0);
    if (help_option(o, &help) < 0)
        die("out of memory");
    if (o->letter)
        fprintf(out, "`-%c` ", o->letter);
    fprintf(out, "`--%s%s%s` | ", o->name, o->value ? " " : "", o->value ? o->value : "");
    put_cell(out, buf_text(&help));
    buf_free(&help);
}

static void put_aliases(FILE *out, const struct option_info *o)
{
    const char *state = NULL, *alias;
    for (int n, i = 0; (n = option_alias(o, &state, &alias)); i++) {
        fprintf(out, "%s`--", i ? " " : "");
        for (int k = 0; k < n; k++)
            fputc(alias[k] == '_' ? '-' : alias[k], out);
        fputc('`', out);
    }
}

/* The options of generate in the order of its help, under its headings. */
static void put_generate_options(FILE *out)
{
    struct option_info options[CLI_OPTIONS];
    int n = cli_options(&cli_generate, options);
    const char *heading;
    for (int g = 0; (heading = help_group_at(g)); g++) {
        bool any = false;
        for (int i = 0; i < n; i++) {
            if (strcmp(help_group(&options[i]), heading) != 0)
                continue;
            if (!any) {
                fprintf(out, "%s**%s**\n\n", g ? "\n" : "", heading);
                put_head(out, (const char *const[]){ "option", "meaning", "also", NULL });
            }
            any = true;
            fputs("| ", out);
            put_option(out, &options[i]);
            fputs(" | ", out);
            put_aliases(out, &options[i]);
            fputs(" |\n", out);
        }
    }
}

/* Options of the other verbs that generate does not have or that mean something else there. */
static void put_other_options(FILE *out)
{
    const struct cli_verb *verb;
    put_head(out, (const char *const[]){ "verb", "option", "meaning", NULL });
    for (int v = 0; (verb = cli_verb_at(v)); v++) {
        struct option_info options[CLI_OPTIONS];
        int n = verb->raw || verb == &cli_generate ? 0 : cli_options(verb, options);
        for (int i = 0; i < n; i++) {
            if (options[i].id == FIELD_COUNT + OPT_help ||
                (verb->request && options[i].id < FIELD_COUNT))
                continue;
            fprintf(out, "| `%s` | ", verb->name);
            put_option(out, &options[i]);
            fputs(" |\n", out);
        }
    }
}

static const struct {
    const char *name;
    void (*put)(FILE *out);
} tables[] = {
    { "fields", put_fields },
    { "keys", put_keys },
    { "verbs", put_verbs },
    { "errors", put_errors },
    { "samplers", put_samplers },
    { "schedules", put_schedules },
    { "guiders", put_guiders },
    { "recipes", put_recipes },
    { "presets", put_presets },
    { "kernel sets", put_kernel_sets },
    { "commands", put_commands },
    { "options of generate", put_generate_options },
    { "options of other commands", put_other_options },
};

enum { TABLES = sizeof tables / sizeof *tables };

static bool used[TABLES];

static int find_table(const char *name, size_t len)
{
    for (int i = 0; i < TABLES; i++)
        if (strlen(tables[i].name) == len && !memcmp(tables[i].name, name, len))
            return i;
    return -1;
}

/* Copies a page with every table made anew. 0, or negative with the reason in `why`. */
static int fill_page(const char *text, FILE *out, char *why, size_t n)
{
    const char *begin;
    while ((begin = strstr(text, begin_mark))) {
        const char *name = begin + strlen(begin_mark);
        const char *mark_end = strstr(name, " -->\n");
        const char *end = strstr(name, end_mark), *next = strstr(name, begin_mark);
        size_t len = mark_end ? (size_t)(mark_end - name) : 0;
        int table = mark_end ? find_table(name, len) : -1;
        if (table < 0) {
            snprintf(why, n, "no table of that name: %.40s", begin);
            return -1;
        }
        if (!end || (next && next < end)) {
            snprintf(why, n, "table %s: expected \"%s\" after it", tables[table].name, end_mark);
            return -1;
        }
        fwrite(text, 1, (size_t)(mark_end + 5 - text), out);
        fputc('\n', out);
        tables[table].put(out);
        fputc('\n', out);
        used[table] = true;
        text = end;
    }
    fputs(text, out);
    return 0;
}

static char *filled(const char *text, char *why, size_t n)
{
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);
    if (!out)
        die("out of memory");
    int r = fill_page(text, out, why, n);
    if (fclose(out))
        die("out of memory");
    if (r < 0) {
        free(made);
        return NULL;
    }
    return made;
}

/* A page is refused or changed where it should be; otherwise this program itself is broken. */
static void prove(void)
{
    static const char *const refused[] = {
        "<!-- table: errors -->\n",
        "<!-- table: nothing -->\n<!-- end of table -->\n",
        "<!-- table: errors -->\n<!-- table: verbs -->\n<!-- end of table -->\n",
    };
    static const char stale[] = "a\n<!-- table: errors -->\nold\n<!-- end of table -->\nz\n";
    char why[200];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (filled(refused[i], why, sizeof why))
            die("self-test: took %s", refused[i]);
    char *once = filled(stale, why, sizeof why);
    char *twice = once ? filled(once, why, sizeof why) : NULL;
    if (!twice || strcmp(once, twice) || !strstr(once, "`NOT_FOUND`") || strstr(once, "old") ||
        strncmp(once, "a\n", 2) || strcmp(once + strlen(once) - 3, "\nz\n"))
        die("self-test: a stale table became %s", once ? once : why);
    free(once);
    free(twice);
    memset(used, 0, sizeof used);
}

static void take_event(void *user, const char *json)
{
    json_t *event = json_loads(json, 0, NULL);
    json_t *data = json_object_get(event, "data");
    (void)user;
    if (data)
        capabilities = json_incref(data);
    json_decref(event);
}

static void ask_engine(void)
{
    struct darkroom *engine;
    char error[512];
    if (darkroom_open("{\"threads\": 1, \"kernels\": \"scalar\"}", take_event, NULL, &engine, error,
                      sizeof error) < 0)
        die("%s", error);
    darkroom_submit(engine, "{\"type\": \"capabilities\"}");
    darkroom_drain(engine);
    darkroom_close(engine);
    if (!capabilities)
        die("no answer to capabilities");
}

/* Whether the page was as it should be. */
static bool do_page(const char *source, const char *page, bool write)
{
    char path[DR_PATH_MAX], why[200];
    struct dr_error err = { 0 };
    struct buf text;
    snprintf(path, sizeof path, "%s/%s", source, page);
    buf_init(&text, DR_TAG_TEST, 0);
    if (dr_read_file(path, 1 << 20, &text, &err) < 0)
        die("%s", err.text);
    char *made = filled(buf_text(&text), why, sizeof why);
    if (!made)
        die("%s: %s", page, why);
    bool same = !strcmp(made, buf_text(&text));
    if (!same && write && dr_write_file(path, made, strlen(made), &err) < 0)
        die("%s", err.text);
    free(made);
    buf_free(&text);
    return same;
}

int main(int argc, char **argv)
{
    bool write = argc == 3 && !strcmp(argv[1], "--write"), same = true;
    if (argc != 2 + write)
        die("usage: doc_tables [--write] SOURCE");
    ask_engine();
    prove();
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        bool this_one = do_page(argv[argc - 1], pages[i], write);
        if (!this_one)
            printf("%s: %s\n", pages[i],
                   write ? "written"
                         : "its tables differ from the program's; `make docs` writes them");
        same &= this_one;
    }
    for (int i = 0; i < TABLES; i++)
        if (!used[i])
            die("table %s is in no page", tables[i].name);
    json_decref(capabilities);
    return same || write ? 0 : 1;
}
