/*
 * reads FILE [OFFSET]: reads the GiB (or what there is) of FILE from OFFSET on, in order, 128 KiB
 * at a time, and then 20,000 times 4 KiB of it at random; prints MiB/s of each. The caches
 * are as the caller left them; "fresh" as a third word drops those of FILE first.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 128 << 10, SMALL = 4096, RANDOM_READS = 20000 };
static char buffer[BIG] __attribute__((aligned(4096)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void forget(int fd) {
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) errx(1, "cannot drop the cache");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    int fd = open(argv[1], O_RDONLY);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat)) err(1, "%s", argv[1]);
    off_t offset = argc > 2 ? atoll(argv[2]) : 0;
    int fresh = argc > 3 && !strcmp(argv[3], "fresh");
    off_t size = stat.st_size - offset;
    if (size > 1 << 30) size = 1 << 30;
    size -= size % BIG;

    if (fresh) forget(fd);
    double start = now();
    for (off_t at = 0; at < size; at += BIG)
        if (pread(fd, buffer, BIG, offset + at) != BIG) err(1, "read");
    double sequential = size / (now() - start) / (1 << 20);

    if (fresh) forget(fd);
    uint64_t x = 88172645463325252u;
    start = now();
    for (int i = 0; i < RANDOM_READS; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (pread(fd, buffer, SMALL, offset + (off_t)(x % (size / SMALL)) * SMALL) != SMALL) err(1, "read");
    }
    double random = RANDOM_READS * (double)SMALL / (now() - start) / (1 << 20);
    printf("%.1f %.1f\n", sequential, random);
}
