/* The checker of tiny_checker.h. */
#include "testing/helpers/tiny_checker.h"

#include <complex.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"

enum { COLOURS = 8, SHAPES = 6, RING = 5, FEATURES = 5, PIECES_MAX = 16 };

static const struct {
    const char *name;
    int rgb[3];
} palette[COLOURS] = {
    { "red", { 220, 30, 30 } },     { "green", { 30, 160, 60 } },   { "blue", { 40, 70, 220 } },
    { "yellow", { 245, 215, 40 } }, { "purple", { 155, 60, 200 } }, { "orange", { 250, 130, 20 } },
    { "black", { 20, 20, 20 } },    { "white", { 245, 245, 245 } },
};

/* Moments, and area over squared radius, of the shapes as the training drew them. */
static const struct {
    const char *name;
    double moments[FEATURES];
    double area;
} ideals[SHAPES] = {
    { "circle", { 0.637, 0, 0, 0, 0 }, 3.134 },
    { "square", { 0.666, 0, 0.415, 0, 0 }, 2.992 },
    { "triangle", { 0.770, 0.676, 0, 0.082, 0.035 }, 1.822 },
    { "star", { 0.821, 0, 0, 2.275, 0 }, 1.471 },
    { "cross", { 0.790, 0, 0.868, 0, 0 }, 2.167 },
    { "ring", { 1.204, 0, 0, 0, 0 }, 2.168 },
};

static const char *const groups[TINY_GROUP_COUNT] = { "held-out one shape", "held-out two shapes",
                                                      "trained" };

struct piece {
    int colour, shape;
    double x, y, radius; /* fractions of width, height, shorter side */
};

struct scan {
    int64_t width, height, n;
    uint8_t *labels;  /* [height][width] palette indices */
    uint8_t *marks;   /* [height][width] scratch of the fills */
    int64_t *queue;   /* [n] pixels of the piece being looked at */
    int64_t *outside; /* [n] */
};

static int colour_of(const char *name)
{
    for (int i = 0; i < COLOURS; i++)
        if (strcmp(palette[i].name, name) == 0)
            return i;
    return -1;
}

static int shape_of(const char *name)
{
    for (int i = 0; i < SHAPES; i++)
        if (strcmp(ideals[i].name, name) == 0)
            return i;
    return -1;
}

static int want_shapes(const json_t *o, struct tiny_want *w, struct dr_error *err)
{
    json_t *shapes;
    int64_t count = 0;
    int r = jx_get_array(o, "", "shapes", &shapes, err);
    if (r == 0)
        r = jx_opt_int(o, "", "count", 1, TINY_SHAPES_MAX, &count, err);
    if (r != 0)
        return r;
    size_t given = json_array_size(shapes);
    w->count = count != 0 ? (int)count : (int)given;
    if (given == 0 || w->count > TINY_SHAPES_MAX)
        return dr_fail(err, DR_EINVAL, "%s: %zu shapes", w->caption, given);
    for (int i = 0; i < w->count; i++) {
        const json_t *s = json_array_get(shapes, (size_t)i < given ? (size_t)i : given - 1);
        const char *colour, *shape, *size;
        if ((r = jx_get_string(s, "shapes", "colour", &colour, err)) != 0 ||
            (r = jx_get_string(s, "shapes", "shape", &shape, err)) != 0 ||
            (r = jx_get_string(s, "shapes", "size", &size, err)) != 0)
            return r;
        w->shapes[i].colour = colour_of(colour);
        w->shapes[i].shape = shape_of(shape);
        if (w->shapes[i].colour < 0 || w->shapes[i].shape < 0)
            return dr_fail(err, DR_EINVAL, "%s: unknown shape or colour", w->caption);
        if (w->place[0] != '\0')
            snprintf(w->size, sizeof w->size, "%s", size);
    }
    return 0;
}

