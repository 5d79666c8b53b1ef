/* The self-test's look at a picture: a red disc on blue, and what is nearly one. */
#include "testing/helpers/test.h"

#include "coordination/check_draw.h"

enum { EDGE = 64 };

static unsigned char pixels[EDGE * EDGE * 3];

/* Whether (x, y) from the middle is of the shape. */
typedef bool (*shape_fn)(int x, int y);

static bool disc(int x, int y)
{
    return x * x + y * y < 14 * 14;
}

static bool speck(int x, int y)
{
    return x * x + y * y < 4 * 4;
}

static bool square(int x, int y)
{
    return x > -13 && x < 13 && y > -13 && y < 13;
}

static bool ring(int x, int y)
{
    return disc(x, y) && x * x + y * y >= 8 * 8;
}

static bool two(int x, int y)
{
    return (x - 16) * (x - 16) + y * y < 100 || (x + 16) * (x + 16) + y * y < 100;
}

static bool noise(int x, int y)
{
    return (x * 7919 + y * 104729) % 5 == 0;
}

static void paint(shape_fn shape, const unsigned char in[3], const unsigned char out[3])
{
    for (int i = 0; i < EDGE * EDGE; i++)
        for (int c = 0; c < 3; c++)
            pixels[i * 3 + c] = shape(i % EDGE - 32, i / EDGE - 32) ? in[c] : out[c];
}

static void discs_are_told_from_the_rest(void **state)
{
    (void)state;
    static const unsigned char red[3] = { 214, 36, 28 }, blue[3] = { 44, 66, 214 };
    static const unsigned char green[3] = { 30, 160, 60 };
    static const struct {
        shape_fn shape;
        const unsigned char *in, *out;
        bool shows;
    } cases[] = { { disc, red, blue, true },    { disc, blue, red, false },
                  { disc, green, blue, false }, { disc, red, green, false },
                  { speck, red, blue, false },  { square, red, blue, false },
                  { ring, red, blue, false },   { two, red, blue, false },
                  { noise, red, blue, false },  { square, blue, blue, false } };
    struct dr_image image = { .width = EDGE, .height = EDGE, .pixels = pixels };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[120];
        paint(cases[i].shape, cases[i].in, cases[i].out);
        if (check_shows_disc(&image, why, sizeof why) != cases[i].shows)
            fail_msg("case %zu: %s", i, why);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(discs_are_told_from_the_rest),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
