/* man.c - `darkroom man`: the manual page in roff (man(7) macros), from the same tables as the
 * help. */
#include "cli/cli.h"

#include <string.h>

#include "cli/help_text.h"
#include "cli/lists.h"
#include "cli/report.h"

/* Text for roff: backslashes and dashes escaped, and no line begins with a dot or quote. Empty
 * lines become paragraphs. */
static int put_text(struct buf *out, const char *text)
{
    int r = 0;
    bool start = true;
    for (const char *p = text; !r && *p; p++) {
        if (start && *p == '\n')
            r = buf_puts(out, ".PP");
        else if (start && (*p == '.' || *p == '\''))
            r = buf_puts(out, "\\&");
        start = *p == '\n';
        if (r)
            break;
        r = *p == '\\'  ? buf_puts(out, "\\e")
            : *p == '-' ? buf_puts(out, "\\-")
                        : buf_putc(out, *p);
    }
    return r || start ? r : buf_putc(out, '\n');
}

static int put_option(struct buf *out, const struct option_info *o)
{
    struct buf help;
    buf_init(&help, DR_TAG_BASE, 0);
    int r = buf_puts(out, ".TP\n");
    if (!r && o->letter)
        r = buf_printf(out, "\\fB\\-%c\\fR, ", o->letter);
    if (!r)
        r = buf_puts(out, "\\fB\\-\\-");
    for (const char *p = o->name; !r && *p; p++)
        r = *p == '-' ? buf_puts(out, "\\-") : buf_putc(out, *p);
    if (!r && o->value)
        r = buf_printf(out, "\\fR \\fI%s", o->value);
    if (!r)
        r = buf_puts(out, "\\fR\n");
    if (!r)
        r = help_option(o, &help);
    size_t words = help.len;
    if (!r)
        r = help_aliases(o, &help);
    bool aliases = help.len > words;
    buf_clear(&help);
    if (!r)
        r = help_option(o, &help);
    if (!r && aliases)
        r = buf_puts(&help, ". Also");
    if (!r && aliases)
        r = help_aliases(o, &help);
    if (!r)
        r = put_text(out, buf_text(&help));
    buf_free(&help);
    return r;
}

/* The keys of an option whose values have some. */
static int put_keys(struct buf *out, const struct option_info *o)
{
    const struct field_info *key;
    struct buf help;
    int r = 0;
    for (int i = 0; !r && o->id < FIELD_COUNT && (key = field_key((enum field_id)o->id, i)); i++) {
        buf_init(&help, DR_TAG_BASE, 0);
        r = buf_printf(out, ".RS\n.TP\n\\fB%s\\fR\n", key->name);
        if (!r)
            r = help_key(key, &help);
        if (!r)
            r = put_text(out, buf_text(&help));
        if (!r)
            r = buf_puts(out, ".RE\n");
        buf_free(&help);
    }
    return r;
}

static int put_verb(struct buf *out, const struct cli_verb *verb)
{
    struct option_info options[CLI_OPTIONS];
    int n = verb->raw ? 0 : cli_options(verb, options);
    bool like_generate = verb->request && verb != &cli_generate;
    int r = buf_printf(out, ".SS darkroom %s %s\n", verb->name, verb->synopsis);
    if (!r)
        r = put_text(out, verb->summary);
    if (!r && verb->notes)
        r = buf_puts(out, ".PP\n");
    if (!r && verb->notes)
        r = put_text(out, verb->notes);
    for (int i = 0; !r && i < n; i++)
        if ((!like_generate || options[i].id >= FIELD_COUNT) &&
            options[i].id != FIELD_COUNT + OPT_help) {
            r = put_option(out, &options[i]);
            if (!r)
                r = put_keys(out, &options[i]);
        }
    return r;
}

static int put_places(struct buf *out, const char *title, const struct help_place *p)
{
    int r = buf_printf(out, ".SH %s\n", title);
    for (; !r && p->name; p++) {
        r = buf_printf(out, ".TP\n\\fB%s\\fR\n", p->name);
        if (!r)
            r = put_text(out, p->what);
    }
    return r;
}

static int put_examples(struct buf *out)
{
    int r = buf_puts(out, ".SH EXAMPLES\n");
    for (const struct help_place *e = help_examples; !r && e->name; e++) {
        r = buf_puts(out, ".TP\n");
        if (!r)
            r = put_text(out, e->name);
        if (!r)
            r = put_text(out, e->what);
    }
    return r;
}

static const char description[] =
    "Draws pictures from text with SDXL models on ordinary processors. A model is a checkpoint "
    "file (.safetensors) or a diffusers folder; a small one is shipped. For the same weights and "
    "seed "
    "the result matches that of diffusers to within float32 rounding error.\n"
    "\n"
    "The work is done by a second program, darkroom-worker, which speaks JSON lines on stdin and "
    "stdout and can be used by other programs. The first start of a model packs its weights, which "
    "takes a while; later starts use the cache.\n";

static const char see_also[] = ".SH SEE ALSO\n"
                               "\\fBdarkroom\\-worker \\-\\-help\\fR; the API documentation, "
                               "docs/api_documentation.md in the sources.\n";

static int put_page(struct buf *out)
{
    const struct cli_verb *verb;
    const struct list_info *list;
    int r = buf_puts(out, ".TH DARKROOM 1 \"\" \"darkroom " DR_VERSION "\" \"User Commands\"\n"
                          ".SH NAME\ndarkroom \\- pictures from words, with SDXL\n"
                          ".SH SYNOPSIS\n.B darkroom\n.I VERB\n[\\fIOPTION\\fR]...\n"
                          ".SH DESCRIPTION\n");
    if (!r)
        r = put_text(out, description);
    if (!r)
        r = buf_puts(out, ".SH VERBS\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++)
        r = put_verb(out, verb);
    if (!r)
        r = buf_puts(out, ".SH TOPICS\nLists of the names that a value may have, printed by "
                          "\\fBdarkroom help\\fR \\fITOPIC\\fR.\n");
    for (int i = 0; !r && (list = list_at(i)); i++) {
        r = buf_printf(out, ".TP\n\\fB%s\\fR\n", list->name);
        if (!r)
            r = put_text(out, list->summary);
    }
    if (!r)
        r = buf_puts(out, ".SH CONFIGURATION\n");
    if (!r)
        r = put_text(out, help_configuration);
    if (!r)
        r = put_places(out, "FILES", help_files);
    if (!r)
        r = put_places(out, "ENVIRONMENT", help_variables);
    if (!r)
        r = put_places(out, "EXIT STATUS", help_statuses);
    if (!r)
        r = put_examples(out);
    return r ? r : buf_puts(out, see_also);
}

static int man(struct cli_call *call, struct dr_error *err)
{
    struct buf out;
    (void)call;
    buf_init(&out, DR_TAG_BASE, 0);
    int r = put_page(&out);
    r = r < 0 ? dr_fail(err, r, "out of memory for the manual page") : report_text(&out, err);
    buf_free(&out);
    return r;
}

const struct cli_verb cli_man = {
    .name = "man",
    .synopsis = "",
    .summary = "print the manual page (darkroom man | man -l -)",
    .run = man,
};
