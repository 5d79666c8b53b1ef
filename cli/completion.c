/* completion.c - `darkroom completion`: scripts for bash, zsh and fish from the tables.
 *
 * Names of samplers, schedules, presets, kernel sets and cases come from the worker, once, while
 * the script is written. Without a worker the script completes the rest.
 */
#include "cli/cli.h"

#include <string.h>

#include "cli/lists.h"
#include "cli/report.h"
#include "cli/session.h"

/* Names of a list, a blank before each. */
static int put_names(struct buf *out, const json_t *array)
{
    size_t i;
    json_t *item;
    int r = 0;
    json_array_foreach(array, i, item)
    {
        const char *name = list_item_name(item);
        if (!r && name)
            r = buf_printf(out, " %s", name);
    }
    return r;
}

/* The values of an option, a blank before each; nothing when they are free. */
static int put_values(struct buf *out, const struct option_info *o, const json_t *abilities)
{
    const char *rest = o->choices, *name;
    int n, r = 0;
    while (!r && (n = option_choice(&rest, &name)))
        r = buf_printf(out, " %.*s", n, name);
    const struct list_info *list;
    for (int i = 0; !r && (list = list_at(i)); i++)
        if (!strcmp(list->option, o->name))
            r = put_names(out, list_items(list, abilities));
    return r;
}

static bool is_path(const struct option_info *o)
{
    return o->value && (!strcmp(o->value, "PATH") || !strcmp(o->value, "NAME=FILE"));
}

/* Text inside single quotes of a shell. */
static int put_quoted(struct buf *out, const char *text)
{
    int r = 0;
    for (const char *p = text; !r && *p; p++)
        r = *p == '\'' ? buf_puts(out, "'\\''") : buf_putc(out, *p);
    return r;
}

static int put_verbs(struct buf *out)
{
    const struct cli_verb *verb;
    int r = 0;
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++)
        r = buf_printf(out, "%s%s", i ? " " : "", verb->name);
    return r;
}

static int bash_verb(struct buf *out, const struct cli_verb *verb, const json_t *abilities)
{
    struct option_info options[CLI_OPTIONS];
    int n = verb->raw ? 0 : cli_options(verb, options);
    int r = buf_printf(out, "    %s)\n        case $previous in\n", verb->name);
    for (int i = 0; !r && i < n; i++) {
        const struct option_info *o = &options[i];
        if (!o->value)
            continue;
        r = buf_printf(out, "        --%s", o->name);
        if (!r && o->letter)
            r = buf_printf(out, "|-%c", o->letter);
        if (!r)
            r = is_path(o) ? buf_puts(out, ") COMPREPLY=($(compgen -f -- \"$word\"")
                           : buf_puts(out, ") COMPREPLY=($(compgen -W '");
        if (!r && !is_path(o))
            r = put_values(out, o, abilities);
        if (!r)
            r = buf_printf(out, "%s)); return ;;\n", is_path(o) ? "" : "' -- \"$word\"");
    }
    if (!r)
        r = buf_puts(out, "        esac\n        options='");
    for (int i = 0; !r && i < n; i++)
        r = buf_printf(out, "%s--%s", i ? " " : "", options[i].name);
    return r ? r : buf_puts(out, "' ;;\n");
}

/* What help takes: verbs and lists. */
static int put_topics(struct buf *out)
{
    const struct list_info *list;
    int r = put_verbs(out);
    for (int i = 0; !r && (list = list_at(i)); i++)
        r = buf_printf(out, " %s", list->name);
    return r;
}

