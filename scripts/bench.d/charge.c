/*
 * charge [-u] [-c CGROUP] COMMAND…: runs a command and says on descriptor 3, in one line,
 *   CPU-MICROSECONDS WALL-MICROSECONDS PEAK-RSS-KIB STATUS
 *
 * Without -c the CPU time is what wait4 says of the command and all it waited for. With -c
 * it is that of a new cgroup CGROUP, which also has in it what left the command's session (a
 * monitor, a VM): the line comes when the cgroup is empty. -u: as the ordinary user of the
 * test host (uid 1000, the group of /dev/kvm, no new privileges).
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The number after KEY in a file of a cgroup. */
static long cgroup_value(const char *cgroup, const char *file, const char *key) {
    char path[512], name[64];
    long value;
    snprintf(path, sizeof path, "%s/%s", cgroup, file);
    FILE *f = fopen(path, "r");
    if (!f) err(1, "%s", path);
    while (fscanf(f, "%63s %ld", name, &value) == 2)
        if (!strcmp(name, key)) return fclose(f), value;
    errx(1, "%s has no %s", path, key);
}

static void enter(const char *cgroup) {
    char path[512];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1) err(125, "%s", path);
}

static void become_user(void) {
    struct stat kvm;
    if (stat("/dev/kvm", &kvm)) err(125, "/dev/kvm");
    if (setgroups(1, &kvm.st_gid) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
        err(125, "cannot become uid 1000");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    const char *cgroup = NULL;
    bool user = false;
    int option, status;
    while ((option = getopt(argc, argv, "+uc:")) != -1) {
        if (option == 'u') user = true;
        else if (option == 'c') cgroup = optarg;
        else return 125;
    }
    if (cgroup && mkdir(cgroup, 0755)) err(125, "%s", cgroup);
    double start = now_us();
    pid_t child = fork();
    if (child == 0) {
        if (cgroup) enter(cgroup);
        if (user) become_user();
        close(3);
        execvp(argv[optind], argv + optind);
        err(127, "%s", argv[optind]);
    }
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) < 0) err(125, "cannot run");
    double wall = now_us() - start;
    long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec +
               usage.ru_stime.tv_usec;
    if (cgroup) {
        while (cgroup_value(cgroup, "cgroup.events", "populated")) usleep(1000);
        cpu = cgroup_value(cgroup, "cpu.stat", "usage_usec");
        rmdir(cgroup);
    }
    dprintf(3, "%ld %.0f %ld %d\n", cpu, wall, usage.ru_maxrss,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