static int want_of(const json_t *o, struct tiny_want *w, struct dr_error *err)
{
    const char *caption, *group, *background, *place = "", *relation = "";
    int r;
    if ((r = jx_get_string(o, "", "caption", &caption, err)) != 0 ||
        (r = jx_get_string(o, "", "group", &group, err)) != 0 ||
        (r = jx_get_string(o, "", "background", &background, err)) != 0 ||
        (r = jx_opt_string(o, "", "place", &place, err)) != 0 ||
        (r = jx_opt_string(o, "", "relation", &relation, err)) != 0)
        return r;
    *w = (struct tiny_want){ .group = TINY_GROUP_COUNT, .background = colour_of(background) };
    for (int i = 0; i < TINY_GROUP_COUNT; i++)
        if (strcmp(groups[i], group) == 0)
            w->group = (enum tiny_group)i;
    if (w->group == TINY_GROUP_COUNT || w->background < 0)
        return dr_fail(err, DR_EINVAL, "%s: unknown group or background", caption);
    snprintf(w->caption, sizeof w->caption, "%s", caption);
    snprintf(w->place, sizeof w->place, "%s", place);
    snprintf(w->relation, sizeof w->relation, "%s", relation);
    return want_shapes(o, w, err);
}

int tiny_wants_load(const char *path, struct tiny_want **ret_wants, size_t *ret_count,
                    struct dr_error *err)
{
    json_t *doc = NULL, *list;
    struct tiny_want *wants = NULL;
    int r = jx_parse_file(path, NULL, &doc, err);
    if (r == 0)
        r = jx_get_array(doc, "", "captions", &list, err);
    if (r != 0)
        goto out;
    size_t n = json_array_size(list);
    wants = dr_calloc(DR_TAG_TEST, n, sizeof *wants);
    if (wants == NULL) {
        r = dr_fail(err, DR_ENOMEM, "no memory for %zu captions", n);
        goto out;
    }
    for (size_t i = 0; i < n && r == 0; i++)
        r = want_of(json_array_get(list, i), &wants[i], err);
    if (r == 0) {
        *ret_wants = wants;
        *ret_count = n;
        wants = NULL;
    }
out:
    dr_free(wants);
    json_decref(doc);
    return r;
}

static void scan_free(struct scan *s)
{
    dr_free(s->labels);
    dr_free(s->marks);
    dr_free(s->queue);
    dr_free(s->outside);
}

static int scan_new(const struct dr_image *image, struct scan *ret_scan)
{
    struct scan s = { .width = image->width,
                      .height = image->height,
                      .n = image->width * image->height };
    s.labels = dr_malloc(DR_TAG_TEST, (size_t)s.n);
    s.marks = dr_malloc(DR_TAG_TEST, (size_t)s.n);
    s.queue = dr_calloc(DR_TAG_TEST, (size_t)s.n, sizeof *s.queue);
    s.outside = dr_calloc(DR_TAG_TEST, (size_t)s.n, sizeof *s.outside);
    if (s.labels == NULL || s.marks == NULL || s.queue == NULL || s.outside == NULL) {
        scan_free(&s);
        return DR_ENOMEM;
    }
    for (int64_t i = 0; i < s.n; i++) {
        const uint8_t *p = image->pixels + i * image->channels;
        int64_t best = INT64_MAX;
        for (int c = 0; c < COLOURS; c++) {
            int64_t d = 0;
            for (int k = 0; k < 3; k++)
                d += (int64_t)(p[k] - palette[c].rgb[k]) * (p[k] - palette[c].rgb[k]);
            if (d < best) {
                best = d;
                s.labels[i] = (uint8_t)c;
            }
        }
    }
    *ret_scan = s;
    return 0;
}

/* The four neighbours of pixel i, -1 where there is none. */
static void neighbours(const struct scan *s, int64_t i, int64_t ret_of[4])
{
    int64_t x = i % s->width;
    ret_of[0] = i >= s->width ? i - s->width : -1;
    ret_of[1] = i + s->width < s->n ? i + s->width : -1;
    ret_of[2] = x > 0 ? i - 1 : -1;
    ret_of[3] = x + 1 < s->width ? i + 1 : -1;
}

/* Fills from `first` over pixels of its colour that have no mark; they get mark 1. Returns how many
 * there are; their numbers are in queue. */
static int64_t fill(struct scan *s, int64_t first)
{
    int64_t n = 0, of[4];
    s->marks[first] = 1;
    s->queue[n++] = first;
    for (int64_t at = 0; at < n; at++) {
        neighbours(s, s->queue[at], of);
        for (int k = 0; k < 4; k++)
            if (of[k] >= 0 && s->marks[of[k]] == 0 && s->labels[of[k]] == s->labels[first]) {
                s->marks[of[k]] = 1;
                s->queue[n++] = of[k];
            }
    }
    return n;
}