static int put_bash(struct buf *out, const json_t *abilities)
{
    const struct cli_verb *verb;
    int r = buf_puts(out, "# bash completion of darkroom\n_darkroom()\n{\n"
                          "    local word=${COMP_WORDS[COMP_CWORD]} options=\n"
                          "    local previous=${COMP_WORDS[COMP_CWORD-1]}\n"
                          "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
                          "        COMPREPLY=($(compgen -W '");
    if (!r)
        r = put_verbs(out);
    if (!r)
        r = buf_puts(out, "' -- \"$word\"))\n        return\n    fi\n"
                          "    case ${COMP_WORDS[1]} in\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++)
        if (verb != &cli_help && verb != &cli_completion)
            r = bash_verb(out, verb, abilities);
    if (!r)
        r = buf_puts(out, "    help) options='");
    if (!r)
        r = put_topics(out);
    return r ? r
             : buf_puts(out, "' ;;\n    completion) options='bash zsh fish' ;;\n    esac\n"
                             "    case $word in\n"
                             "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
                             "    *) case ${COMP_WORDS[1]} in\n"
                             "       help|completion) COMPREPLY=($(compgen -W \"$options\" -- "
                             "\"$word\")) ;;\n"
                             "       cache) COMPREPLY=($(compgen -W 'list clear prune' -- "
                             "\"$word\")) ;;\n"
                             "       *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
                             "       esac ;;\n"
                             "    esac\n}\ncomplete -o filenames -F _darkroom darkroom\n");
}

/* Help of an option for _arguments: brackets and colons would end it. */
static int zsh_help(struct buf *out, const char *help)
{
    int r = 0;
    for (const char *p = help; !r && *p; p++)
        r = *p == '\''                            ? buf_puts(out, "'\\''")
            : *p == '[' || *p == ']' || *p == ':' ? buf_printf(out, "\\%c", *p)
                                                  : buf_putc(out, *p);
    return r;
}

static int zsh_option(struct buf *out, const struct option_info *o, const json_t *abilities)
{
    int r = buf_puts(out, " \\\n            '");
    if (!r && o->letter)
        r = buf_printf(out, "(-%c --%s)'{-%c,--%s%s}'[", o->letter, o->name, o->letter, o->name,
                       o->value ? "=" : "");
    else if (!r)
        r = buf_printf(out, "--%s%s[", o->name, o->value ? "=" : "");
    if (!r)
        r = zsh_help(out, o->help);
    if (!r)
        r = buf_putc(out, ']');
    if (!r && o->value)
        r = buf_printf(out, ":%s:%s", o->value, is_path(o) ? "_files" : "(");
    if (!r && o->value && !is_path(o))
        r = put_values(out, o, abilities);
    if (!r && o->value && !is_path(o))
        r = buf_putc(out, ')');
    return r ? r : buf_putc(out, '\'');
}

static int put_zsh(struct buf *out, const json_t *abilities)
{
    const struct cli_verb *verb;
    int r = buf_puts(out, "#compdef darkroom\n# zsh completion of darkroom\n_darkroom() {\n"
                          "    if (( CURRENT == 2 )); then\n        local -a verbs=(");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++) {
        r = buf_printf(out, "\n            '%s:", verb->name);
        if (!r)
            r = put_quoted(out, verb->summary);
        if (!r)
            r = buf_putc(out, '\'');
    }
    if (!r)
        r = buf_puts(out, ")\n        _describe verb verbs\n        return\n    fi\n"
                          "    local verb=$words[2]\n    shift words\n    (( CURRENT-- ))\n"
                          "    case $verb in\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++) {
        struct option_info options[CLI_OPTIONS];
        int n = verb->raw ? 0 : cli_options(verb, options);
        r = buf_printf(out, "    %s)\n        _arguments", verb->name);
        for (int k = 0; !r && k < n; k++)
            r = zsh_option(out, &options[k], abilities);
        if (!r && (verb == &cli_help || verb == &cli_completion || verb == &cli_cache)) {
            r = buf_puts(out, " \\\n            '1:what:(");
            if (!r)
                r = verb == &cli_help    ? put_topics(out)
                    : verb == &cli_cache ? buf_puts(out, "list clear prune")
                                         : buf_puts(out, "bash zsh fish");
            if (!r)
                r = buf_puts(out, ")'");
        } else if (!r) {
            r = buf_puts(out, " \\\n            '*:file:_files'");
        }
        if (!r)
            r = buf_puts(out, " ;;\n");
    }
    return r ? r : buf_puts(out, "    esac\n}\n_darkroom \"$@\"\n");
}

