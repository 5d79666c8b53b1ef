/* terminal.c - see terminal.h. */
#include "testing/helpers/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "testing/helpers/program.h"

extern char **environ;

enum { ARGUMENTS = 40, TEXT_BYTES = 8 << 20, TICK_US = 2000 };

/* All that is there now. */
static void drain(int master, struct buf *text)
{
    char chunk[4096];
    ssize_t n;
    while ((n = read(master, chunk, sizeof chunk)) > 0)
        assert_int_equal(buf_append(text, chunk, (size_t)n), 0);
}

static pid_t start(int descriptors, const char *slave, const char *const *argv)
{
    const char *program = getenv("DARKROOM_BIN"), *words[ARGUMENTS + 2] = { program };
    posix_spawn_file_actions_t files;
    pid_t pid;
    assert_non_null(program);
    for (int i = 0; argv[i]; i++) {
        assert_true(i < ARGUMENTS);
        words[i + 1] = argv[i];
    }
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    for (int fd = 1; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&files, fd, descriptors & (1 << fd) ? slave : "/dev/null",
                                         O_WRONLY | O_NOCTTY, 0);
    setenv("TERM", "xterm", 1);
    int failed = posix_spawn(&pid, program, &files, NULL, (char *const *)words, environ);
    unsetenv("TERM");
    posix_spawn_file_actions_destroy(&files);
    if (failed)
        fail_msg("%s: %s", program, strerror(failed));
    return pid;
}

void terminal_run(struct terminal *t, int descriptors, const char *const *argv)
{
    struct winsize size = { .ws_row = 30, .ws_col = 100 };
    int status, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    double deadline = dr_now() + PROGRAM_SECONDS;
    pid_t got;
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    const char *slave = ptsname(master);
    int held = open(slave, O_RDWR | O_NOCTTY | O_CLOEXEC); /* so that no read ends in EIO */
    assert_true(held >= 0);
    assert_int_equal(ioctl(held, TIOCSWINSZ, &size), 0);
    assert_int_equal(fcntl(master, F_SETFL, O_NONBLOCK), 0);
    buf_init(&t->text, DR_TAG_TEST, TEXT_BYTES);
    pid_t pid = start(descriptors, slave, argv);
    while (!(got = waitpid(pid, &status, WNOHANG)) && dr_now() < deadline) {
        drain(master, &t->text);
        usleep(TICK_US);
    }
    if (got != pid) {
        kill(pid, SIGKILL);
        fail_msg("the program did not end within %d seconds", PROGRAM_SECONDS);
    }
    drain(master, &t->text);
    close(held);
    close(master);
    t->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char *terminal_text(const struct terminal *t)
{
    return buf_text(&t->text);
}

void terminal_free(struct terminal *t)
{
    buf_free(&t->text);
}
