/* test_limits.c - limits that the system sets: what is admitted under one runs to its end, what is
 * not is refused with the limit's name before anything is computed, and nobody is killed. */
#include "testing/helpers/control_group.h"
#include "testing/helpers/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/system.h"

enum { MB = 1000000 };

static json_t *job_of(int edge)
{
    json_t *data = session_case("odd", "euler_a_batch_unguided", NULL);
    json_object_set_new(data, "width", json_integer(edge));
    json_object_set_new(data, "height", json_integer(edge));
    json_object_set_new(data, "batch_size", json_integer(1));
    json_object_set_new(data, "steps", json_integer(1));
    return data;
}

/* True: drawn; false: refused, with words about that source. */
static bool drawn_or_refused(struct session *s, int edge, const char *source)
{
    const json_t *plan = session_must(s, "plan", job_of(edge));
    bool admitted = json_is_true(json_object_get(plan, "admitted"));
    const char *named = json_string_value(
        json_object_get(json_object_get(plan, "limit"), "source"));
    if (!admitted && !strstr(named, source))
        fail_msg("not admitted by %s, expected %s", named, source);
    json_t *answer = session_ask(s, "generate", job_of(edge));
    const char *words = json_string_value(json_object_get(answer, "error"));
    bool drawn = json_is_true(json_object_get(answer, "success"));
    if (!drawn && !strstr(words, source))
        fail_msg("%d: %s, expected a word of %s", edge, words, source);
    if (!drawn && !strstr(words, "is allowed: limit "))
        fail_msg("%d was admitted and failed: %s", edge, words);
    return drawn;
}

/* One process, its limit moved from too little to enough, a tenth of the job at a time. */
static void under(int resource, const char *use, const char *source)
{
    enum { EDGE = 512 };
    struct session s;
    struct rlimit old;
    struct system_memory now;
    int drawn = 0, refused = 0;
    if (TEST_SANITIZED)
        skip();
    session_open(&s, "{\"threads\":1,\"cache_limit\":0}");
    session_must(&s, "generate", job_of(64));
    double need = session_number(session_must(&s, "plan", job_of(EDGE)), "tagged_bytes");
    need += resource == RLIMIT_AS ? 32 << 20 : 0; /* stacks and heaps of threads */
    assert_int_equal(getrlimit(resource, &old), 0);
    for (int i = 0; i <= 20; i++) {
        /* what is in use: an unlimited process does not say, so a limit is set first */
        struct rlimit limit = { .rlim_cur = (rlim_t)1 << 46, .rlim_max = old.rlim_max };
        assert_int_equal(setrlimit(resource, &limit), 0);
        system_memory("", &now);
        const struct system_bound *b = resource == RLIMIT_AS ? &now.address : &now.data;
        assert_string_equal(b->source, source);
        limit.rlim_cur = b->limit - b->left + (rlim_t)(need * i / 10);
        assert_int_equal(setrlimit(resource, &limit), 0);
        bool fine = drawn_or_refused(&s, EDGE, source);
        drawn += fine;
        refused += !fine;
    }
    assert_int_equal(setrlimit(resource, &old), 0);
    printf("%s (%s): %d refused, %d drawn\n", source, use, refused, drawn);
    assert_true(refused > 2 && drawn > 2);
    session_must(&s, "generate", job_of(64));
    session_close(&s);
}

static void address_space(void **state)
{
    (void)state;
    under(RLIMIT_AS, "VmSize", "RLIMIT_AS");
}

static void private_memory(void **state)
{
    (void)state;
    under(RLIMIT_DATA, "VmData", "RLIMIT_DATA");
}

/* Inside a group below the limited one: asked for or not, no more is admitted than there is. */
static void draw_in_the_group(const struct control_group *g, const char *options)
{
    struct session s;
    session_open(&s, options);
    assert_true(drawn_or_refused(&s, 64, g->file));
    assert_false(drawn_or_refused(&s, 2048, g->file));
    const json_t *devices = session_must(&s, "devices", json_object());
    const json_t *first = json_array_get(json_object_get(devices, "devices"), 0);
    const json_t *limit = json_object_get(first, "limit");
    assert_non_null(strstr(json_string_value(json_object_get(limit, "source")), g->file));
    assert_true(json_integer_value(json_object_get(limit, "bytes")) <= 200 * MB);
    session_close(&s);
}

static void a_control_group(void **state)
{
    (void)state;
    struct control_group g;
    int status = 0;
    if (TEST_SANITIZED || !control_group_make(&g, 200 * MB))
        skip();
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        if (!control_group_enter(&g))
            _exit(77);
        draw_in_the_group(&g, "{\"threads\":1}");
        draw_in_the_group(&g, "{\"threads\":1,\"memory_limit\":64000000000}");
        fflush(NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    control_group_remove(&g);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        printf("no process may enter a control group here\n");
        skip();
    }
    assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(address_space),
        cmocka_unit_test(private_memory),
        cmocka_unit_test(a_control_group),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
