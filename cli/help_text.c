/* help_text.c - see help_text.h. */
#include "cli/help_text.h"

#include <stdio.h>
#include <string.h>

#include "cli/lists.h"

enum { OPTION_COLUMN = 27, VERB_COLUMN = 14, LEFT_BYTES = 64 };

const struct help_place help_files[] = {
    { "$XDG_CONFIG_HOME/darkroom/config.yaml",
      "configuration (~/.config/darkroom/config.yaml without the variable)" },
    { "$XDG_CACHE_HOME/darkroom/", "what can be computed again, such as the digests of models" },
    { NULL, NULL },
};

const struct help_place help_variables[] = {
    { "DARKROOM_SHARE", "folder of the shipped files (default: share/ found from the program)" },
    { "DARKROOM_WORKER", "worker program (default: darkroom-worker beside this one)" },
    { "DARKROOM_LOG", "what the worker logs: error, warn (default), info, debug, off" },
    { "NO_COLOR", "if set, no colours" },
    { NULL, NULL },
};

const struct help_place help_statuses[] = {
    { "0", "done" },
    { "1", "failed" },
    { "2", "the command line, the configuration or a value is wrong" },
    { "130", "interrupted" },
    { NULL, NULL },
};

const char help_configuration[] = "The keys of the configuration are the long names of the options "
                                  "of generate, one a line: \"model: "
                                  "~/models/sdxl.safetensors\", \"threads: 4\", \"output: "
                                  "~/pictures/\", \"steps: 25\"; and cache: FOLDER and "
                                  "cache-limit: BYTES (such as 20G), of what is kept between "
                                  "starts. The command line wins.";

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
    for (bool first = true; !r && (n = option_choice(&rest, &name)); first = false)
        r = buf_printf(out, "%s%.*s", first ? ": " : ", ", n, name);
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

int help_verb(const struct cli_verb *verb, int width, struct buf *out)
{
    struct option_info options[CLI_OPTIONS];
    int n = verb->raw ? 0 : cli_options(verb, options);
    int r = buf_printf(out, "usage: darkroom %s%s%s%s\n%s\n", verb->name,
                       *verb->synopsis ? " " : "", verb->synopsis,
                       verb->raw || verb->request ? "" : " [OPTION]...", verb->summary);
    if (!r && n)
        r = buf_puts(out, "\noptions:\n");
    for (int i = 0; !r && i < n; i++)
        r = put_option(out, &options[i], width);
    if (!r && verb->notes)
        r = buf_putc(out, '\n');
    return r || !verb->notes ? r : put_paragraphs(out, verb->notes, width);
}

/* "DPM++ 2M; also dpm++2m, DPMSolverMultistep" */
static int put_item_words(const json_t *item, struct buf *out)
{
    size_t i;
    json_t *alias;
    const char *title = json_string_value(json_object_get(item, "title"));
    bool unusable = json_is_false(json_object_get(item, "usable"));
    int r = title ? buf_puts(out, title) : unusable ? buf_puts(out, "not on this processor") : 0;
    json_array_foreach(json_object_get(item, "aliases"), i, alias)
    {
        if (!r)
            r = buf_printf(out, "%s%s", i ? ", " : "; also ", json_string_value(alias));
    }
    return r;
}

int help_list(const json_t *items, int width, struct buf *out)
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
            r = put_item_words(item, &words);
        if (!r && name)
            r = put_row(out, name, buf_text(&words), VERB_COLUMN, width);
        buf_free(&words);
    }
    return r;
}

int help_overview(int width, struct buf *out)
{
    const struct cli_verb *verb;
    const struct list_info *list;
    int r = buf_puts(
        out, "usage: darkroom VERB [OPTION]...\nDraws pictures from words, with SDXL.\n"
             "\n  darkroom generate -p \"a red circle left of a blue square\" -o picture.png\n"
             "\nverbs:\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++)
        r = put_row(out, verb->name, verb->summary, VERB_COLUMN, width);
    if (!r)
        r = buf_puts(out, "\ndarkroom help VERB tells more about one of them.\n"
                          "\ntopics, lists of the names that a value may have:\n");
    for (int i = 0; !r && (list = list_at(i)); i++)
        r = put_row(out, list->name, list->summary, VERB_COLUMN, width);
    if (!r)
        r = buf_puts(out, "\ndarkroom help TOPIC prints one of them.\n");
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
