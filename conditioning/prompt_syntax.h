/* prompt_syntax.h - finds prompt syntax of other programs, to warn of it.
 *
 * Weights, LoRA tags, BREAK and the like are instructions in AUTOMATIC1111, ComfyUI, InvokeAI or
 * Midjourney and plain words here. Only unambiguous uses count: parentheses around words of a
 * sentence, "a cat (sitting)", are punctuation and do not, although AUTOMATIC1111 would read them
 * as emphasis; parentheses around a whole item of a comma-separated list do.
 */
#ifndef DR_CONDITIONING_PROMPT_SYNTAX_H
#define DR_CONDITIONING_PROMPT_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

#include "conditioning/prompt_language.h"

/* Looks through n texts (NULL ones are skipped) for what the language does not read. True:
 * ret_warning is one line that quotes an example of each kind that was found. */
bool prompt_syntax(const struct prompt_language *language, const char *const *texts, int n,
                   char *ret_warning, size_t size);

#endif
