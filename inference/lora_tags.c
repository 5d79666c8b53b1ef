/* lora_tags.c - see lora_tags.h.
 *
 * The tags are AUTOMATIC1111's (modules/extra_networks.py, extensions-builtin/Lora):
 * <lora:NAME:TEXT:UNET>, the second strength that of the first if it is not given, both 1 without;
 * te= and unet= name them. `lyco` is the name of an extension for the same files.
 */
#include "inference/lora_tags.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "conditioning/prompt_language.h"
#include "inference/preset.h"

enum { SHOWN = 60 };

static int refuse(enum field_id id, const char *tag, size_t n, const char *expected,
                  struct dr_error *err)
{
    char got[SHOWN + 8];
    size_t cut = n > SHOWN ? utf8_valid_prefix(tag, SHOWN) : n;
    snprintf(got, sizeof got, "%.*s%s", (int)cut, tag, n > cut ? "..." : "");
    return dr_fail_field(err, DR_EINVAL, field_info(id)->name, got, expected, NULL);
}

/* The bytes of a tag at `at`, "<word:something>", and of its word; 0: there is none. */
static size_t tag_at(const char *at, size_t *ret_word)
{
    size_t word = *at == '<' ? strspn(at + 1, "abcdefghijklmnopqrstuvwxyz") : 0;
    if (!word || at[1 + word] != ':')
        return 0;
    size_t rest = strcspn(at + 2 + word, ">");
    *ret_word = word;
    return rest && at[2 + word + rest] == '>' ? word + rest + 3 : 0;
}

/* The strength for the text encoders, and for the UNet: NAN, that of the text. */
struct strengths {
    double text, unet;
};

/* One argument behind the name, number `position` of those without a name of their own. */
static bool read_strength(const char *at, size_t n, int *io_position, struct strengths *io)
{
    static const char *const names[] = { "te=", "unet=" };
    int which = -1;
    for (int i = 0; i < 2; i++)
        if (!strncmp(at, names[i], strlen(names[i])))
            which = i;
    size_t skip = which < 0 ? 0 : strlen(names[which]);
    if (which < 0)
        which = (*io_position)++;
    return which < 2 && n > skip &&
           prompt_number(at + skip, n - skip, which ? &io->unet : &io->text);
}

/* The arguments of a tag, without its word: NAME[:TEXT[:UNET]]. */
static int add_lora(struct request *q, enum field_id id, const char *tag, size_t n,
                    const char *args, size_t n_args, struct dr_error *err)
{
    struct strengths s = { .text = 1, .unet = NAN };
    size_t name = 0;
    int position = 0;
    while (name < n_args && args[name] != ':')
        name++;
    for (size_t at = name; name && at < n_args;) {
        size_t part = ++at;
        while (at < n_args && args[at] != ':')
            at++;
        if (!read_strength(args + part, at - part, &position, &s))
            return refuse(id, tag, n, "<lora:NAME>, <lora:NAME:STRENGTH> or <lora:NAME:TEXT:UNET>",
                          err);
    }
    if (!name)
        return refuse(id, tag, n, "<lora:NAME:STRENGTH>", err);
    struct buf spec;
    buf_init(&spec, DR_TAG_JOB, 2 * n + 128);
    int r = 0;
    for (size_t i = 0; !r && i < name; i++)
        r = args[i] == ',' ? buf_puts(&spec, ",,") : buf_putc(&spec, args[i]);
    if (!r)
        r = buf_printf(&spec, ",strength=%.9g,text_strength=%.9g", isnan(s.unet) ? s.text : s.unet,
                       s.text);
    r = r ? dr_fail(err, r, "out of memory for a LoRA tag")
          : request_set_text(q, FIELD_loras, buf_text(&spec), err);
    buf_free(&spec);
    return r;
}

static int read_tag(struct request *q, enum field_id id, const char *at, size_t n, size_t word,
                    bool *ret_taken, struct dr_error *err)
{
    bool lora = word == 4 && (!strncmp(at + 1, "lora", 4) || !strncmp(at + 1, "lyco", 4));
    *ret_taken = lora;
    if (word == 8 && !strncmp(at + 1, "hypernet", 8))
        return refuse(id, at, n, "no hypernetwork, which cannot be used here", err);
    if (lora && (id == FIELD_negative_prompt || id == FIELD_negative_prompt_2))
        return refuse(id, at, n, "LoRA tags in the prompt: they change both", err);
    return lora ? add_lora(q, id, at, n, at + word + 2, n - word - 3, err) : 0;
}

/* Takes the tags out of one text. */
static int apply(struct request *q, enum field_id id, struct dr_error *err)
{
    const char *text = request_text(q, id);
    struct buf left;
    bool any = false;
    int r = 0;
    buf_init(&left, DR_TAG_JOB, REQUEST_PROMPT_BYTES + 1);
    for (size_t n; !r && *text; text += n) {
        size_t word = 0, tag = tag_at(text, &word);
        bool taken = false;
        n = tag ? tag : 1;
        if (tag && (r = read_tag(q, id, text, tag, word, &taken, err)) < 0)
            break;
        any |= taken;
        if (!taken && (r = buf_append(&left, text, n)) < 0)
            dr_fail(err, r, "out of memory for a prompt");
    }
    if (!r && any)
        r = request_set_text(q, id, buf_text(&left), err);
    buf_free(&left);
    return r;
}

int lora_tags_apply(struct request *io_q, struct dr_error *err)
{
    static const enum field_id fields[] = { FIELD_prompt, FIELD_prompt_2, FIELD_negative_prompt,
                                            FIELD_negative_prompt_2 };
    const struct preset *preset;
    const struct prompt_language *language;
    int r = preset_find(request_text(io_q, FIELD_preset), &preset, err);
    if (r < 0)
        return r;
    language = prompt_language_find(request_has(io_q, FIELD_prompt_syntax)
                                        ? request_text(io_q, FIELD_prompt_syntax)
                                        : preset->language);
    if (!language || !language->tags)
        return 0; /* a language that there is not is refused where it is needed */
    for (size_t i = 0; !r && i < sizeof fields / sizeof *fields; i++)
        if (request_has(io_q, fields[i]))
            r = apply(io_q, fields[i], err);
    return r;
}
