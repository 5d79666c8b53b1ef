/* darkroom_worker.c - the engine as a program: options to JSON, then the main loop. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/standard.h"
#include "base/path_text.h"
#include "base/size_text.h"
#include "coordination/ml_worker_direct.h"
#include "coordination/signals.h"

static const char usage[] =
    "usage: darkroom-worker [OPTION]...\n"
    "Reads requests as JSON lines from stdin, writes answers as JSON lines to stdout, logs to "
    "stderr.\n"
    "\n"
    "  -r, --root DIR          folder in which requests may read and write files (repeatable;\n"
    "                          none: base64 only)\n"
    "  -M, --models DIR        folder in which models must lie (repeatable; none: anywhere)\n"
    "  -t, --threads N         threads (default: all cores this process may use)\n"
    "  -k, --kernels NAME      kernel set (default: the best of this machine)\n"
    "      --queue N           most requests waiting (default: 64)\n"
    "      --memory-limit SIZE most memory a job may be planned to use (default: 3/4 of what\n"
    "                          is free)\n"
    "      --cache DIR         folder for packed weights (default: ~/.cache/darkroom/weights)\n"
    "      --cache-limit SIZE  most space they may take there (default: 32G; 0: no cache)\n"
    "      --grace SECONDS     time that the running job has after SIGTERM (default: 10)\n"
    "      --log-json          log as JSON lines\n"
    "  -h, --help              show this help\n"
    "  -V, --version           show the version\n"
    "\n"
    "SIZE is 64G, 1.5G, 500M, 20GB or bytes: G is 2^30 bytes, GB 10^9. DARKROOM_MODELS lists "
    "folders,\n"
    "with ':' between, in which models are also looked for by name. DARKROOM_LOG sets the log "
    "level:\n"
    "off, error, warn (default), info or debug.\n";

enum { OPT_QUEUE = 256, OPT_MEMORY, OPT_CACHE, OPT_CACHE_LIMIT, OPT_GRACE, OPT_LOG_JSON };

enum { GRACE_SECONDS = 10, GRACE_MOST = 1000000 };

static const struct option options[] = {
    { "root", required_argument, NULL, 'r' },
    { "models", required_argument, NULL, 'M' },
    { "threads", required_argument, NULL, 't' },
    { "kernels", required_argument, NULL, 'k' },
    { "queue", required_argument, NULL, OPT_QUEUE },
    { "memory-limit", required_argument, NULL, OPT_MEMORY },
    { "cache", required_argument, NULL, OPT_CACHE },
    { "cache-limit", required_argument, NULL, OPT_CACHE_LIMIT },
    { "grace", required_argument, NULL, OPT_GRACE },
    { "log-json", no_argument, NULL, OPT_LOG_JSON },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static int add_text(json_t *o, const char *list, const char *text)
{
    json_t *array = json_object_get(o, list);
    if (!array) {
        array = json_array();
        if (jx_set(o, list, array) < 0)
            return DR_ENOMEM;
    }
    return jx_add(array, path_text_json(text));
}

/* A size in bytes; complains and returns false otherwise. */
static bool set_size(json_t *o, const char *name, const char *key, const char *text)
{
    int64_t value;
    if (size_text_read(text, &value))
        return jx_set(o, key, json_integer(value)) == 0;
    fprintf(stderr, "darkroom-worker: --%s: got %s, expected %s\n", name, text, SIZE_TEXT_EXPECTED);
    return false;
}

/* The whole of `text` as a number; complains and returns false otherwise. */
static bool number(const char *name, const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    if (*text && !*end && !errno && *ret >= 0)
        return true;
    fprintf(stderr, "darkroom-worker: --%s: got %s, expected a whole number from 0\n", name, text);
    return false;
}

static bool set_number(json_t *o, const char *name, const char *key, const char *text)
{
    int64_t value;
    return number(name, text, &value) && jx_set(o, key, json_integer(value)) == 0;
}

static bool set_grace(const char *text, int64_t *ret_grace)
{
    if (!number("grace", text, ret_grace))
        return false;
    if (*ret_grace > GRACE_MOST)
        *ret_grace = GRACE_MOST;
    return true;
}

/* The exit status of a program that printed what was asked for. */
static int printed(void)
{
    if (!fflush(stdout) || errno == EPIPE)
        return 0;
    fprintf(stderr, "darkroom-worker: cannot write to stdout: %s\n", strerror(errno));
    return 1;
}

/* -1: go on; else the exit status. */
static int read_option(int c, json_t *o, int64_t *grace)
{
    switch (c) {
    case 'r':
        return add_text(o, "roots", optarg) < 0 ? 1 : -1;
    case 'M':
        return add_text(o, "models", optarg) < 0 ? 1 : -1;
    case 't':
        return set_number(o, "threads", "threads", optarg) ? -1 : 2;
    case 'k':
        return jx_set(o, "kernels", json_string(optarg)) < 0 ? 1 : -1;
    case OPT_QUEUE:
        return set_number(o, "queue", "queue", optarg) ? -1 : 2;
    case OPT_MEMORY:
        return set_size(o, "memory-limit", "memory_limit", optarg) ? -1 : 2;
    case OPT_CACHE:
        return jx_set(o, "cache", path_text_json(optarg)) < 0 ? 1 : -1;
    case OPT_CACHE_LIMIT:
        return set_size(o, "cache-limit", "cache_limit", optarg) ? -1 : 2;
    case OPT_GRACE:
        return set_grace(optarg, grace) ? -1 : 2;
    case OPT_LOG_JSON:
        dr_log_json(true);
        return -1;
    case 'h':
        fputs(usage, stdout);
        return printed();
    case 'V':
        puts("darkroom-worker " DR_VERSION);
        return printed();
    default:
        fputs("try darkroom-worker --help\n", stderr);
        return 2;
    }
}

int main(int argc, char **argv)
{
    dr_standard_open();
    signals_catch();
    if (!dr_standard_output()) {
        fputs("darkroom-worker: stdout is closed or not open for writing\n", stderr);
        return 1;
    }
    jx_init();
    json_t *o = json_object();
    int64_t grace = GRACE_SECONDS;
    int c, status = -1;
    while (status < 0 && (c = getopt_long(argc, argv, "r:M:t:k:hV", options, NULL)) != -1)
        status = read_option(c, o, &grace);
    if (status < 0 && optind < argc) {
        fprintf(stderr,
                "darkroom-worker: unexpected argument '%s', expected options only (see "
                "darkroom-worker --help)\n",
                argv[optind]);
        status = 2;
    }
    if (status < 0) {
        char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        status = text ? ml_worker_direct(text, (double)grace) : 1;
        dr_free(text);
    }
    json_decref(o);
    return status;
}
