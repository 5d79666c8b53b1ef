/* fuzz_config.c - libFuzzer target: any bytes as the configuration file (YAML). Entries have keys
 * of their own, follow each other down the lines and survive being written and read again; taken
 * as settings, a mistake is an error with its line. */
#include "testing/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/settings.h"
#include "core/communication/model_folders.h"

static const char name[] = "input.yaml";

/* "input.yaml:12: " */
static bool has_line(const char *text)
{
    size_t n = sizeof name - 1;
    size_t digits = !strncmp(text, name, n) && text[n] == ':' ? strspn(text + n + 1, "0123456789")
                                                              : 0;
    return digits && !strncmp(text + n + 1 + digits, ": ", 2);
}

/* YAML's double-quoted style, all of it in ASCII. */
static void put_quoted(struct buf *dst, const char *text)
{
    uint32_t scalar;
    int r = buf_putc(dst, '"');
    for (size_t n = strlen(text), at = 0, used; at < n; at += used) {
        used = utf8_decode(text + at, n - at, &scalar);
        FUZZ_MUST(used);
        if (scalar < 0x20 || scalar > 0x7e || scalar == '"' || scalar == '\\')
            r |= buf_printf(dst, "\\U%08x", (unsigned)scalar);
        else
            r |= buf_putc(dst, (char)scalar);
    }
    FUZZ_MUST(!r && !buf_putc(dst, '"'));
}

/* Entry i belongs to the list of the one before it. */
static bool more_of_list(const struct config_entry *e, size_t i)
{
    return i && e->listed && !strcmp(e->key, e[-1].key);
}

static void must_survive(const struct config *c)
{
    struct buf text;
    struct config again;
    struct dr_error err = { 0 };
    buf_init(&text, DR_TAG_TEST, 0);
    for (size_t i = 0; i < c->count; i++) {
        const struct config_entry *e = &c->entries[i];
        if (!more_of_list(e, i)) {
            FUZZ_MUST(!buf_puts(&text, "? ")); /* a key that may be long */
            put_quoted(&text, e->key);
            FUZZ_MUST(!buf_puts(&text, e->listed ? "\n:\n" : "\n: "));
        }
        FUZZ_MUST(!buf_puts(&text, e->listed ? "  - " : ""));
        put_quoted(&text, c->entries[i].value);
        FUZZ_MUST(!buf_putc(&text, '\n'));
    }
    if (text.len <= CONFIG_MAX_BYTES) {
        int r = config_parse(buf_text(&text), text.len, name, &again, &err);
        FUZZ_MUST_SAY(!r, err.text);
        FUZZ_MUST(again.count == c->count);
        for (size_t i = 0; i < c->count; i++) {
            FUZZ_MUST(!strcmp(again.entries[i].key, c->entries[i].key));
            FUZZ_MUST(!strcmp(again.entries[i].value, c->entries[i].value));
        }
        config_free(&again);
    }
    buf_free(&text);
}

static void check_entries(const struct config *c, const char *text, size_t n)
{
    int lines = 1, before = 1;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n' || text[i] == '\r' || !strncmp(text + i, "\xc2\x85", 2) ||
                 !strncmp(text + i, "\xe2\x80\xa8", 3) || !strncmp(text + i, "\xe2\x80\xa9", 3);
    FUZZ_MUST(c->count <= CONFIG_MAX_ENTRIES);
    for (size_t i = 0; i < c->count; i++) {
        const struct config_entry *e = &c->entries[i];
        FUZZ_MUST(e->key[0] && (more_of_list(e, i) || config_find(c, e->key) == e));
        FUZZ_MUST(e->line >= before && e->line <= lines);
        FUZZ_MUST(!e->null || !e->value[0]);
        before = e->line;
    }
}

static void take_settings(const struct config *c)
{
    struct cli_call call = { .verb = &cli_generate };
    struct dr_error err = { 0 };
    request_init(&call.request);
    int r = settings_take(&call, c, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST_SAY(has_line(err.text), err.text);
    }
    request_free(&call.request);
    dr_free(call.threads);
    dr_free(call.output);
    dr_free(call.cache);
    dr_free(call.cache_limit);
    dr_free(call.model);
    unsetenv("DARKROOM_MODELS");
    for (int i = 0; i < MODEL_FOLDERS; i++)
        unsetenv(model_folder((enum model_folder)i)->variable);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct config config;
    struct dr_error err = { 0 };
    char *text = fuzz_text(bytes, n);
    int r = config_parse(text, n, name, &config, &err);
    if (r) {
        fuzz_must_explain(r, &err);
        FUZZ_MUST_SAY(!strncmp(err.text, name, sizeof name - 1), err.text);
    } else {
        check_entries(&config, text, n);
        must_survive(&config);
        take_settings(&config);
        config_free(&config);
    }
    free(text);
    fuzz_must_be_clean();
    return 0;
}
