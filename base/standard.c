/* standard.c - see standard.h. */
#include "base/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

void dr_standard_open(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) != fd)
            break;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool dr_standard_output(void)
{
    int flags = fcntl(1, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}
