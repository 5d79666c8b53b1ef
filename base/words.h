/* words.h - the lists inside the strings of tables: words between separators.
 *
 *     struct dr_word rest = word_all("png|jpeg=jpg|webp"), choice, spelling;
 *     while (word_next(&rest, '|', &choice))            png, jpeg=jpg, webp
 *         while (word_next(&choice, '=', &spelling))    of the second: jpeg, jpg
 */
#ifndef DR_BASE_WORDS_H
#define DR_BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct dr_word {
    const char *at; /* no terminator */
    size_t n;
};

static inline struct dr_word word_all(const char *list)
{
    return (struct dr_word){ list, strlen(list) };
}

/* Takes the first word off *rest; false when nothing is left. */
static inline bool word_next(struct dr_word *rest, char separator, struct dr_word *ret)
{
    if (!rest->n)
        return false;
    const char *end = memchr(rest->at, separator, rest->n);
    size_t n = end ? (size_t)(end - rest->at) : rest->n, taken = n + (end != NULL);
    *ret = (struct dr_word){ rest->at, n };
    rest->at += taken;
    rest->n -= taken;
    return true;
}

/* The first word, all if there is no separator. */
static inline struct dr_word word_first(struct dr_word list, char separator)
{
    struct dr_word first = list;
    word_next(&list, separator, &first);
    return first;
}

static inline bool word_is(struct dr_word word, const char *text)
{
    return strlen(text) == word.n && !memcmp(text, word.at, word.n);
}

static inline bool word_in(const char *list, char separator, const char *text)
{
    struct dr_word rest = word_all(list), word;
    while (word_next(&rest, separator, &word))
        if (word_is(word, text))
            return true;
    return false;
}

#endif
