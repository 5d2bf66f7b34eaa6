/* PID 1 of the test host: runs the commands that come in over the virtio-serial ports.
 *
 * agent SLOTS REPOSITORY [FOLDER…]
 *
 * A process a slot takes one command at a time: as root, or as uid 1000 in the group
 * that owns /dev/kvm, without a way to new privileges. Each command has a session and
 * a delegated cgroup of its own; what it leaves running stays when it ends, but goes
 * with it when it is killed. PID 1 itself only reaps.
 *
 * The folders (the repository is the first) are 9p mounts of the host's. Linux keeps
 * what it has read of them, and for as long as a program runs from a file it keeps that
 * file for all, so after a rebuild they are mounted anew, over what is still in use.
 */
#include "frames.h"
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define USER_ID 1000
#define CGROUPS "/sys/fs/cgroup/user-1000"

#define SHARES 8 /* 9p devices a folder; each can be mounted once at a time */

static char **folders; /* the repository, then others; ends with NULL */

static char *const root_environment[] = {
    "HOME=/root", "USER=root", "LOGNAME=root", "XDG_RUNTIME_DIR=/run/user/0",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=xterm", "LANG=C.UTF-8", "VMRUN_TEST_HOST=1", NULL};
static char *const user_environment[] = {
    "HOME=/scratch/home", "USER=tester", "LOGNAME=tester", "XDG_RUNTIME_DIR=/run/user/1000",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=xterm", "LANG=C.UTF-8", "VMRUN_TEST_HOST=1", NULL};

/* A command under way. Output is read only when what was read before has gone. */
struct command {
    pid_t pid;
    int pidfd;
    int input, output[2];      /* our ends of its pipes; -1 = closed */
    int input_ended;
    int exited, status, left[2]; /* after its end: bytes still in the pipes */
    char cgroup[64];
    struct buffer pending;     /* input that it has not taken yet */
};

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "agent: %s: %m\n", path);
    close(fd);
}

static void make_cgroup(char *path, size_t size, int slot)
{
    static int number;
    static const char *const files[] = {"", "/cgroup.procs", "/cgroup.threads",
                                        "/cgroup.subtree_control"};
    snprintf(path, size, CGROUPS "/command-%d-%d", slot, ++number);
    mkdir(path, 0755);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s%s", path, files[i]);
        if (chown(file, USER_ID, USER_ID) < 0)
            fprintf(stderr, "agent: %s: %m\n", file);
    }
}

static void become_user(void)
{
    struct stat kvm;
    gid_t group = stat("/dev/kvm", &kvm) == 0 ? kvm.st_gid : USER_ID;
    if (setgroups(1, &group) || setresgid(USER_ID, USER_ID, USER_ID) ||
        setresuid(USER_ID, USER_ID, USER_ID) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
        perror("agent: cannot become the user");
        _exit(125);
    }
}

/* In the child: never returns. */
static void execute(int as_root, const char *folder, char **argv)
{
    struct rlimit files = {1024, 524288}, core = {0, 0};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &core);
    setpriority(PRIO_PROCESS, 0, 0);
    signal(SIGPIPE, SIG_DFL);
    umask(022);
    setsid();
    if (!as_root)
        become_user();
    if (chdir(folder) < 0 && chdir(folders[0]) < 0 && chdir("/") < 0)
        _exit(125);
    char *const *environment = as_root ? root_environment : user_environment;
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    execvpe(argv[0], argv, environment);
    int status = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "test-host: %s: %s\n", argv[0], strerror(errno));
    _exit(status);
}

static int mount_anew(int number, const char *folder)
{
    /* First down to a mount that is in use, which stays, covered, for those who run in
     * it. When all devices are taken so, all are let go: one without users is then free. */
    for (int how = UMOUNT_NOFOLLOW;; how |= MNT_DETACH) {
        while (umount2(folder, how) == 0)
            ;
        for (int i = 0; i < SHARES; i++) {
            char tag[32];
            snprintf(tag, sizeof tag, "fresh%d-%d", number, i);
            if (mount(tag, folder, "9p", MS_RDONLY,
                      "trans=virtio,version=9p2000.L,cache=loose,access=any,msize=512000") == 0)
                return 1;
        }
        if (how & MNT_DETACH)
            break;
    }
    fprintf(stderr, "agent: too many old states of %s are still in use\n", folder);
    return 0;
}