/* Pixels of the piece (mark 2) whose four neighbours all belong to it. */
static int64_t core(const struct scan *s, int64_t n)
{
    int64_t inside = 0, of[4];
    for (int64_t i = 0; i < n; i++) {
        int all = 1;
        neighbours(s, s->queue[i], of);
        for (int k = 0; k < 4; k++)
            all &= of[k] >= 0 && s->marks[of[k]] == 2;
        inside += all;
    }
    return inside;
}

/* What the piece (mark 2) encloses, as a fraction of it and its holes. Uses mark bit 4 for the
 * outside. */
static double hole(struct scan *s, int64_t n)
{
    int64_t reached = 0, of[4];
    for (int64_t i = 0; i < s->n; i++) {
        int64_t x = i % s->width, y = i / s->width;
        bool edge = x == 0 || y == 0 || x == s->width - 1 || y == s->height - 1;
        if (edge && s->marks[i] != 2) {
            s->marks[i] |= 4;
            s->outside[reached++] = i;
        }
    }
    for (int64_t at = 0; at < reached; at++) {
        neighbours(s, s->outside[at], of);
        for (int k = 0; k < 4; k++)
            if (of[k] >= 0 && s->marks[of[k]] != 2 && (s->marks[of[k]] & 4) == 0) {
                s->marks[of[k]] |= 4;
                s->outside[reached++] = of[k];
            }
    }
    for (int64_t i = 0; i < s->n; i++)
        s->marks[i] &= 3;
    double enclosed = (double)(s->n - n - reached);
    return enclosed / (enclosed + (double)n);
}

/* Spread, 3-, 4- and 5-fold strength, elongation, each free of place, size and rotation. */
static void moments(const struct scan *s, int64_t n, double cx, double cy, double ret_m[FEATURES])
{
    double scale = 1 / sqrt((double)n), spread = 0;
    double complex sums[6] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        double complex z = ((double)(s->queue[i] % s->width) - cx) * scale +
                           ((double)(s->queue[i] / s->width) - cy) * scale * I;
        spread += creal(z) * creal(z) + cimag(z) * cimag(z);
        double complex power = z;
        for (int k = 2; k < 6; k++) {
            power *= z;
            sums[k] += power;
        }
    }
    double each = 1 / (double)n;
    ret_m[0] = 4 * spread * each;
    ret_m[1] = 10 * cabs(sums[3]) * each;
    ret_m[2] = 25 * cabs(sums[4]) * each;
    ret_m[3] = 60 * cabs(sums[5]) * each;
    ret_m[4] = 10 * cabs(sums[2]) * each;
}

static struct piece describe(struct scan *s, int64_t n)
{
    double cx = 0, cy = 0, m[FEATURES], best = INFINITY;
    struct piece p = { .colour = s->labels[s->queue[0]], .shape = RING };
    for (int64_t i = 0; i < n; i++) {
        cx += (double)(s->queue[i] % s->width);
        cy += (double)(s->queue[i] / s->width);
    }
    cx /= (double)n;
    cy /= (double)n;
    if (hole(s, n) <= 0.12) {
        moments(s, n, cx, cy, m);
        for (int k = 0; k < RING; k++) {
            double d = 0;
            for (int f = 0; f < FEATURES; f++)
                d += (m[f] - ideals[k].moments[f]) * (m[f] - ideals[k].moments[f]);
            if (d < best) {
                best = d;
                p.shape = k;
            }
        }
    }
    double side = (double)(s->width < s->height ? s->width : s->height);
    p.radius = sqrt((double)n / ideals[p.shape].area) / side;
    p.x = (cx + 0.5) / (double)s->width;
    p.y = (cy + 0.5) / (double)s->height;
    return p;
}

/* The colour most of the rim has. */
static int background_of(const struct scan *s)
{
    int64_t votes[COLOURS] = { 0 };
    int best = 0;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t x = i % s->width, y = i / s->width;
        if (x == 0 || y == 0 || x == s->width - 1 || y == s->height - 1)
            votes[s->labels[i]]++;
    }
    for (int c = 1; c < COLOURS; c++)
        if (votes[c] > votes[best])
            best = c;
    return best;
}

