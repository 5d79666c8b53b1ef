/* verbs.c - see cli.h: the tables of verbs and options, and a command line from arguments to exit
 * status. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/members.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "base/standard.h"
#include "cli/report.h"
#include "cli/settings.h"
#include "core/communication/message.h"

static const struct cli_verb *const verbs[] = {
#define VERB(name) &cli_##name,
#include "cli/verbs.def"
#undef VERB
};

enum { VERBS = sizeof verbs / sizeof *verbs, THREADS_MOST = 1024 };

static const char *const lines[VERBS] = {
#define VERB(name) #name,
#include "cli/verbs.def"
#undef VERB
};

static const struct option_info own[OPT_COUNT] = {
#define OPTION(name_, letter_, value_, choices_, help_)                                            \
    [OPT_##name_] = { .name = #name_,                                                              \
                      .letter = letter_,                                                           \
                      .value = value_,                                                             \
                      .choices = choices_,                                                         \
                      .dflt = "",                                                                  \
                      .help = help_,                                                               \
                      .id = FIELD_COUNT + OPT_##name_ },
#include "cli/options.def"
#undef OPTION
};

/* Other programs' names of options that are not fields. */
static const struct {
    const char *name, *aliases;
} own_aliases[] = {
    { "count", "batch_count n_iter num_batches" },
    { "output", "out" },
    { "threads", "num_threads" },
    { "quiet", "silent" },
};

/* Where the command line can do more than a field. */
static const char *const more[FIELD_COUNT] = {
    [FIELD_prompt] = " (repeatable); @FILE and - read prompts from a file or stdin, one a line",
};

/* "no-metadata": how a flag that is on by default is turned off. */
static const struct {
    const char *name, *help;
} negated[FIELD_COUNT] = {
#define FIELD(name, type, option, letter, aliases, lo, hi, dflt, choices, unit, help)              \
    [FIELD_##name] = { "no-" option, "do not " help },
#include "core/communication/request.def"
#undef FIELD
};

const struct cli_verb *cli_verb_at(int i)
{
    return i < VERBS ? verbs[i] : NULL;
}

int cli_verb_check(const struct cli_verb *verb, const char *line, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "synopsis", verb->synopsis != NULL },
        { "summary", verb->summary != NULL },
        { "run", verb->run != NULL },
        { "most", verb->most >= verb->least && verb->most <= CLI_ARGUMENTS },
    };
    int r = dr_members_check_name("verb", line, verb->name, err);
    return r ? r : dr_members_check("verb", line, members, sizeof members / sizeof *members, err);
}

static int check_verbs(struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < VERBS; i++)
        r = cli_verb_check(verbs[i], lines[i], err);
    return r;
}

int cli_find_verb(const char *name, const struct cli_verb **ret_verb, struct dr_error *err)
{
    const char *names[VERBS];
    for (int i = 0; i < VERBS; i++) {
        names[i] = verbs[i]->name;
        if (!strcmp(names[i], name)) {
            *ret_verb = verbs[i];
            return 0;
        }
    }
    const char *near = dr_nearest(name, names, VERBS);
    return dr_fail(err, DR_EINVAL, "%s: no such verb (%s%s)", name, near ? "nearest: " : "see ",
                   near ? near : "darkroom help");
}

static const char *value_name(const struct field_info *f)
{
    switch (f->type) {
    case FIELD_TYPE_TEXT:
        return !strcmp(f->unit, "path") || !strcmp(f->unit, "picture") ? "PATH" : "TEXT";
    case FIELD_TYPE_INT:
    case FIELD_TYPE_SEED:
        return "N";
    case FIELD_TYPE_REAL:
        return "X";
    case FIELD_TYPE_FLAG:
        return NULL;
    case FIELD_TYPE_SIZE:
        return "WxH";
    case FIELD_TYPE_PAIR:
        return "TOP,LEFT";
    case FIELD_TYPE_MAP:
        return "NAME=FILE";
    case FIELD_TYPE_SPEC:
        return "NAME[,KEY=X]";
    case FIELD_TYPE_SPECS:
        return "FILE[,KEY=X]...";
    case FIELD_TYPE_NUMBERS:
        return "LIST";
    default:
        return "NAME";
    }
}

static struct option_info field_option(enum field_id id)
{
    const struct field_info *f = field_info(id);
    bool off = f->type == FIELD_TYPE_FLAG && !strcmp(f->dflt, "true");
    return (struct option_info){ .name = off ? negated[id].name : f->option,
                                 .field = off ? NULL : f->name,
                                 .aliases = off ? NULL : f->aliases,
                                 .letter = f->letter,
                                 .value = value_name(f),
                                 .choices = f->type == FIELD_TYPE_SPEC ? "" : f->choices,
                                 .dflt = f->type == FIELD_TYPE_FLAG ? "" : f->dflt,
                                 .help = off ? negated[id].help : f->help,
                                 .id = (int)id,
                                 .more = more[id] };
}

