/* prompt_editing.c - see prompt_editing.h. */
#include "conditioning/prompt_editing.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "conditioning/prompt_language.h"

/* A bracket that is open. Its separators are those bounds from `part` on that lie in it and in no
 * bracket inside it. */
struct open {
    size_t at;
    size_t bounds;  /* how many there were before it */
    size_t choices; /* the same */
    int colons, pipes;
    size_t last; /* the last separator */
};

struct editing_reading {
    const char *text;
    int steps;
    struct prompt_editing e;
    size_t cap, bound_cap;
    struct open open[PROMPT_DEPTH];
    int depth;
    bool stray; /* a character that is text in no place of the grammar */
};

/* p with room for n + more elements of that size. */
static void *room(void *p, size_t n, size_t more, size_t *cap, size_t size)
{
    if (n + more <= *cap)
        return p;
    size_t wanted = *cap ? 2 * *cap : 32;
    while (wanted < n + more)
        wanted *= 2;
    void *larger = dr_realloc(DR_TAG_JOB, p, wanted * size);
    if (larger)
        *cap = wanted;
    return larger;
}

/* "12", "0.5", "+.5", "1e1" in [from, to), blanks around it. Steps as the reference counts them:
 * with a point, a fraction. */
static bool read_when(const struct editing_reading *k, size_t from, size_t to, int *ret)
{
    char number[40], *end;
    const char *s = k->text;
    while (from < to && isspace((unsigned char)s[from]))
        from++;
    while (to > from && isspace((unsigned char)s[to - 1]))
        to--;
    size_t n = to - from;
    if (!n || n >= sizeof number || strspn(s + from, "+-.0123456789eE") < n)
        return false;
    memcpy(number, s + from, n);
    number[n] = '\0';
    double v = strtod(number, &end);
    if (*end || end == number)
        return false;
    v *= memchr(number, '.', n) ? k->steps : 1;
    *ret = v >= k->steps ? k->steps : v <= -1 ? -1 : (int)v;
    return true;
}

static int add_choice(struct editing_reading *k, const struct open *o, size_t end, bool alternates,
                      int when, struct dr_error *err)
{
    struct prompt_editing *e = &k->e;
    struct prompt_choice *more = room(e->choice, e->n, 1, &k->cap, sizeof *more);
    if (!more)
        return dr_fail(err, DR_ENOMEM, "out of memory for a prompt");
    e->choice = more;
    e->choice[e->n++] = (struct prompt_choice){
        .begin = o->at, .end = end + 1, .part = o->bounds, .alternates = alternates, .when = when
    };
    return 0;
}

static int add_bound(struct editing_reading *k, size_t at, struct dr_error *err)
{
    struct prompt_editing *e = &k->e;
    size_t *more = room(e->bounds, e->n_bounds, 1, &k->bound_cap, sizeof *more);
    if (!more)
        return dr_fail(err, DR_ENOMEM, "out of memory for a prompt");
    e->bounds = more;
    e->bounds[e->n_bounds++] = at;
    return 0;
}

/* Brackets that are open are none: what they hold is text. */
static void give_up(struct editing_reading *k)
{
    while (k->depth)
        k->stray |= k->open[--k->depth].pipes > 0;
}

static int opens(struct editing_reading *k, size_t at, const char *field, struct dr_error *err)
{
    if (k->depth == PROMPT_DEPTH)
        return dr_fail_field(err, DR_ELIMIT, field, "brackets inside more brackets",
                             "256 levels at most", NULL);
    k->open[k->depth++] = (struct open){ at, k->e.n_bounds, k->e.n, 0, 0, at };
    return 0;
}

/* The separators of a bracket with those of the brackets inside it between them are in text order
 * already; what is inside was closed and has bounds of its own. So a choice finds its own by
 * walking over the choices inside it. */
static int closes(struct editing_reading *k, size_t at, struct dr_error *err)
{
    char kind = k->text[at];
    const struct open *o = k->depth ? &k->open[k->depth - 1] : NULL;
    bool round = kind == ')';
    int when = 0, r = 0;
    if (!o || (k->text[o->at] == '(') != round || (round && (o->pipes || o->colons > 1))) {
        give_up(k);
        return 0;
    }
    bool choice = !round && (o->pipes || o->colons);
    bool valid = !choice ||
                 (o->pipes ? !o->colons : o->colons <= 2 && read_when(k, o->last + 1, at, &when));
    if (!valid) {
        give_up(k);
        return 0;
    }
    if (choice)
        r = add_choice(k, o, at, o->pipes > 0, when, err);
    k->depth--;
    return r;
}