/* Large pieces not of the background's colour. A seam between two colours is a line: a shape has a
 * core. */
static int pieces_of(struct scan *s, int background, struct piece found[PIECES_MAX])
{
    int count = 0;
    memset(s->marks, 0, (size_t)s->n);
    for (int64_t i = 0; i < s->n && count < PIECES_MAX; i++) {
        if (s->marks[i] != 0 || s->labels[i] == background)
            continue;
        int64_t n = fill(s, i);
        for (int64_t k = 0; k < n; k++)
            s->marks[s->queue[k]] = 2;
        if ((double)n >= 0.006 * (double)s->n && (double)core(s, n) >= 0.4 * (double)n)
            found[count++] = describe(s, n);
        for (int64_t k = 0; k < n; k++)
            s->marks[s->queue[k]] = 1;
    }
    return count;
}

/* Puts the pieces in the order of the wanted shapes' colours; false when a colour is missing. */
static bool in_order(struct piece *found, const struct tiny_want *want)
{
    for (int i = 0; i < want->count; i++) {
        int k = i;
        while (k < want->count && found[k].colour != want->shapes[i].colour)
            k++;
        if (k == want->count)
            return false;
        struct piece swap = found[i];
        found[i] = found[k];
        found[k] = swap;
    }
    return true;
}

static bool related(const struct piece *first, const struct piece *second, const char *relation)
{
    double dx = second->x - first->x, dy = second->y - first->y;
    bool level = strcmp(relation, "left") == 0 || strcmp(relation, "right") == 0;
    bool turned = strcmp(relation, "right") == 0 || strcmp(relation, "below") == 0;
    double along = (level ? dx : dy) * (turned ? -1 : 1);
    return along >= 0.2 && fabs(level ? dy : dx) <= 0.15;
}

static bool sits_at(const struct piece *p, const char *place)
{
    static const struct {
        const char *name;
        double x, y;
    } places[] = { { "centre", 0.5, 0.5 },
                   { "left", 0.31, 0.5 },
                   { "right", 0.69, 0.5 },
                   { "top", 0.5, 0.31 },
                   { "bottom", 0.5, 0.69 } };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strcmp(places[i].name, place) == 0)
            return fabs(p->x - places[i].x) <= 0.12 && fabs(p->y - places[i].y) <= 0.12;
    return false;
}

static bool has_size(const struct piece *p, const char *size)
{
    if (strcmp(size, "small") == 0)
        return p->radius <= 0.17;
    if (strcmp(size, "big") == 0)
        return p->radius >= 0.235;
    return p->radius >= 0.13 && p->radius <= 0.26;
}

int tiny_shows(const struct dr_image *image, const struct tiny_want *want, char *why,
               size_t why_size)
{
    struct scan s;
    struct piece found[PIECES_MAX];
    if (image->channels != 3)
        return DR_EINVAL;
    int r = scan_new(image, &s);
    if (r != 0)
        return r;
    int background = background_of(&s), count = pieces_of(&s, background, found);
    scan_free(&s);
    why[0] = '\0';
    if (background != want->background)
        snprintf(why, why_size, "background %s", palette[background].name);
    else if (count != want->count)
        snprintf(why, why_size, "%d pieces", count);
    else if (!in_order(found, want))
        snprintf(why, why_size, "colours, %s first", palette[found[0].colour].name);
    else if (want->relation[0] != '\0' && !related(&found[0], &found[1], want->relation))
        snprintf(why, why_size, "not %s", want->relation);
    else if (want->place[0] != '\0' && !sits_at(&found[0], want->place))
        snprintf(why, why_size, "at %.2f %.2f", found[0].x, found[0].y);
    else if (want->size[0] != '\0' && !has_size(&found[0], want->size))
        snprintf(why, why_size, "radius %.2f", found[0].radius);
    for (int i = 0; why[0] == '\0' && i < count; i++)
        if (found[i].shape != want->shapes[i].shape)
            snprintf(why, why_size, "a %s", ideals[found[i].shape].name);
    return why[0] == '\0';
}
