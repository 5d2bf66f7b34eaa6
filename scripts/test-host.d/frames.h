/* What travels between client, relay and agent of the test host.
 *
 *   client ──unix socket── relay ──virtio-serial port── agent
 *   (test-host run)        (starts QEMU; a process a slot)  (PID 1 of the machine)
 *
 * One slot carries one command at a time, from REQUEST to EXIT. Both far ends
 * outlive every client, so a slot never loses its place in the stream: when a
 * client dies, the relay sends KILL in its stead and reads on up to EXIT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum frame_type {
    REQUEST = 'R', /* to agent: struct request, then "cwd\0argv0\0argv1\0…" */
    INPUT = 'I',   /* to agent: standard input, within WINDOW; empty = its end */
    SIGNAL = 'S',  /* to agent: one byte, for the command's process group */
    KILL = 'K',    /* to agent: SIGKILL to all that the command started */
    OUTPUT = 'O',  /* to client: standard output */
    ERRORS = 'E',  /* to client: standard error */
    TAKEN = 'T',   /* to client: uint32_t, bytes of input the command has taken */
    ALIVE = 'A',   /* to client: nothing happens, but the machine lives */
    EXIT = 'X',    /* to client: one byte, the exit status; the last frame */
};

struct header {
    uint32_t type;
    uint32_t length; /* of what follows; at most FRAME_MAX */
};

struct request {
    uint64_t stamp; /* of the shared folders' content; a new one: mount them anew */
    uint32_t as_root;
};

#define FRAME_MAX (256 * 1024u)
#define WINDOW (64 * 1024u)   /* input under way that the command has not taken */
#define PIECE (32 * 1024u)    /* of output in one frame */
#define ALIVE_SECONDS 10      /* between two signs of life */
#define HANG_SECONDS 120      /* without one: the machine hangs */

/* Bytes on their way in or out; `used` of them at `data`. */
struct buffer {
    size_t used;
    unsigned char data[sizeof(struct header) + FRAME_MAX + PIECE];
};

/* Reads once. 1: something came (or nothing yet), 0: the end or an error. */
static inline int buffer_fill(struct buffer *b, int fd)
{
    ssize_t n = read(fd, b->data + b->used, sizeof b->data - b->used);
    if (n > 0)
        b->used += (size_t)n;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static inline void buffer_drop(struct buffer *b, size_t n)
{
    b->used -= n;
    memmove(b->data, b->data + n, b->used);
}

/* Writes once what it can; the same results as buffer_fill. */
static inline int buffer_flush(struct buffer *b, int fd)
{
    ssize_t n = write(fd, b->data, b->used);
    if (n > 0)
        buffer_drop(b, (size_t)n);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The whole frame at the buffer's start, or NULL when it has not all come. */
static inline struct header *frame_at(struct buffer *b)
{
    struct header *h = (struct header *)b->data;
    if (b->used < sizeof *h)
        return NULL;
    if (h->length > FRAME_MAX) {
        fprintf(stderr, "test-host: frame of %u bytes\n", h->length);
        exit(125);
    }
    return b->used >= sizeof *h + h->length ? h : NULL;
}

/* Appends a frame; the caller sees to it that there is room. */
static inline void frame_put(struct buffer *b, enum frame_type type,
                             const void *payload, size_t length)
{
    struct header h = {type, (uint32_t)length};
    memcpy(b->data + b->used, &h, sizeof h);
    if (length)
        memcpy(b->data + b->used + sizeof h, payload, length);
    b->used += sizeof h + length;
}