static int separates(struct editing_reading *k, size_t at, struct dr_error *err)
{
    struct open *o = k->depth ? &k->open[k->depth - 1] : NULL;
    bool pipe = k->text[at] == '|';
    if (!o) {
        k->stray |= pipe;
        return 0;
    }
    o->pipes += pipe;
    o->colons += !pipe;
    o->last = at;
    return k->text[o->at] == '[' ? add_bound(k, at, err) : 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct prompt_choice *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Gives each choice its own separators: a walk over all of them in text order with the choices that
 * are open on a stack. */
static int settle_bounds(struct prompt_editing *e, struct dr_error *err)
{
    size_t open[PROMPT_DEPTH], depth = 0, next = 0, total = 0, b = 0;
    size_t *own = dr_malloc(DR_TAG_JOB, (e->n_bounds + e->n + 1) * sizeof *own);
    if (!own)
        return dr_fail(err, DR_ENOMEM, "out of memory for a prompt");
    /* how many each has, then where they begin, then the separators themselves */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < e->n; i++) {
            if (pass) {
                size_t parts = (size_t)e->choice[i].parts;
                e->choice[i].part = total;
                own[total] = e->choice[i].begin;
                total += parts + 1;
            }
            e->choice[i].parts = 0;
        }
        for (b = next = depth = 0; b < e->n_bounds; b++) {
            size_t at = e->bounds[b];
            for (; next < e->n && e->choice[next].begin < at; next++) {
                while (depth && e->choice[open[depth - 1]].end <= e->choice[next].begin)
                    depth--;
                open[depth++] = next;
            }
            while (depth && e->choice[open[depth - 1]].end <= at)
                depth--;
            struct prompt_choice *c = depth ? &e->choice[open[depth - 1]] : NULL;
            if (!c)
                continue;
            c->parts++;
            if (pass)
                own[c->part + (size_t)c->parts] = at;
        }
    }
    dr_free(e->bounds);
    e->bounds = own;
    e->n_bounds = total;
    return 0;
}

int prompt_editing_read(const char *field, const char *text, int steps, struct prompt_editing *ret,
                        struct dr_error *err)
{
    struct editing_reading k = { .text = text, .steps = steps, .e = { .text = text } };
    int r = 0;
    for (size_t i = 0; !r && text[i]; i++) {
        char c = text[i];
        if (c == '\\') {
            k.stray |= !text[i + 1] || text[i + 1] == '\n';
            i += text[i + 1] != '\0';
        } else if (c == '(' || c == '[') {
            r = opens(&k, i, field, err);
        } else if (c == ')' || c == ']') {
            r = closes(&k, i, err);
        } else if (c == ':' || c == '|') {
            r = separates(&k, i, err);
        }
    }
    give_up(&k);
    if (!r && k.stray) {
        k.e.stray = k.e.n > 0;
        k.e.n = 0;
    }
    if (!r && k.e.n) {
        qsort(k.e.choice, k.e.n, sizeof *k.e.choice, by_begin);
        r = settle_bounds(&k.e, err);
    }
    if (r < 0)
        prompt_editing_release(&k.e);
    else
        *ret = k.e;
    return r;
}

void prompt_editing_release(struct prompt_editing *e)
{
    dr_free(e->choice);
    dr_free(e->bounds);
    memset(e, 0, sizeof *e);
}

/* The part of a choice that is read at a step: [*ret_from, *ret_to), which may be empty. */
static void part_at(const struct prompt_editing *e, const struct prompt_choice *c, int step,
                    size_t *ret_from, size_t *ret_to)
{
    const size_t *bound = e->bounds + c->part;
    int separators = c->parts, which;
    if (c->alternates)
        which = (step - 1) % (separators + 1);
    else if (separators == 2)
        which = step > c->when;
    else if (step > c->when) /* [to:when] */
        which = 0;
    else
        which = -1;
    if (which < 0) {
        *ret_from = *ret_to = c->end;
        return;
    }
    *ret_from = bound[which] + 1;
    *ret_to = which < separators ? bound[which + 1] : c->end - 1;
}

int prompt_editing_at(const struct prompt_editing *e, int step, struct buf *dst)
{
    size_t resume[PROMPT_DEPTH], until[PROMPT_DEPTH], depth = 0, at = 0, next = 0;
    size_t end = strlen(e->text);
    int r = 0;
    while (!r) {
        size_t stop = depth ? until[depth - 1] : end;
        while (next < e->n && e->choice[next].begin < at) /* in parts that are not read */
            next++;
        bool choice = next < e->n && e->choice[next].begin < stop;
        size_t to = choice ? e->choice[next].begin : stop;
        r = buf_append(dst, e->text + at, to - at);
        if (choice) {
            const struct prompt_choice *c = &e->choice[next++];
            resume[depth] = c->end;
            part_at(e, c, step, &at, &until[depth++]);
        } else if (depth) {
            at = resume[--depth];
        } else {
            break;
        }
    }
    return r;
}

void prompt_editing_changes(const struct prompt_editing *e, int steps, bool *change)
{
    for (size_t i = 0; i < e->n; i++) {
        const struct prompt_choice *c = &e->choice[i];
        for (int s = 1; c->alternates && s <= steps; s++)
            change[s] = true;
        if (!c->alternates && c->when >= 1)
            change[c->when] = true;
    }
}
