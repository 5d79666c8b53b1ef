/* unicode.h - what the reference tokenizer takes each Unicode scalar value for.
 *
 * The reference (tokenizers 0.23) carries tables of several Unicode versions at once: it composes
 * by a version of about 9 and lower-cases and classifies by 16. No library agrees with that
 * mixture, so share/tokenizers/unicode.tbl.zst records its answers for all 1,112,064 scalar
 * values (tools/make_unicode_table/). utf8proc composes, but only runs of characters that the
 * table says can compose: Unicode promises that these never change, so any utf8proc since Unicode
 * 9 gives the same result, and characters unknown to the reference pass through as they do there.
 *
 * The file, little-endian: "DRUT", version 1, number of blocks, number of lower-case entries; for
 * each 256 scalars the number of their block (u16); the blocks, a byte of flags per scalar; the
 * lower-case entries {from, to, second or 0} (u32) in ascending order.
 */
#ifndef DR_MODELS_TOKENIZERS_UNICODE_H
#define DR_MODELS_TOKENIZERS_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum uni_flag {
    UNI_CLASS = 3,    /* mask: one of enum uni_class */
    UNI_COLLAPSE = 4, /* white space that becomes one " " */
    UNI_WORD = 8,     /* \w beside an added token that must be a single word */
    UNI_STRIP = 16,   /* \s beside an added token that strips its surroundings */
    UNI_NFC = 32,     /* changes, moves or joins in composition */
    UNI_LOWER = 64    /* has a lower-case entry */
};

enum uni_class { UNI_OTHER, UNI_LETTER, UNI_NUMBER, UNI_SPACE };

enum { UNI_SCALARS = 0x110000, UNI_BLOCK = 256 };

struct uni_lower {
    uint32_t from, to, second; /* second: 0 when one scalar replaces it */
};

struct uni {
    uint8_t *blocks;         /* [n_blocks][UNI_BLOCK] */
    struct uni_lower *lower; /* [n_lower], ascending */
    uint32_t n_blocks, n_lower;
    uint16_t index[UNI_SCALARS / UNI_BLOCK];
};

/* The shipped table; uni_free it. */
int uni_open(struct uni **ret_uni, struct dr_error *err);

/* A table from bytes, which may be anything; `what` names them in errors. */
int uni_parse(const void *bytes, size_t n, const char *what, struct uni **ret_uni,
              struct dr_error *err);
void uni_free(struct uni *uni);

static inline unsigned uni_flags(const struct uni *uni, uint32_t scalar)
{
    return uni->blocks[(size_t)uni->index[scalar / UNI_BLOCK] * UNI_BLOCK + scalar % UNI_BLOCK];
}

/* Appends the text (valid UTF-8) composed, with white space collapsed, in lower case. Time is
 * linear. DR_ENOMEM or DR_ELIMIT of dst. */
int uni_normalize(const struct uni *uni, const char *text, size_t len, struct buf *dst);

#endif
