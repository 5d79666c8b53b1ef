/* test_tiny_captions.c - the shipped model draws what captions it has never seen say.
 *
 * 90 captions, with seeds 0 and 1 in turn, are drawn by the program and judged by their pixels. The
 * same pictures judged by each other's captions must fail, or the judge would be worth nothing.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "testing/helpers/test.h"
#include "testing/helpers/tiny_checker.h"

enum { SEEDS = 2, SHIFT = 37 };

extern char **environ;

/* Runs the program; its output goes to a log that is shown when it fails. */
static void draw(const char *caption, int seed, const char *path)
{
    const char *program = getenv("DARKROOM_BIN");
    char number[16], log[512];
    assert_non_null(program);
    snprintf(number, sizeof number, "%d", seed);
    snprintf(log, sizeof log, "%s/log", test_dir());
    const char *model = test_source("share/models/tiny");
    const char *argv[] = { program,   "generate", "-m",    model, "-p", caption, "-s", number,
                           "--steps", "25",       "--cfg", "5",   "-o", path,    NULL };
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, (char **)argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        struct buf text;
        buf_init(&text, DR_TAG_TEST, 65536);
        (void)dr_read_file(log, 65536, &text, NULL);
        fail_msg("%s: status %d: %s", caption, status, buf_text(&text));
    }
}

static void read_picture(const char *path, struct dr_image *ret_image)
{
    struct dr_error err = { 0 };
    struct buf bytes;
    buf_init(&bytes, DR_TAG_TEST, 1 << 24);
    if (dr_read_file(path, 1 << 24, &bytes, &err) != 0 ||
        img_decode(bytes.data, bytes.len, 3, ret_image, NULL, &err) != 0)
        fail_msg("%s: %s", path, err.text);
    buf_free(&bytes);
}

static int judge(const struct dr_image *image, const struct tiny_want *want, int seed, int quiet)
{
    char why[64];
    int shown = tiny_shows(image, want, why, sizeof why);
    assert_true(shown >= 0);
    if (!shown && !quiet)
        print_message("seed %d: %s: %s\n", seed, want->caption, why);
    return shown;
}

static void shows_what_captions_say(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct tiny_want *wants;
    size_t n;
    if (tiny_wants_load(test_source("testing/golden/tiny/captions.json"), &wants, &n, &err) != 0)
        fail_msg("%s", err.text);
    int right[TINY_GROUP_COUNT] = { 0 }, drawn[TINY_GROUP_COUNT] = { 0 }, shuffled = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        char path[512];
        struct dr_image image;
        int seed = (int)(i % SEEDS);
        snprintf(path, sizeof path, "%s/%zu-%d.png", test_dir(), i, seed);
        draw(wants[i].caption, seed, path);
        read_picture(path, &image);
        drawn[wants[i].group]++;
        right[wants[i].group] += judge(&image, &wants[i], seed, 0);
        shuffled += judge(&image, &wants[(i + SHIFT) % n], seed, 1);
        img_free(&image);
    }
    dr_free(wants);
    int total = (int)n;
    for (int g = 0; g < TINY_GROUP_COUNT; g++) {
        print_message("group %d: %d of %d\n", g, right[g], drawn[g]);
        assert_true(drawn[g] > 0);
        all += right[g];
    }
    print_message("all: %d of %d, shuffled: %d\n", all, total, shuffled);
    assert_true(all * 100 >= total * 85);
    for (int g = 0; g < TINY_GROUP_COUNT; g++)
        assert_true(right[g] * 100 >= drawn[g] * 75);
    assert_true(shuffled * 100 < total * 20);
}

/* A blue square left of a red disc on white, by hand: the judge itself must tell right from wrong.
 */
static void judge_tells_pictures_apart(void **state)
{
    (void)state;
    struct dr_image image;
    char why[64];
    assert_int_equal(img_new(128, 128, 3, &image, NULL), 0);
    for (int y = 0; y < 128; y++)
        for (int x = 0; x < 128; x++) {
            static const uint8_t white[3] = { 240, 243, 250 }, blue[3] = { 50, 72, 210 },
                                 red[3] = { 214, 40, 30 };
            int square = x >= 14 && x < 54 && y >= 44 && y < 84;
            int disc = (x - 93) * (x - 93) + (y - 64) * (y - 64) < 22 * 22;
            memcpy(image.pixels + (y * 128 + x) * 3, square ? blue : disc ? red : white, 3);
        }
    struct tiny_want want = { .background = 7, .count = 2, .relation = "left" };
    want.shapes[0].colour = 2;
    want.shapes[0].shape = 1;
    assert_int_equal(tiny_shows(&image, &want, why, sizeof why), 1);
    want.shapes[0].shape = 0;
    assert_int_equal(tiny_shows(&image, &want, why, sizeof why), 0);
    want.shapes[0].shape = 1;
    snprintf(want.relation, sizeof want.relation, "right");
    assert_int_equal(tiny_shows(&image, &want, why, sizeof why), 0);
    snprintf(want.relation, sizeof want.relation, "left");
    want.shapes[1].colour = 1;
    assert_int_equal(tiny_shows(&image, &want, why, sizeof why), 0);
    img_free(&image);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(judge_tells_pictures_apart),
    cmocka_unit_test(shows_what_captions_say),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
