/* program.c - see program.h. */
#include "testing/helpers/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

extern char **environ;

enum { ARGUMENTS = 40, OUTPUT_BYTES = 64 << 20, TICK_US = 2000 };

static const char *input = "/dev/null";

void program_input(const char *path)
{
    input = path ? path : "/dev/null";
}

void program_start(struct program *p, const char *const *argv)
{
    static int turn;
    const char *program = getenv("DARKROOM_BIN");
    const char *words[ARGUMENTS + 2] = { program };
    assert_non_null(program);
    for (int i = 0; argv[i]; i++) {
        assert_true(i < ARGUMENTS);
        words[i + 1] = argv[i];
    }
    memset(p, 0, sizeof *p);
    buf_init(&p->out, DR_TAG_TEST, OUTPUT_BYTES);
    buf_init(&p->err, DR_TAG_TEST, OUTPUT_BYTES);
    turn++;
    snprintf(p->out_path, sizeof p->out_path, "%.80s/.out-%d", test_dir(), turn);
    snprintf(p->err_path, sizeof p->err_path, "%.80s/.err-%d", test_dir(), turn);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, input, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, p->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, p->err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int failed = posix_spawn(&p->pid, program, &files, NULL, (char *const *)words, environ);
    posix_spawn_file_actions_destroy(&files);
    if (failed)
        fail_msg("%s: %s", program, strerror(failed));
}

void program_finish(struct program *p)
{
    double deadline = dr_now() + PROGRAM_SECONDS;
    int status;
    pid_t got;
    while (!(got = waitpid(p->pid, &status, WNOHANG)) && dr_now() < deadline)
        usleep(TICK_US);
    if (got != p->pid) {
        kill(p->pid, SIGKILL);
        fail_msg("the program did not end within %d seconds", PROGRAM_SECONDS);
    }
    p->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    assert_int_equal(dr_read_file(p->out_path, OUTPUT_BYTES, &p->out, NULL), 0);
    assert_int_equal(dr_read_file(p->err_path, OUTPUT_BYTES, &p->err, NULL), 0);
    unlink(p->out_path);
    unlink(p->err_path);
}

void program_free(struct program *p)
{
    buf_free(&p->out);
    buf_free(&p->err);
}

void program_run(struct program *p, int expected, ...)
{
    const char *argv[ARGUMENTS + 1];
    int n = 0;
    va_list ap;
    va_start(ap, expected);
    while ((argv[n] = va_arg(ap, const char *)))
        assert_true(++n <= ARGUMENTS);
    va_end(ap);
    program_start(p, argv);
    program_finish(p);
    if (expected >= 0 && p->status != expected)
        fail_msg("%s: status %d, expected %d: %s", argv[0] ? argv[0] : "", p->status, expected,
                 program_err(p));
}

const char *program_out(const struct program *p)
{
    return buf_text(&p->out);
}

const char *program_err(const struct program *p)
{
    return buf_text(&p->err);
}

json_t *program_json(const struct program *p)
{
    json_t *value;
    struct dr_error err = { 0 };
    if (jx_parse(p->out.data, p->out.len, NULL, "stdout", &value, &err))
        fail_msg("%s: %s", err.text, program_out(p));
    assert_ptr_equal(strchr(program_out(p), '\n'), p->out.data + p->out.len - 1); /* one line */
    return value;
}

const char *program_folder(void)
{
    static int turn;
    static char folder[4][160];
    char *path = folder[turn % 4];
    snprintf(path, sizeof folder[0], "%.80s/folder-%d", test_dir(), ++turn);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chdir(path), 0);
    return path;
}

void program_configure(const char *folder)
{
    static char first[600];
    static bool known;
    const char *now = getenv("XDG_CONFIG_HOME");
    if (!known)
        snprintf(first, sizeof first, "%s", now ? now : "");
    known = true;
    setenv("XDG_CONFIG_HOME", folder ? folder : first, 1);
}

int program_entries(const char *folder)
{
    int n = 0;
    struct dirent *entry;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(dir);
    return n;
}

const char *program_model(void)
{
    return test_source("testing/golden/odd/model");
}

void program_adopt(void)
{
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
}

bool program_alone(void)
{
    double deadline = dr_now() + PROGRAM_SOON;
    do {
        pid_t got = waitpid(-1, NULL, WNOHANG);
        if (got < 0 && errno == ECHILD)
            return true;
        if (!got)
            usleep(TICK_US);
    } while (dr_now() < deadline);
    return false;
}

void program_worker(const char *script)
{
    char path[300], text[1024];
    snprintf(path, sizeof path, "%s/worker", test_dir());
    snprintf(text, sizeof text, "#!/bin/sh\n%s", script);
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(setenv("DARKROOM_WORKER", path, 1), 0);
}

const char *const *program_long_job(const char *const *more)
{
    static const char *const first[] = { "-pa red circle", "-W512", "-H512",
                                         "--steps=500",    "-s1",   "-b4",
                                         "-oout.png" };
    static const char *argv[24];
    int n = 0;
    argv[n++] = "generate";
    argv[n++] = "-m";
    argv[n++] = program_model();
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        argv[n++] = first[i];
    while (more && *more)
        argv[n++] = *more++;
    argv[n] = NULL;
    return argv;
}

void program_interrupt(struct program *p, int signal, const char *folder)
{
    double sent = dr_now();
    assert_int_equal(kill(p->pid, signal), 0);
    program_finish(p);
    if (dr_now() - sent > PROGRAM_SOON)
        fail_msg("signal %d: ended after %.1f seconds", signal, dr_now() - sent);
    if (p->status != 130)
        fail_msg("signal %d: status %d: %s", signal, p->status, program_err(p));
    assert_int_equal(program_entries(folder), 0);
    assert_true(program_alone());
    program_free(p);
}