/* Returns the lock that keeps the mounts as they are until the command runs. */
static int refresh_folders(uint64_t wanted)
{
    uint64_t mounted = 0;
    int lock = open("/run/test-host-stamp", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    flock(lock, LOCK_EX);
    if (read(lock, &mounted, sizeof mounted) != sizeof mounted || mounted != wanted) {
        int done = 1;
        for (int i = 0; folders[i]; i++)
            done &= mount_anew(i, folders[i]);
        if (!done || pwrite(lock, &wanted, sizeof wanted, 0) != sizeof wanted) {
            close(lock);
            return -1;
        }
    }
    return lock;
}

static void start(struct command *c, int slot, struct header *h)
{
    static char *argv[FRAME_MAX / 2];
    struct request *request = (struct request *)(h + 1);
    char *end = (char *)(h + 1) + h->length, *folder = (char *)(request + 1);
    int count = 0, pipes[3][2];
    for (char *p = folder + strlen(folder) + 1; p < end; p += strlen(p) + 1)
        argv[count++] = p;
    argv[count] = NULL;

    memset(c, 0, offsetof(struct command, pending));
    c->pending.used = 0;
    make_cgroup(c->cgroup, sizeof c->cgroup, slot);
    int lock = refresh_folders(request->stamp);
    for (int i = 0; i < 3; i++)
        if (pipe2(pipes[i], O_CLOEXEC) < 0)
            perror("agent: pipe");
    c->pid = fork();
    if (c->pid == 0) {
        dup2(pipes[0][0], 0);
        dup2(pipes[1][1], 1);
        dup2(pipes[2][1], 2);
        write_file(c->cgroup, "cgroup.procs", "0");
        if (lock < 0) {
            fprintf(stderr, "test-host: programs of eight older builds still run; end them, or down and up\n");
            _exit(125);
        }
        execute(request->as_root != 0, folder, argv);
    }
    close(lock); /* the child's copy goes when it executes */
    close(pipes[0][0]);
    close(pipes[1][1]);
    close(pipes[2][1]);
    c->input = pipes[0][1];
    c->output[0] = pipes[1][0];
    c->output[1] = pipes[2][0];
    fcntl(c->input, F_SETFL, O_NONBLOCK);
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
}

/* Gives the command what input there is and tells the client how much was taken. */
static void feed(struct command *c, struct buffer *to_port)
{
    size_t before = c->pending.used;
    if (c->input >= 0 && before && !buffer_flush(&c->pending, c->input)) {
        close(c->input); /* it reads no more; what still comes is dropped */
        c->input = -1;
    }
    if (c->input < 0)
        c->pending.used = 0;
    if (c->input >= 0 && c->input_ended && !c->pending.used) {
        close(c->input);
        c->input = -1;
    }
    uint32_t taken = (uint32_t)(before - c->pending.used);
    if (taken)
        frame_put(to_port, TAKEN, &taken, sizeof taken);
}

static void obey(struct command *c, struct buffer *from_port)
{
    struct header *h;
    while ((h = frame_at(from_port))) {
        unsigned char *payload = from_port->data + sizeof *h;
        switch (h->type) {
        case INPUT:
            c->input_ended |= h->length == 0;
            memcpy(c->pending.data + c->pending.used, payload, h->length);
            c->pending.used += h->length;
            break;
        case SIGNAL:
            if (!c->exited)
                kill(-c->pid, payload[0]);
            break;
        case KILL:
            write_file(c->cgroup, "cgroup.kill", "1");
        }
        buffer_drop(from_port, sizeof *h + h->length);
    }
}

static void pass_output(struct command *c, int which, struct buffer *to_port)
{
    static char piece[PIECE];
    size_t most = sizeof piece;
    if (c->exited && (size_t)c->left[which] < most)
        most = (size_t)c->left[which];
    ssize_t n = most ? read(c->output[which], piece, most) : 0;
    if (n > 0) {
        frame_put(to_port, which ? ERRORS : OUTPUT, piece, (size_t)n);
        c->left[which] -= c->exited ? (int)n : 0;
    } else {
        close(c->output[which]);
        c->output[which] = -1;
        c->left[which] = 0;
    }
}

/* The command itself has ended: only what lies in its pipes now is still passed on,
 * for a daemon it left behind may hold them open for ever. */
static void note_exit(struct command *c)
{
    int status = 0;
    waitpid(c->pid, &status, 0);
    c->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    c->exited = 1;
    for (int i = 0; i < 2; i++)
        if (c->output[i] < 0 || ioctl(c->output[i], FIONREAD, &c->left[i]) < 0)
            c->left[i] = 0;
    close(c->pidfd);
    c->pidfd = -1;
}

static void finish(struct command *c, struct buffer *to_port)
{
    unsigned char status = (unsigned char)c->status;
    for (int i = 0; i < 2; i++)
        if (c->output[i] >= 0)
            close(c->output[i]);
    if (c->input >= 0)
        close(c->input);
    rmdir(c->cgroup); /* stays while something of it runs */
    frame_put(to_port, EXIT, &status, 1);
}

static void run(struct command *c, int port, struct buffer *from_port, struct buffer *to_port)
{
    while (!c->exited || c->left[0] || c->left[1]) {
        int room = to_port->used < PIECE;
        struct pollfd fds[] = {
            {.fd = port, .events = POLLIN | (to_port->used ? POLLOUT : 0)},
            {.fd = c->pending.used || c->input_ended ? c->input : -1, .events = POLLOUT},
            {.fd = room && (!c->exited || c->left[0]) ? c->output[0] : -1, .events = POLLIN},
            {.fd = room && (!c->exited || c->left[1]) ? c->output[1] : -1, .events = POLLIN},
            {.fd = c->pidfd, .events = POLLIN},
        };
        int n = poll(fds, 5, ALIVE_SECONDS * 1000);
        if (n == 0 && room)
            frame_put(to_port, ALIVE, NULL, 0);
        if (fds[0].revents & POLLIN)
            buffer_fill(from_port, port);
        if (to_port->used)
            buffer_flush(to_port, port);
        obey(c, from_port);
        feed(c, to_port);
        for (int i = 0; i < 2; i++)
            if (fds[2 + i].revents)
                pass_output(c, i, to_port);
        if (fds[4].revents)
            note_exit(c);
    }
    finish(c, to_port);
}

static int open_port(int slot)
{
    char pattern[32];
    snprintf(pattern, sizeof pattern, "/dev/vport*p%d", slot);
    for (;; usleep(10000)) {
        glob_t found;
        if (glob(pattern, 0, NULL, &found) == 0) {
            int fd = open(found.gl_pathv[0], O_RDWR | O_NONBLOCK | O_CLOEXEC);
            globfree(&found);
            if (fd >= 0)
                return fd;
        }
    }
}

static void serve_slot(int slot)
{
    static struct buffer from_port, to_port;
    static struct command command;
    int port = open_port(slot);
    setpriority(PRIO_PROCESS, 0, -20);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd fd = {.fd = port, .events = POLLIN | (to_port.used ? POLLOUT : 0)};
        poll(&fd, 1, -1);
        if (to_port.used)
            buffer_flush(&to_port, port);
        if (fd.revents & POLLIN)
            buffer_fill(&from_port, port);
        struct header *h = frame_at(&from_port);
        if (!h)
            continue;
        int is_request = h->type == REQUEST;
        if (is_request)
            start(&command, slot, h);
        buffer_drop(&from_port, sizeof *h + h->length);
        if (is_request)
            run(&command, port, &from_port, &to_port);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 125;
    folders = argv + 2;
    int slots = atoi(argv[1]);
    pid_t first = 0;
    for (int i = 1; i <= slots; i++) {
        pid_t pid = fork();
        if (pid == 0)
            serve_slot(i);
        first = first ? first : pid;
    }
    for (;;) {
        pid_t pid = wait(NULL);
        if (pid >= first && pid < first + slots) {
            fprintf(stderr, "agent: the process of slot %d has ended\n", pid - first + 1);
            reboot(RB_AUTOBOOT); /* QEMU ends: better than a silent slot */
        }
    }
}