static const char *aliases_of(const char *name)
{
    for (size_t i = 0; i < sizeof own_aliases / sizeof *own_aliases; i++)
        if (!strcmp(own_aliases[i].name, name))
            return own_aliases[i].aliases;
    return NULL;
}

int cli_options(const struct cli_verb *verb, struct option_info *ret_options)
{
    int n = 0;
    for (int i = 0; i < FIELD_COUNT; i++)
        if ((verb->request || (verb->parts && field_is_part((enum field_id)i))) &&
            *field_info((enum field_id)i)->option)
            ret_options[n++] = field_option((enum field_id)i);
    for (int i = 0; i < OPT_COUNT; i++) {
        if (!(verb->takes & (1u << i)) && i != OPT_help &&
            !(i == OPT_config && settings_used(verb)))
            continue;
        ret_options[n] = own[i];
        ret_options[n].aliases = aliases_of(own[i].name);
        if (verb->help[i])
            ret_options[n].help = verb->help[i];
        if (!*own[i].value)
            ret_options[n].value = NULL;
        n++;
    }
    return n;
}

int cli_add_parts(const struct cli_call *call, json_t *data)
{
    int r = 0;
    for (int i = 0; !r && i < FIELD_COUNT; i++)
        if (field_is_part((enum field_id)i) && request_has(&call->request, (enum field_id)i))
            r = jx_set(data, field_info((enum field_id)i)->name,
                       path_text_typed(request_text(&call->request, (enum field_id)i)));
    return r;
}

/* The value of an option with choices. */
static int check_choice(const struct option_info *o, const char *value, struct dr_error *err)
{
    const char *rest = o->choices, *name;
    char option[32];
    int n;
    while ((n = option_choice(&rest, &name)))
        if (strlen(value) == (size_t)n && !memcmp(name, value, (size_t)n))
            return 0;
    snprintf(option, sizeof option, "--%s", o->name);
    return dr_fail_field(err, DR_EINVAL, option, value, o->choices, NULL);
}

static int fail_empty(const struct option_info *o, struct dr_error *err)
{
    bool path = !strcmp(o->value, "PATH") || !strcmp(o->value, "FILE");
    const char *what = path ? "path" : !strcmp(o->value, "NAME") ? "name" : "value";
    int r = dr_fail(err, DR_EINVAL, "--%s: empty %s", o->name, what);
    if (err)
        snprintf(err->path, sizeof err->path, "--%s", o->name);
    return r;
}

/* More arguments than the verb takes: most often a prompt without quotes. */
static int fail_stray(const struct cli_verb *verb, const char *argument, struct dr_error *err)
{
    const struct field_info *prompt = field_info(FIELD_prompt);
    if (verb->request)
        return dr_fail(err, DR_EINVAL,
                       "%s: unexpected argument '%s', expected options only (a prompt follows "
                       "-%c or --%s, in quotes: -%c \"a red circle\")",
                       verb->name, argument, prompt->letter, prompt->option, prompt->letter);
    bool some = verb->most > 0;
    return dr_fail(
        err, DR_EINVAL, "%s: unexpected argument '%s', expected %s%s (%ssee darkroom help %s)",
        verb->name, argument, some ? "only " : "options only", some ? verb->synopsis : "",
        some ? "put text with blanks in quotes; " : "", verb->name);
}

static int take_option(void *ctx, const struct option_info *o, const char *value,
                       struct dr_error *err)
{
    struct cli_call *call = ctx;
    if (!o) {
        if (call->arguments == call->verb->most)
            return fail_stray(call->verb, value, err);
        call->argument[call->arguments++] = value;
        return 0;
    }
    if (o->id >= FIELD_COUNT) {
        call->value[o->id - FIELD_COUNT] = value ? value : "";
        if (value && !*value && o->id != FIELD_COUNT + OPT_prompt)
            return fail_empty(o, err);
        return value && *o->choices ? check_choice(o, value, err) : 0;
    }
    call->typed[o->id] = true;
    if (o->id == FIELD_prompt) {
        int r = prompts_add(&call->prompts, value, err);
        return r < 0 ? r
                     : request_set_text(&call->request, FIELD_prompt,
                                        call->prompts.text[call->prompts.n - 1], err);
    }
    const char *off = o->value ? value : "false";
    bool on = !o->value && strncmp(o->name, "no-", 3);
    return request_set_text(&call->request, (enum field_id)o->id, on ? "true" : off, err);
}

static int check_threads(const char *text, struct dr_error *err)
{
    char *end;
    errno = 0;
    long n = text ? strtol(text, &end, 10) : 0;
    if (!text || (end != text && !*end && !errno && n >= 0 && n <= THREADS_MOST))
        return 0;
    return dr_fail_field(err, DR_EINVAL, "--threads", text, "an integer from 0 to 1024", NULL);
}

