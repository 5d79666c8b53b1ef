/* control_group.c - see control_group.h. */
#include "testing/helpers/control_group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static bool put(const char *folder, const char *name, size_t value)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "we");
    bool ok = f && fprintf(f, "%zu", value) > 0;
    return f && !fclose(f) && ok;
}

bool control_group_make(struct control_group *g, size_t limit)
{
    bool old = dr_is_file("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    snprintf(g->folder, sizeof g->folder, "/sys/fs/cgroup%s/darkroom-test-%d", old ? "/memory" : "",
             (int)getpid());
    snprintf(g->inner, sizeof g->inner, "%s/inner", g->folder);
    g->file = old ? "memory.limit_in_bytes" : "memory.max";
    if (!mkdir(g->folder, 0755) && put(g->folder, g->file, limit) && !mkdir(g->inner, 0755))
        return true;
    printf("no control group with a limit can be made here: %s\n", strerror(errno));
    control_group_remove(g);
    return false;
}

bool control_group_enter(const struct control_group *g)
{
    return put(g->inner, "cgroup.procs", (size_t)getpid());
}

void control_group_remove(const struct control_group *g)
{
    for (int i = 0; i < 100 && rmdir(g->inner) && errno == EBUSY; i++)
        usleep(10000); /* a process that ended just now may still count */
    (void)rmdir(g->folder);
}
