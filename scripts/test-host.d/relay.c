/* The host side of a test host: starts QEMU with one virtio-serial port a slot and
 * passes frames between each port and the client of the moment.
 *
 * relay SOCKET SLOTS SECONDS QEMU ARGUMENT…
 *
 * A process a slot accepts clients on SOCKET, so the kernel hands a client to a
 * free slot, and a stuck client holds up nobody else. The relay ends with QEMU,
 * and ends QEMU after SECONDS or when it is told to end itself.
 */
#include "frames.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static pid_t qemu;

static void end_qemu(int number)
{
    (void)number;
    if (qemu > 0)
        kill(qemu, SIGKILL);
}

static void die(const char *what)
{
    perror(what);
    exit(125);
}

/* Moves whole frames as far as there is room; reports the types seen. */
static void move_frames(struct buffer *in, struct buffer *out, int *request, int *end)
{
    struct header *h;
    while ((h = frame_at(in))) {
        size_t length = sizeof *h + h->length;
        if (length > sizeof out->data - out->used)
            return;
        *request |= h->type == REQUEST;
        *end |= h->type == EXIT;
        memcpy(out->data + out->used, h, length);
        out->used += length;
        buffer_drop(in, length);
    }
}

/* One command: from the client's request to EXIT, whether or not the client lives. */
static void serve(int client, int port)
{
    static struct buffer from_client, to_port, from_port, to_client;
    int started = 0, ended = 0, ignored = 0;
    from_client.used = to_port.used = from_port.used = to_client.used = 0;

    while (!ended || to_port.used || (client >= 0 && to_client.used)) {
        struct pollfd fds[] = {
            {.fd = client, .events = (!ended && from_client.used < FRAME_MAX ? POLLIN : 0) |
                                     (to_client.used ? POLLOUT : 0)},
            {.fd = port, .events = (from_port.used < FRAME_MAX ? POLLIN : 0) |
                                   (to_port.used ? POLLOUT : 0)},
        };
        if (poll(fds, 2, -1) < 0)
            continue;
        int lost = 0;
        if (fds[0].revents & POLLOUT)
            lost |= !buffer_flush(&to_client, client);
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
            lost |= !buffer_fill(&from_client, client);
        if (fds[1].revents & POLLOUT && !buffer_flush(&to_port, port))
            exit(0);
        if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && !buffer_fill(&from_port, port))
            exit(0);

        move_frames(&from_client, &to_port, &started, &ignored);
        move_frames(&from_port, &to_client, &ignored, &ended);
        if (lost) {
            close(client);
            client = -1;
            from_client.used = 0;
            if (!started)
                return;
            if (!ended)
                frame_put(&to_port, KILL, NULL, 0);
        }
        if (client < 0)
            to_client.used = 0;
    }
    if (client >= 0)
        close(client);
}

static void slot(int listener, int port)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    fcntl(port, F_SETFL, O_NONBLOCK);
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0)
            serve(client, port);
    }
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(address.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 256) < 0)
        die(path);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 125;
    const char *path = argv[1];
    int slots = atoi(argv[2]);
    unsigned limit = (unsigned)atoi(argv[3]);
    argv += 4;
    argc -= 4;

    int listener = listen_at(path);
    char **full = calloc((size_t)(argc + 4 * slots + 1), sizeof *full);
    memcpy(full, argv, (size_t)argc * sizeof *argv);
    for (int i = 1; i <= slots; i++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
            die("socketpair");
        fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        if (fork() == 0) {
            close(ends[1]);
            slot(listener, ends[0]);
        }
        close(ends[0]);
        full[argc++] = "-chardev";
        if (asprintf(&full[argc++], "socket,id=slot%d,fd=%d", i, ends[1]) < 0)
            die("asprintf");
        full[argc++] = "-device";
        if (asprintf(&full[argc++], "virtserialport,chardev=slot%d,nr=%d", i, i) < 0)
            die("asprintf");
    }
    qemu = fork();
    if (qemu == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(full[0], full);
        die(full[0]);
    }
    signal(SIGALRM, end_qemu);
    signal(SIGTERM, end_qemu);
    alarm(limit);
    while (waitpid(qemu, NULL, 0) < 0 && errno == EINTR)
        ;
    unlink(path);
    return 0;
}
