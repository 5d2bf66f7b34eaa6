/* test-host run: one command in the test host, from its request to its exit status.
 *
 * client SOCKET [--root|--user] [--timeout SECONDS] [-n] [--] COMMAND…
 *   -n  standard input is empty (otherwise it is passed unless it is a terminal)
 * Status 125 is the test host's own failure, 124 the time limit.
 */
#include "frames.h"
#include <ftw.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static volatile sig_atomic_t got_signal, signals_seen;

static void on_signal(int number)
{
    got_signal = number;
    signals_seen++;
}

static void fail(const char *what)
{
    fprintf(stderr, "test-host: %s\n", what);
    exit(125);
}

static void write_all(int fd, const void *data, size_t length)
{
    const char *p = data;
    while (length) {
        ssize_t n = write(fd, p, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (n < 0)
            exit(fd > 2 ? 125 : 128 + SIGPIPE); /* the relay ends the command */
        p += n;
        length -= (size_t)n;
    }
}

static void send_frame(int fd, enum frame_type type, const void *data, size_t length)
{
    static struct buffer b;
    b.used = 0;
    frame_put(&b, type, data, length);
    write_all(fd, b.data, b.used);
}

static uint64_t stamp = 0xcbf29ce484222325;

static void mix(const void *data, size_t length)
{
    for (const unsigned char *p = data; length--; p++)
        stamp = (stamp ^ *p) * 0x100000001b3;
}

static int stamp_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    static const char *const skipped[] = {".git", "incremental", ".fingerprint"};
    for (size_t i = 0; type == FTW_D && i < sizeof skipped / sizeof *skipped; i++)
        if (!strcmp(path + ftw->base, skipped[i]))
            return FTW_SKIP_SUBTREE;
    uint64_t facts[] = {st->st_ino, (uint64_t)st->st_mtim.tv_sec,
                        (uint64_t)st->st_mtim.tv_nsec, (uint64_t)st->st_size};
    mix(path, strlen(path));
    mix(facts, sizeof facts);
    return FTW_CONTINUE;
}

/* The machine caches what it reads of the shared folders, named in `fresh` beside the
 * socket. The stamp is a hash of their names, sizes and times, to tell it of a change. */
static void stamp_folders(const char *socket_path)
{
    char path[4096];
    snprintf(path, sizeof path, "%.*s/fresh", (int)(strrchr(socket_path, '/') - socket_path),
             socket_path);
    FILE *list = fopen(path, "r");
    while (list && fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = 0;
        nftw(path, stamp_file, 32, FTW_PHYS | FTW_ACTIONRETVAL);
    }
}

static void send_request(int fd, int as_root, char **argv)
{
    static char text[FRAME_MAX];
    struct request request = {stamp, (uint32_t)as_root};
    memcpy(text, &request, sizeof request);
    size_t used = sizeof request;
    if (!getcwd(text + used, sizeof text / 2 - used))
        fail("no working directory");
    used += strlen(text + used) + 1;
    for (; *argv; argv++) {
        size_t length = strlen(*argv) + 1;
        if (length > sizeof text - used)
            fail("the command is too long");
        memcpy(text + used, *argv, length);
        used += length;
    }
    send_frame(fd, REQUEST, text, used);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        fail("the state folder's path is too long for a socket");
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("the machine is not up (scripts/test-host up)");
    return fd;
}

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* Acts on the frames that have come; exits at EXIT. */
static void take_frames(struct buffer *in, size_t *window, int timed_out)
{
    struct header *h;
    while ((h = frame_at(in))) {
        unsigned char *payload = in->data + sizeof *h;
        switch (h->type) {
        case OUTPUT:
            write_all(1, payload, h->length);
            break;
        case ERRORS:
            write_all(2, payload, h->length);
            break;
        case TAKEN:
            *window += *(uint32_t *)payload;
            break;
        case EXIT:
            exit(timed_out ? 124 : payload[0]);
        }
        buffer_drop(in, sizeof *h + h->length);
    }
}

static void relay_until_exit(int fd, int input, long limit)
{
    static struct buffer in;
    static char piece[PIECE];
    size_t window = WINDOW;
    int timed_out = 0;
    long deadline = limit ? now() + limit : 0, heard = now();

    for (;;) {
        if (got_signal) {
            unsigned char number = (unsigned char)got_signal;
            got_signal = 0;
            if (signals_seen > 1)
                exit(128 + number); /* the relay ends the command */
            send_frame(fd, SIGNAL, &number, 1);
        }
        struct pollfd fds[] = {
            {.fd = fd, .events = POLLIN},
            {.fd = window ? input : -1, .events = POLLIN},
        };
        if (poll(fds, 2, 1000) < 0)
            continue;
        if (fds[0].revents) {
            heard = now();
            if (!buffer_fill(&in, fd))
                fail("the machine has died under the command");
            take_frames(&in, &window, timed_out);
            heard = now(); /* a slow reader of ours is no hang of the machine */
        } else if (now() - heard > HANG_SECONDS) {
            fail("the machine hangs: no sign of life for 120 s");
        }
        if (fds[1].revents) {
            ssize_t n = read(input, piece, window < PIECE ? window : PIECE);
            if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
                n = n < 0 ? 0 : n;
                send_frame(fd, INPUT, piece, (size_t)n);
                window -= (size_t)n;
                input = n ? input : -1;
            }
        }
        if (deadline && now() >= deadline && !timed_out) {
            fprintf(stderr, "test-host: command killed after %ld s\n", limit);
            send_frame(fd, KILL, NULL, 0);
            timed_out = 1;
        }
    }
}

int main(int argc, char **argv)
{
    int as_root = 0, with_input = !isatty(0);
    long limit = 0;
    if (argc < 2)
        fail("client: no socket given");
    const char *path = argv[1];
    for (argv += 2; *argv && argv[0][0] == '-'; argv++) {
        if (!strcmp(*argv, "--root"))
            as_root = 1;
        else if (!strcmp(*argv, "--user"))
            as_root = 0;
        else if (!strcmp(*argv, "-n"))
            with_input = 0;
        else if (!strcmp(*argv, "--timeout") && argv[1])
            limit = strtol(*++argv, NULL, 10);
        else if (!strcmp(*argv, "--")) {
            argv++;
            break;
        } else
            fail("usage: test-host run [--root|--user] [--timeout SECONDS] [-n] [--] COMMAND…");
    }
    if (!*argv)
        fail("run: no command given");

    struct sigaction action = {.sa_handler = on_signal};
    int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
        sigaction(forwarded[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    int fd = connect_to(path);
    stamp_folders(path);
    send_request(fd, as_root, argv);
    int input = with_input ? 0 : -1;
    if (!with_input)
        send_frame(fd, INPUT, NULL, 0);
    relay_until_exit(fd, input, limit);
}
