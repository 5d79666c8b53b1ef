/* brownian_tree.c - see brownian_tree.h. SeedSequence: numpy's bit_generator.pyx, after O'Neill's
 * "Developing a seed_seq alternative" (2015). */
#include "schedulers/brownian_tree.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    POOL = 24,          /* words of entropy that a seed is mixed into */
    ENTROPY = POOL + 4, /* with the place of a node, two words for each of its two numbers */
    DEEPEST = 60        /* far below the tolerance */
};

static const double per_tolerance = 1e6;

/* ---- numpy.random.SeedSequence ---- */

static uint32_t hash_word(uint32_t value, uint32_t *constant)
{
    value ^= *constant;
    *constant *= 0x931e8875u;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mix_words(uint32_t x, uint32_t y)
{
    uint32_t mixed = 0xca01f9ddu * x - 0x4973f715u * y;
    return mixed ^ mixed >> 16;
}

static void mix_pool(const uint32_t *entropy, int n, uint32_t pool[POOL])
{
    uint32_t constant = 0x43b0d7e5u;
    for (int i = 0; i < POOL; i++)
        pool[i] = hash_word(i < n ? entropy[i] : 0, &constant);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to)
                pool[to] = mix_words(pool[to], hash_word(pool[from], &constant));
    for (int from = POOL; from < n; from++)
        for (int to = 0; to < POOL; to++)
            pool[to] = mix_words(pool[to], hash_word(entropy[from], &constant));
}

/* A number's 32-bit words, the low one first; 0 has one. Returns how many. */
static int words_of(uint64_t number, uint32_t *ret)
{
    ret[0] = (uint32_t)number;
    ret[1] = (uint32_t)(number >> 32);
    return ret[1] ? 2 : 1;
}

/* A node: the interval that it halves, and its place in the tree. */
struct node {
    double start, end;
    uint64_t key; /* spawn key: the path from the root, a bit a level */
    int depth;
};

/* The first word of the sequence of this seed and node; NULL: of the seed alone. */
static uint32_t first_word(uint64_t seed, const struct node *node)
{
    uint32_t entropy[ENTROPY] = { 0 }, pool[POOL], constant = 0x8b51f9ddu;
    int n = words_of(seed, entropy);
    if (node) { /* the seed's words are filled up with zeros to the pool's size */
        n = POOL + words_of(node->key, entropy + POOL);
        n += words_of((uint64_t)node->depth, entropy + n);
    }
    mix_pool(entropy, n, pool);
    uint32_t word = pool[0] ^ constant;
    constant *= 0x58f38dedu;
    word *= constant;
    return word ^ word >> 16;
}

/* ---- the tree ---- */

/* Python's round(x, 6): to the nearest multiple of the tolerance, of the exact value of x. */
static double round_time(double x)
{
    double scaled = x * per_tolerance, rest = fma(x, per_tolerance, -scaled);
    double whole = rint(scaled), off = scaled - whole;
    if (off == 0.5 && rest > 0)
        whole += 1;
    else if (off == -0.5 && rest < 0)
        whole -= 1;
    return whole / per_tolerance;
}

static double middle_of(const struct node *node)
{
    return round_time(0.5 * (node->end + node->start));
}

static struct node child_of(const struct node *node, bool right)
{
    double middle = middle_of(node);
    return (struct node){ right ? middle : node->start, right ? node->end : middle,
                          2 * node->key + right, node->depth + 1 };
}

static void normals(const struct brownian_tree *tree, uint32_t seed, float *ret)
{
    struct dr_rng rng;
    dr_rng_seed(&rng, tree->kind, seed);
    dr_rng_normal_part(&rng, ret, tree->first, tree->n, tree->total);
}

/* The increment of the node's left half, from that of the node: in float32, in torch's order. */
static void left_half(const struct brownian_tree *tree, const struct node *node, const float *whole,
                      float *ret)
{
    double middle = middle_of(node), per_length = 1 / (node->end - node->start);
    double left = middle - node->start, right = node->end - middle;
    float share = (float)left, scale = (float)per_length;
    float deviation = (float)sqrt(left * right * per_length);
    normals(tree, first_word(tree->seed, node), ret);
    for (size_t i = 0; i < tree->n; i++) {
        float mean = share * whole[i] * scale, noise = deviation * ret[i];
        ret[i] = mean + noise;
    }
}

/* Adds the increment between `at` and one end of the node, whose own is `whole`: the halves on
 * that side of the way down. */
static void add_side(const struct brownian_tree *tree, struct node node, double at, bool to_end,
                     float *whole, float *half)
{
    while (at != (to_end ? node.start : node.end) && node.depth < DEEPEST) {
        double middle = middle_of(&node);
        bool right = to_end ? at >= middle : at > middle;
        bool other_counts = to_end ? !right : right;
        left_half(tree, &node, whole, half);
        for (size_t i = 0; i < tree->n; i++) {
            float rest = whole[i] - half[i];
            whole[i] = right ? rest : half[i];
            tree->sum[i] += other_counts ? (double)(right ? half[i] : rest) : 0;
        }
        node = child_of(&node, right);
    }
    for (size_t i = 0; i < tree->n; i++)
        tree->sum[i] += whole[i];
}

/* The root's increment, and from it that of the smallest node which holds the interval. */
static struct node smallest_around(const struct brownian_tree *tree, double a, double b,
                                   float *whole, float *half)
{
    struct node node = { round_time(tree->low), round_time(tree->high), 0, 0 };
    float deviation = (float)sqrt(tree->high - tree->low);
    normals(tree, first_word(tree->seed, NULL), whole);
    for (size_t i = 0; i < tree->n; i++)
        whole[i] *= deviation;
    while (!(a == node.start && b == node.end) && node.depth < DEEPEST) {
        double middle = middle_of(&node);
        bool right = a >= middle;
        if (a < middle && b > middle)
            break;
        left_half(tree, &node, whole, half);
        for (size_t i = 0; i < tree->n; i++)
            whole[i] = right ? whole[i] - half[i] : half[i];
        node = child_of(&node, right);
    }
    return node;
}

/* sum = the increment from a to b, a < b. */
static void increment(const struct brownian_tree *tree, double a, double b)
{
    float *whole = tree->work, *half = whole + tree->n, *other = half + tree->n;
    memset(tree->sum, 0, tree->n * sizeof *tree->sum);
    struct node node = smallest_around(tree, a, b, whole, half);
    if (a == node.start && b == node.end) {
        for (size_t i = 0; i < tree->n; i++)
            tree->sum[i] = whole[i];
        return;
    }
    left_half(tree, &node, whole, half);
    for (size_t i = 0; i < tree->n; i++) {
        other[i] = whole[i] - half[i];
        whole[i] = half[i];
    }
    add_side(tree, child_of(&node, false), a, true, whole, half);
    add_side(tree, child_of(&node, true), b, false, other, half);
}

static double clamped(const struct brownian_tree *tree, double t)
{
    double low = round_time(tree->low), high = round_time(tree->high);
    return round_time(t < low ? low : t > high ? high : t);
}

void brownian_interval(const struct brownian_tree *tree, double from, double to, float *ret)
{
    bool falls = from > to;
    double a = clamped(tree, falls ? to : from), b = clamped(tree, falls ? from : to);
    float distance = sqrtf(fabsf((float)to - (float)from));
    if (!(b > a) || !(distance > 0)) {
        memset(ret, 0, tree->n * sizeof *ret);
        return;
    }
    increment(tree, a, b);
    for (size_t i = 0; i < tree->n; i++) {
        float w = (float)tree->sum[i];
        ret[i] = (falls ? -w : w) / distance;
    }
}
