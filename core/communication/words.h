/* words.h - lists of words in the tables of this folder: separated by single spaces. */
#ifndef DR_CORE_COMMUNICATION_WORDS_H
#define DR_CORE_COMMUNICATION_WORDS_H

#include <stdbool.h>
#include <string.h>

static inline bool word_in(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && !memcmp(p, word, n))
            return true;
        p += len;
        p += *p == ' ';
    }
    return false;
}

#endif