/* "-n 2" counts pictures in other programs. */
static void warn_of_count(const struct cli_call *call)
{
    const char *negative = call->verb->request ? request_text(&call->request, FIELD_negative_prompt)
                                               : "";
    if (*negative && !negative[strspn(negative, "0123456789")] && !call->value[OPT_quiet])
        report_line(
            "warning: -n is the negative prompt, here \"%s\"; -b sets the number of pictures",
            negative);
}

static int parse(struct cli_call *call, int argc, char *const *argv, struct dr_error *err)
{
    struct option_info options[CLI_OPTIONS];
    if (call->verb->raw) {
        call->raw = argv;
        call->raw_count = argc;
        return 0;
    }
    int n = cli_options(call->verb, options);
    bool dashes = call->verb->dashes && argc == 1 && argv[0][0] == '-' && strcmp(argv[0], "-h") &&
                  strcmp(argv[0], "--help");
    if (dashes) {
        call->argument[call->arguments++] = argv[0] + strspn(argv[0], "-");
        argc = 0;
    }
    int r = options_parse(options, n, argc, argv, take_option, call, call->errors, err);
    if (r < 0 || call->value[OPT_help])
        return r;
    if (call->arguments < call->verb->least)
        return dr_fail_field(err, DR_EINVAL, call->verb->name, "nothing", call->verb->synopsis,
                             NULL);
    if (call->prompts.n > 1 && !(call->verb->takes & TAKES(count))) {
        char got[32];
        snprintf(got, sizeof got, "%d prompts", call->prompts.n);
        return dr_fail_field(err, DR_EINVAL, "--prompt", got, "one prompt", NULL);
    }
    warn_of_count(call);
    if (*call->prompts.warning && !call->value[OPT_quiet])
        report_line("warning: %s", call->prompts.warning);
    r = settings_apply(call, err);
    if (r < 0)
        r = error_list_go_on(call->errors, r, err);
    if (!r && (r = check_threads(call->value[OPT_threads], err)) < 0) {
        call->value[OPT_threads] = NULL;
        r = error_list_go_on(call->errors, r, err);
    }
    return r;
}

/* The field of that option in the worker's errors, and how it is written on the command line. */
static const char *field_of(const struct option_info *o, const char **ret_option)
{
    if (o->id >= FIELD_COUNT) {
        *ret_option = o->name;
        return o->name;
    }
    *ret_option = field_info((enum field_id)o->id)->option; /* not the "no-" of a flag */
    return field_info((enum field_id)o->id)->name;
}

/* What follows a field's name in the path of an error, without the number of an item; NULL: the
 * path is of another field. */
static const char *member_of(const struct option_info *o, const char *rest)
{
    enum field_type type = o->id < FIELD_COUNT ? field_info((enum field_id)o->id)->type
                                               : FIELD_TYPE_TEXT;
    const char *end = *rest == '[' && type == FIELD_TYPE_SPECS ? strchr(rest, ']') : NULL;
    if (end)
        rest = end + 1;
    bool members = type == FIELD_TYPE_MAP || type == FIELD_TYPE_SPEC || type == FIELD_TYPE_SPECS;
    return !*rest || (*rest == '.' && members) ? rest : NULL;
}

/* The worker's errors are about fields: where the verb has an option for one, "width: got ..."
 * becomes "--width: got ...", "load_stage.pred_000: ..." "--load-stage pred_000: ...",
 * "loras[1].end: ..." "--lora end: ...". True when it is about an option. */
static bool name_option(const struct cli_verb *verb, struct dr_error *err)
{
    struct option_info options[CLI_OPTIONS];
    const char *path = err->path, *option;
    char text[sizeof err->text];
    if (path[0] == '-')
        return true;
    int n_options = verb->raw ? 0 : cli_options(verb, options);
    size_t skip = strncmp(path, "data.", 5) ? 0 : 5;
    for (int i = 0; i < n_options; i++) {
        const char *field = field_of(&options[i], &option);
        size_t n = strlen(field);
        if (strncmp(field, path + skip, n))
            continue;
        const char *member = member_of(&options[i], path + skip + n);
        if (!member)
            continue;
        n = (size_t)(member - path);
        if (!strncmp(err->text, path, n)) {
            bool dot = err->text[n] == '.';
            snprintf(text, sizeof text, "--%s%s%s", option, dot ? " " : "", err->text + n + dot);
            memcpy(err->text, text, sizeof text);
        }
        return true;
    }
    return false;
}