static int fish_option(struct buf *out, const struct cli_verb *verb, const struct option_info *o,
                       const json_t *abilities)
{
    struct buf values;
    buf_init(&values, DR_TAG_BASE, 0);
    int r = buf_printf(out, "complete -c darkroom -n '__fish_seen_subcommand_from %s' -l %s",
                       verb->name, o->name);
    if (!r && o->letter)
        r = buf_printf(out, " -s %c", o->letter);
    if (!r && o->value)
        r = buf_puts(out, is_path(o) ? " -r -F" : " -x");
    if (!r)
        r = put_values(&values, o, abilities);
    if (!r && values.len)
        r = buf_printf(out, " -a '%s'", buf_text(&values) + 1);
    if (!r)
        r = buf_puts(out, " -d '");
    if (!r)
        r = put_quoted(out, o->help);
    buf_free(&values);
    return r ? r : buf_puts(out, "'\n");
}

static int put_fish(struct buf *out, const json_t *abilities)
{
    const struct cli_verb *verb;
    int r = buf_puts(out, "# fish completion of darkroom\n");
    for (int i = 0; !r && (verb = cli_verb_at(i)); i++) {
        struct option_info options[CLI_OPTIONS];
        int n = verb->raw ? 0 : cli_options(verb, options);
        r = buf_printf(out, "complete -c darkroom -n __fish_use_subcommand -f -a %s -d '",
                       verb->name);
        if (!r)
            r = put_quoted(out, verb->summary);
        if (!r)
            r = buf_puts(out, "'\n");
        for (int k = 0; !r && k < n; k++)
            r = fish_option(out, verb, &options[k], abilities);
    }
    if (!r)
        r = buf_puts(out, "complete -c darkroom -n '__fish_seen_subcommand_from completion' -f -a "
                          "'bash zsh fish'\n"
                          "complete -c darkroom -n '__fish_seen_subcommand_from cache' -f -a "
                          "'list clear prune'\n"
                          "complete -c darkroom -n '__fish_seen_subcommand_from help' -f -a '");
    if (!r)
        r = put_topics(out);
    return r ? r : buf_puts(out, "'\n");
}

static int completion(struct cli_call *call, struct dr_error *err)
{
    static const struct {
        const char *name;
        int (*put)(struct buf *out, const json_t *abilities);
    } shells[] = { { "bash", put_bash }, { "zsh", put_zsh }, { "fish", put_fish } };
    json_t *abilities = NULL;
    struct buf out;
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shells[i].name, call->argument[0]))
            continue;
        int r = session_ask(&(struct session_options){ .threads = "1" }, VERB_capabilities,
                            json_object(), &abilities, err);
        if (r == DR_ECANCELED)
            return r;
        buf_init(&out, DR_TAG_BASE, 0);
        r = shells[i].put(&out, abilities);
        r = r < 0 ? dr_fail(err, r, "out of memory for the script") : report_text(&out, err);
        buf_free(&out);
        json_decref(abilities);
        return r;
    }
    call->usage = true;
    return dr_fail_field(err, DR_EINVAL, "completion", call->argument[0], "bash, zsh or fish",
                         NULL);
}

const struct cli_verb cli_completion = {
    .name = "completion",
    .synopsis = "bash|zsh|fish",
    .summary = "print a completion script",
    .notes = "bash: source <(darkroom completion bash)\n"
             "zsh: darkroom completion zsh > a file _darkroom in a folder of $fpath\n"
             "fish: darkroom completion fish > ~/.config/fish/completions/darkroom.fish\n",
    .least = 1,
    .most = 1,
    .run = completion,
};
