/* Memory and processors of made machines: control groups of both versions, nested, in containers,
 * malformed; resource limits; and a real group, where one can be made. */
#include "testing/helpers/control_group.h"
#include "testing/helpers/test.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/system.h"

enum { MB = 1000000 };

static char root[300];

/* A file of the made machine. */
static void put(const char *path, const char *format, ...)
{
    char whole[900], text[2000], *slash;
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s%s", root, path);
    slash = strrchr(whole, '/');
    *slash = '\0';
    assert_int_equal(dr_mkdirs(whole, NULL), 0);
    *slash = '/';
    assert_int_equal(dr_write_file(whole, text, strlen(text), NULL), 0);
}

/* A machine of 16.384 GB, 8.192 GB of it available, without groups. */
static void machine(void)
{
    static int made;
    snprintf(root, sizeof root, "%s/machine%d", test_dir(), made++);
    put("/proc/meminfo",
        "MemTotal:       16000000 kB\nMemFree:  9 kB\nMemAvailable:    8000000 kB\n");
    put("/proc/self/status",
        "Name:\tx\nVmSize:\t  100000 kB\nVmRSS:\t 7 kB\nVmData:\t   20000 kB\n");
}

static void machine_v2(const char *group)
{
    machine();
    put("/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put("/proc/self/cgroup", "0::%s\n", group);
}

static void machine_v1(const char *group)
{
    machine();
    put("/proc/self/mountinfo",
        "29 22 0:25 / /sys/fs/cgroup ro shared:1 - tmpfs tmpfs ro,mode=755\n"
        "33 29 0:29 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
        "34 29 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n");
    put("/proc/self/cgroup", "5:memory:%s\n4:cpu,cpuacct:%s\n1:name=systemd:/x\n", group, group);
}

static void expect(size_t limit, size_t left, const char *source)
{
    struct system_memory m;
    system_memory(root, &m);
    if (m.group.limit != limit || m.group.left != left || strcmp(m.group.source, source))
        fail_msg("%zu of %zu (%s), expected %zu of %zu (%s)", m.group.left, m.group.limit,
                 m.group.source, left, limit, source);
}

static void none(void)
{
    expect(0, 0, "");
}

static void a_machine_without_groups(void **state)
{
    (void)state;
    struct system_memory m;
    machine();
    none();
    put("/proc/self/cgroup", "0::/\n");
    none();
    put("/proc/self/mountinfo", "");
    none();
    put("/proc/self/mountinfo",
        "no such line\n1 2 - cgroup2\n - cgroup2 a b\n1 - cgroup a memory\n");
    none();
    system_memory(root, &m);
    assert_int_equal(m.machine.limit, (size_t)16000000 * 1024);
    assert_int_equal(m.machine.left, (size_t)8000000 * 1024);
    assert_ptr_equal(system_memory_least(&m), &m.machine);
    system_memory("/nonexistent", &m); /* no /proc: the C library's numbers */
    assert_true(m.machine.left > 0 && m.machine.left <= m.machine.limit);
}

static void the_lowest_is_in_the_middle(void **state)
{
    (void)state;
    struct system_memory m;
    machine_v2("/a/b/c");
    put("/sys/fs/cgroup/a/b/c/memory.max", "900000000\n");
    put("/sys/fs/cgroup/a/b/c/memory.current", "100000000\n");
    put("/sys/fs/cgroup/a/b/memory.max", "200000000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "150000000\n");
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    put("/sys/fs/cgroup/a/memory.current", "150000000\n");
    expect(200 * MB, 50 * MB, "cgroup memory.max of /a/b");
    system_memory(root, &m);
    assert_ptr_equal(system_memory_least(&m), &m.group);
    put("/sys/fs/cgroup/a/memory.high", "160000000\n");
    expect(160 * MB, 10 * MB, "cgroup memory.high of /a");
    put("/sys/fs/cgroup/a/memory.current", "170000000\n");
    expect(160 * MB, 0, "cgroup memory.high of /a");
    put("/sys/fs/cgroup/a/memory.high", "max\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    expect(900 * MB, 800 * MB, "cgroup memory.max of /a/b/c");
    put("/sys/fs/cgroup/memory.max", "5000000\n"); /* of a container's own root */
    expect(5 * MB, 5 * MB, "cgroup memory.max of /");
    put("/proc/self/cgroup", "0::/../x\n"); /* outside a container's own root */
    put("/sys/fs/memory.max", "4\n");
    expect(5 * MB, 5 * MB, "cgroup memory.max of /");
}

/* A checkpoint that was just read fills a group's memory with pages of files. */
static void pages_of_files_are_free(void **state)
{
    (void)state;
    machine_v2("/a");
    put("/sys/fs/cgroup/a/memory.current", "900\n");
    put("/sys/fs/cgroup/a/memory.max", "1000\n");
    expect(1000, 100, "cgroup memory.max of /a");
    put("/sys/fs/cgroup/a/memory.stat", "anon 200\nfile 700\nfile_mapped 5\ninactive_anon 7\n"
                                        "inactive_file 400\nactive_file 250\nunevictable 50\n");
    expect(1000, 750, "cgroup memory.max of /a");
    put("/sys/fs/cgroup/a/memory.current", "600\n"); /* read at another moment */
    expect(1000, 1000, "cgroup memory.max of /a");
    put("/sys/fs/cgroup/a/memory.stat", "inactive_file x\nactive_file\ninactive_files 5\n");
    expect(1000, 400, "cgroup memory.max of /a");
}

static void files_that_are_not_as_they_should(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "max", "-1", "x", "12x", "1 2", " 5", "0x10", "+5" };
    machine_v2("/a");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("/sys/fs/cgroup/a/memory.max", "%s\n", bad[i]);
        none();
    }
    put("/sys/fs/cgroup/a/memory.max", "0\n");
    expect(0, 0, "cgroup memory.max of /a");
    put("/sys/fs/cgroup/a/memory.max", "7\n");
    put("/sys/fs/cgroup/a/memory.current", "many\n");
    expect(7, 7, "cgroup memory.max of /a");
    put("/sys/fs/cgroup/a/memory.max", "16384000000\n"); /* the machine's */
    none();
    put("/sys/fs/cgroup/a/memory.max", "99999999999999999999999999\n");
    none();
    put("/sys/fs/cgroup/a/memory.max", "16383999999\n");
    expect(16383999999, 16383999999, "cgroup memory.max of /a");
    put("/proc/self/cgroup", "0::/gone/a/b\n"); /* removed: its ancestors are looked at */
    put("/sys/fs/cgroup/gone/memory.max", "8\n");
    expect(8, 8, "cgroup memory.max of /gone");
}

static void version_1(void **state)
{
    (void)state;
    machine_v1("/x/y");
    put("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/x/y/memory.usage_in_bytes", "70000000\n");
    none();
    put("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "100000000\n");
    put("/sys/fs/cgroup/memory/x/y/memory.stat",
        "cache 9\ninactive_file 1\nactive_file 1\nhierarchical_memory_limit 100000000\n"
        "total_inactive_file 20000000\ntotal_active_file 10000000\n");
    expect(100 * MB, 60 * MB, "cgroup memory.limit_in_bytes of /x/y");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "80000000\n");
    put("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "75000000\n");
    expect(80 * MB, 5 * MB, "cgroup memory.limit_in_bytes of /x");
    put("/sys/fs/cgroup/memory/x/memory.use_hierarchy", "0\n"); /* does not count /x/y */
    expect(100 * MB, 60 * MB, "cgroup memory.limit_in_bytes of /x/y");
    put("/sys/fs/cgroup/memory/x/memory.use_hierarchy", "1\n");
    expect(80 * MB, 5 * MB, "cgroup memory.limit_in_bytes of /x");
    /* an ancestor that a container does not see */
    put("/sys/fs/cgroup/memory/x/y/memory.stat", "hierarchical_memory_limit 72000000\n");
    expect(72 * MB, 2 * MB, "cgroup hierarchical_memory_limit of /x/y");
}

/* Docker without a namespace: the container's own group is bound over the mount, and the path is
 * the host's. */
static void groups_bound_into_a_container(void **state)
{
    (void)state;
    machine();
    put("/proc/self/mountinfo",
        "33 29 0:29 /docker/4f\\040f /sys/fs/my\\040group ro - cgroup cgroup rw,memory\n");
    put("/proc/self/cgroup", "5:memory:/docker/4f f/inner\n");
    put("/sys/fs/my group/inner/memory.limit_in_bytes", "500\n");
    put("/sys/fs/my group/memory.limit_in_bytes", "400\n");
    expect(400, 400, "cgroup memory.limit_in_bytes of /docker/4f f");
    put("/sys/fs/my group/inner/memory.limit_in_bytes", "300\n");
    expect(300, 300, "cgroup memory.limit_in_bytes of /docker/4f f/inner");
    static const char *const outside[] = { "/",   "/../x", "/docker/4f", "/docker/4f fx",
                                           "/..", "/a:b" };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        put("/proc/self/cgroup", "5:memory:%s\n", outside[i]);
        expect(400, 400, "cgroup memory.limit_in_bytes of /docker/4f f");
    }
}

static void both_versions_side_by_side(void **state)
{
    (void)state;
    machine();
    put("/proc/self/mountinfo",
        "33 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "35 29 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "34 29 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "7:memory:/one\n1:name=systemd:/memory\n0::/two\n");
    put("/sys/fs/cgroup/memory/one/memory.limit_in_bytes", "700\n");
    put("/sys/fs/cgroup/systemd/memory/memory.limit_in_bytes", "5\n");
    expect(700, 700, "cgroup memory.limit_in_bytes of /one");
    put("/sys/fs/cgroup/unified/two/memory.max", "600\n");
    expect(600, 600, "cgroup memory.max of /two");
}

/* A name that is longer than there is room for keeps its end. */
static void long_names(void **state)
{
    (void)state;
    struct system_memory m;
    char group[700] = "";
    for (int i = 0; i < 60; i++)
        snprintf(group + strlen(group), sizeof group - strlen(group), "/level-%02d", i);
    machine_v2(group);
    char path[900];
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
    put(path, "300\n");
    system_memory(root, &m);
    assert_int_equal(m.group.left, 300);
    assert_true(strstr(m.group.source, "of ...") && strstr(m.group.source, "/level-59"));
}

static void resource_limits(void **state)
{
    (void)state;
    struct system_memory m;
    static const char format[] = "Limit                     Soft Limit   Hard Limit   Units\n"
                                 "Max data size             %s           unlimited    bytes\n"
                                 "Max address space         %s           unlimited    bytes\n";
    machine();
    put("/proc/self/limits", format, "unlimited", "unlimited");
    system_memory(root, &m);
    assert_true(!*m.data.source && !*m.address.source);
    put("/proc/self/limits", format, "30480000", "112400000");
    system_memory(root, &m);
    assert_int_equal(m.data.limit, 30480000);
    assert_int_equal(m.data.left, 10 * MB);
    assert_string_equal(m.data.source, "RLIMIT_DATA");
    assert_int_equal(m.address.left, 10 * MB);
    assert_string_equal(m.address.source, "RLIMIT_AS");
    put("/proc/self/limits", format, "1000", "0");
    system_memory(root, &m);
    assert_true(*m.data.source && !m.data.left && *m.address.source && !m.address.left);
    assert_string_equal(system_memory_least(&m)->source, "RLIMIT_DATA");
}

static void quotas_of_processors(void **state)
{
    (void)state;
    machine_v2("/a/b");
    assert_int_equal(system_cpu_quota(root, 8), 8);
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(system_cpu_quota(root, 8), 8);
    put("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    assert_int_equal(system_cpu_quota(root, 8), 3);
    assert_int_equal(system_cpu_quota(root, 2), 2);
    put("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
    assert_int_equal(system_cpu_quota(root, 8), 1);
    static const char *const bad[] = { "", "x", "5", "-1 100000", "0 0", "5 0", "0 5" };
    put("/sys/fs/cgroup/a/cpu.max", "max\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("/sys/fs/cgroup/a/b/cpu.max", "%s\n", bad[i]);
        assert_int_equal(system_cpu_quota(root, 8), 8);
    }
    machine_v1("/q");
    put("/sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_period_us", "100000\n");
    assert_int_equal(system_cpu_quota(root, 8), 8);
    put("/sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(system_cpu_quota(root, 8), 4);
    assert_int_equal(system_cpu_quota(root, 0), 1);
}

/* The status of the child: 77 when it could not enter. */
static int inside_a_group(const struct control_group *g)
{
    struct system_memory m;
    size_t bytes = (size_t)64 << 20;
    if (!control_group_enter(g))
        return 77;
    system_memory("", &m);
    size_t before = m.group.left;
    char *block = malloc(bytes);
    for (size_t i = 0; block && i < bytes; i += 4096)
        ((volatile char *)block)[i] = 1;
    system_memory("", &m);
    bool less = m.group.left + 50 * MB < before;
    printf("%zu of %zu (%s); touching %zu leaves %zu\n", before, m.group.limit, m.group.source,
           bytes, m.group.left);
    free(block);
    bool right = m.group.limit > 199 * MB && m.group.limit <= 200 * MB && before <= m.group.limit;
    return less && right && strstr(m.group.source, g->file) && strstr(m.group.source, "/darkroom-")
               ? 0
               : 1;
}

static void a_real_group(void **state)
{
    (void)state;
    struct control_group g;
    if (!control_group_make(&g, 200 * MB))
        skip();
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        int status = inside_a_group(&g);
        fflush(NULL);
        _exit(status);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    control_group_remove(&g);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        printf("no process may enter a control group here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The kernel's own words about a limit that is really set; a sanitizer's shadow memory fits. */
static void real_resource_limits(void **state)
{
    (void)state;
    struct system_memory m;
    struct rlimit old, now;
    assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
    now = (struct rlimit){ .rlim_cur = (rlim_t)1 << 46, .rlim_max = old.rlim_max };
    if (old.rlim_max != RLIM_INFINITY && old.rlim_max < now.rlim_cur)
        skip();
    assert_int_equal(setrlimit(RLIMIT_DATA, &now), 0);
    system_memory("", &m);
    assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
    assert_string_equal(m.data.source, "RLIMIT_DATA");
    assert_true(m.data.limit == (size_t)1 << 46 && m.data.left < m.data.limit);
    assert_true(system_resident() > 0 && system_resident_peak() >= system_resident() / 2);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_without_groups),
        cmocka_unit_test(the_lowest_is_in_the_middle),
        cmocka_unit_test(pages_of_files_are_free),
        cmocka_unit_test(files_that_are_not_as_they_should),
        cmocka_unit_test(version_1),
        cmocka_unit_test(groups_bound_into_a_container),
        cmocka_unit_test(both_versions_side_by_side),
        cmocka_unit_test(long_names),
        cmocka_unit_test(resource_limits),
        cmocka_unit_test(quotas_of_processors),
        cmocka_unit_test(a_real_group),
        cmocka_unit_test(real_resource_limits),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
