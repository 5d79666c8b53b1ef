/* fuzz_options.c - libFuzzer target: a command line, one argument a line, the first one a verb.
 *
 * Options are read by the verb's own table. Those that are fields of a request must print as JSON
 * that reads as the same request: what the command line takes the worker takes. */
#include "testing/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "cli/cli.h"

enum { ARGUMENTS = 64 };

struct taker {
    struct request request;
    char *const *argv;
    int argc;
};

static bool is_argument(const struct taker *t, const char *value)
{
    for (int i = 0; i < t->argc; i++)
        if (value >= t->argv[i] && value <= t->argv[i] + strlen(t->argv[i]))
            return true;
    return false;
}

static int take(void *ctx, const struct option_info *o, const char *value, struct dr_error *err)
{
    struct taker *t = ctx;
    FUZZ_MUST(!value || is_argument(t, value));
    if (!o)
        return 0;
    FUZZ_MUST((value != NULL) == (o->value != NULL));
    if (o->id >= FIELD_COUNT)
        return 0;
    const char *text = value ? value : strncmp(o->name, "no-", 3) ? "true" : "false";
    return request_set_text(&t->request, (enum field_id)o->id, text, err);
}

static void dump(const json_t *value, struct buf *dst)
{
    buf_init(dst, DR_TAG_TEST, 0);
    FUZZ_MUST(value && !jx_dump(value, dst));
}

static void must_survive(const struct request *request)
{
    struct request again;
    struct dr_error err = { 0 };
    struct buf first, second;
    json_t *printed = request_json(request);
    dump(printed, &first);
    int r = request_parse(printed, "data", NULL, &again, &err);
    FUZZ_MUST_SAY(!r, err.text);
    json_t *twice = request_json(&again);
    dump(twice, &second);
    FUZZ_MUST_SAY(!strcmp(buf_text(&first), buf_text(&second)), buf_text(&second));
    json_decref(printed);
    json_decref(twice);
    buf_free(&first);
    buf_free(&second);
    request_free(&again);
}

static void run(const struct cli_verb *verb, int argc, char *const *argv)
{
    struct option_info options[CLI_OPTIONS];
    struct dr_error err = { 0 };
    struct taker t = { .argv = argv, .argc = argc };
    int n = cli_options(verb, options);
    request_init(&t.request);
    int r = options_parse(options, n, argc, argv, take, &t, NULL, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST_SAY(err.text[0] == '-', err.text);
    } else {
        must_survive(&t.request);
    }
    request_free(&t.request);
    /* with a list of errors it goes on to the end */
    struct error_list *list = calloc(1, sizeof *list);
    FUZZ_MUST(list);
    int s = options_parse(options, n, argc, argv, take, &t, list, &err);
    FUZZ_MUST_SAY(!s, err.text);
    FUZZ_MUST((error_list_count(list) > 0) == (r < 0));
    free(list);
    request_free(&t.request);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct cli_verb *verb;
    struct dr_error err = { 0 };
    char *text = fuzz_text(bytes, n), *rest = text, *argv[ARGUMENTS + 1] = { NULL };
    char *line = fuzz_line(&rest);
    int argc = 0, r = cli_find_verb(line ? line : "", &verb, &err);
    while (argc < ARGUMENTS && (line = fuzz_line(&rest)))
        argv[argc++] = line;
    if (r)
        fuzz_must_explain(r, &err);
    else if (!verb->raw)
        run(verb, argc, argv);
    free(text);
    fuzz_must_be_clean();
    return 0;
}
