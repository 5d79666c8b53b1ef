/* cli.h - a verb of the `darkroom` program: what it takes and the call it gets.
 *
 * verbs.def names the verbs; each is one file with one descriptor. From the descriptors and the
 * tables of options come parsing, help, completion and the man page.
 */
#ifndef DR_CLI_CLI_H
#define DR_CLI_CLI_H

#include <stdbool.h>

#include "cli/options.h"
#include "cli/prompts.h"
#include "base/fs.h"
#include "core/communication/request.h"

enum { CLI_EXIT_USAGE = 2, CLI_EXIT_INTERRUPTED = 130 };

/* The options of options.def. */
enum cli_option {
#define OPTION(name, ...) OPT_##name,
#include "cli/options.def"
#undef OPTION
    OPT_COUNT
};

#define TAKES(name) (1u << OPT_##name)

enum { CLI_ARGUMENTS = 33, CLI_OPTIONS = FIELD_COUNT + OPT_COUNT };

struct cli_verb;

/* One call of a verb. Texts are argv's or the configuration's. */
struct cli_call {
    const struct cli_verb *verb;
    const char *value[OPT_COUNT]; /* NULL: not given; "" for a flag */
    const char *argument[CLI_ARGUMENTS];
    int arguments;
    struct request request;  /* of verbs with .request */
    struct prompts prompts;  /* every -p; the request has the last one */
    bool typed[FIELD_COUNT]; /* fields given on the command line */
    int line[FIELD_COUNT];   /* of the configuration that gave a field; 0: none */
    char config_path[DR_PATH_MAX];
    char *threads, *output;    /* the configuration's; owned */
    char *cache, *cache_limit; /* likewise; NULL: the worker's own choice */
    char *model;               /* likewise; of verbs without .request */
    int raw_count;             /* of verbs with .raw */
    char *const *raw;
    struct error_list *errors; /* of verbs with .all: what is wrong with the command line */
    bool usage;                /* a failure is the caller's mistake, whatever it is about */
    json_t *partial;           /* images of a run that failed later, for --json; owned */
    int status;                /* exit status after success; 0 unless the verb says otherwise */
};

struct cli_verb {
    const char *name;
    const char *synopsis; /* "FILE", "" ... */
    const char *summary;  /* half a line */
    const char *notes;    /* paragraphs for help and the man page, or NULL */
    int least, most;      /* arguments */
    bool request;         /* takes the fields of a request as options, and the configuration */
    bool parts;           /* takes those fields that replace parts of a model, as options */
    bool settings;        /* reads the configuration; so do verbs with .request or threads */
    bool strict;          /* a mistake in any key of it is an error, as with .request */
    bool dashes;          /* its only argument may be an option's name, with its dashes */
    bool raw;             /* its arguments are not parsed here */
    bool all;             /* runs with a wrong command line and reports every error in it */
    unsigned takes;       /* TAKES(...) of options.def */
    const char *help[OPT_COUNT]; /* help of an option that means something else here */
    /* 0, or negative with err filled. */
    int (*run)(struct cli_call *call, struct dr_error *err);
};

#define VERB(name) extern const struct cli_verb cli_##name;
#include "cli/verbs.def"
#undef VERB

static inline bool cli_typed(const struct cli_call *call, enum field_id id)
{
    return call->typed[id];
}

/* In the order of the table; NULL past the end. */
const struct cli_verb *cli_verb_at(int i);
/* DR_EINTERNAL that names the verb and a member that it must have and lacks; `line` is its name in
 * verbs.def. The program checks all of them when it starts. */
int cli_verb_check(const struct cli_verb *verb, const char *line, struct dr_error *err);
/* By name; an error with the nearest name. */
int cli_find_verb(const char *name, const struct cli_verb **ret_verb, struct dr_error *err);

/* The options of a verb, into room for CLI_OPTIONS; returns how many. id is a field_id, or
 * FIELD_COUNT + a cli_option. */
int cli_options(const struct cli_verb *verb, struct option_info *ret_options);

/* Adds the given parts of a model to the data of a request. 0 or DR_ENOMEM. */
int cli_add_parts(const struct cli_call *call, json_t *data);

/* The other way: where the path of an error is an option ("--cfg", "-W"), it becomes the field. */
void cli_name_field(const struct cli_verb *verb, struct dr_error *err);

/* The exit status of a mistake in the command line or the configuration. */
int cli_mistake_status(int code);
/* Of what failed later. Names the option in err as cli_name_option does. */
int cli_failure_status(const struct cli_call *call, int code, struct dr_error *err);

/* The program: runs a command line, returns the exit status. */
int cli_main(int argc, char **argv);

#endif