void cli_name_field(const struct cli_verb *verb, struct dr_error *err)
{
    struct option_info options[CLI_OPTIONS];
    const char *path = err->path, *ignored;
    if (path[0] != '-')
        return;
    int n = cli_options(verb, options);
    for (int i = 0; i < n; i++) {
        const struct option_info *o = &options[i];
        if (path[1] == '-' ? option_has_name(o, path + 2, strlen(path + 2))
                           : path[1] && path[1] == o->letter && !path[2]) {
            snprintf(err->path, sizeof err->path, "%s", field_of(o, &ignored));
            return;
        }
    }
}

/* With --json the failure is printed on stdout too, in the form of the worker's answers. */
static void print_failure(const struct dr_error *err, json_t *partial)
{
    struct dr_error unheard;
    json_t *failure = message_error(err);
    if (failure && json_array_size(partial) && jx_set(failure, "images", json_incref(partial)) < 0)
        dr_fail(&unheard, DR_ENOMEM, "out of memory"); /* the failure is printed without them */
    (void)report_json(failure, &unheard);
    json_decref(failure);
}

int cli_mistake_status(int code)
{
    return code == DR_EIO || code == DR_ENOMEM ? 1 : CLI_EXIT_USAGE;
}

/* Appends where a value from the configuration is. */
static void name_line(const struct cli_call *call, struct dr_error *err)
{
    const char *field = err->path + (strncmp(err->path, "data.", 5) ? 0 : 5);
    size_t used = strlen(err->text);
    for (int i = 0; i < FIELD_COUNT; i++)
        if (call->line[i] && !strcmp(field_info((enum field_id)i)->name, field))
            snprintf(err->text + used, sizeof err->text - used, " (%s:%d)", call->config_path,
                     call->line[i]);
}

int cli_failure_status(const struct cli_call *call, int code, struct dr_error *err)
{
    bool option = name_option(call->verb, err);
    name_line(call, err);
    if (code == DR_ECANCELED)
        return CLI_EXIT_INTERRUPTED;
    return call->usage || (option && code == DR_EINVAL) ? CLI_EXIT_USAGE : 1;
}

static int finish(struct cli_call *call, int r, struct dr_error *err)
{
    if (r >= 0)
        r = report_check(err);
    if (r >= 0)
        return call->status;
    if (!err->code)
        dr_fail(err, r, "%s", dr_code_meaning(r));
    int status = cli_failure_status(call, r, err);
    if (!call->value[OPT_quiet] || r != DR_ECANCELED)
        report_error(err->text);
    if (call->value[OPT_json])
        print_failure(err, call->partial);
    return status;
}

/* Whether --json is given, parsed or not: an error may come before it. */
static bool wants_json(const struct cli_verb *verb, int argc, char *const *argv)
{
    for (int i = 0; (verb->takes & TAKES(json)) && i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--json"))
            return true;
    return false;
}

static int run_verb(const struct cli_verb *verb, int argc, char **argv)
{
    struct dr_error err = { 0 };
    struct cli_call call = { .verb = verb }, help = { .verb = &cli_help, .arguments = 1 };
    struct error_list errors = { .n = 0 };
    int status;
    request_init(&call.request);
    if (verb->all)
        call.errors = &errors;
    int r = parse(&call, argc, argv, &err);
    help.argument[0] = verb->name;
    if (r < 0) {
        report_error(err.text);
        if (wants_json(verb, argc, argv))
            print_failure(&err, NULL);
        status = cli_mistake_status(r);
    } else if (call.value[OPT_help]) {
        status = finish(&help, cli_help.run(&help, &err), &err);
    } else {
        status = finish(&call, verb->run(&call, &err), &err);
    }
    request_free(&call.request);
    prompts_free(&call.prompts);
    json_decref(call.partial);
    dr_free(call.threads);
    dr_free(call.output);
    dr_free(call.cache);
    dr_free(call.cache_limit);
    dr_free(call.model);
    return status;
}

int cli_main(int argc, char **argv)
{
    const struct cli_verb *verb;
    struct dr_error err = { 0 };
    report_begin();
    dr_standard_open();
    jx_init();
    if (check_verbs(&err) < 0) {
        report_error(err.text);
        return EXIT_FAILURE;
    }
    const char *word = argc > 1 ? argv[1] : "help";
    if (!strcmp(word, "-h") || !strcmp(word, "--help"))
        word = "help";
    if (!strcmp(word, "-V") || !strcmp(word, "--version"))
        word = "version";
    if (word[0] == '-') {
        dr_fail(&err, DR_EINVAL, "%s: expected a verb first, such as generate (see darkroom help)",
                word);
        report_error(err.text);
        return CLI_EXIT_USAGE;
    }
    if (cli_find_verb(word, &verb, &err) < 0) {
        report_error(err.text);
        return CLI_EXIT_USAGE;
    }
    return run_verb(verb, argc > 2 ? argc - 2 : 0, argv + 2);
}
