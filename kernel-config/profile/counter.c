/*
 * A QEMU TCG plugin (API 1, QEMU 7.2 and later) that counts the instructions of a
 * guest kernel from its entry point to the first instruction of PID 1.
 *
 * It writes to the file named by out=: one line for each translated block,
 * "address instructions", and one for each executed instruction that leaves the
 * guest on KVM, "address name times". profile/run adds them up by function.
 *
 * marks= names a file of addresses of functions; passed= the one for a line at each of
 * their calls, "address instructions-so-far".
 *
 * entry= is the physical address where the kernel starts: counters begin at zero
 * there, so firmware is not counted. init= is an address in the text of PID 1.
 * Counts whole blocks: a block cut short by a fault counts in full.
 *
 * One vCPU only. Declares the few functions it uses: no package ships the header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0, CB_NO_REGS = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *, uint64_t);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const uint8_t *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

struct counter {
    struct counter *next;
    const char *exit; /* name of the exiting instruction, or NULL for a block */
    uint64_t address;
    uint64_t total;
};

static struct counter *counters;
static uint64_t entry_address, init_address;
static const char *out_path;
static bool started, finished;

enum { MAX_MARKS = 4096 };
static uint64_t marks[MAX_MARKS];
static size_t n_marks;
static FILE *marks_out;

static struct counter *counter_new(uint64_t address, const char *exit_name)
{
    struct counter *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->address = address;
    c->exit = exit_name;
    c->next = counters;
    counters = c;
    return c;
}

/* Instructions that KVM answers with an exit. MSRs: not all of them do. */
static const char *exit_name(const uint8_t *p, size_t size)
{
    while (size > 1 && (*p == 0x66 || *p == 0xf2 || *p == 0xf3))
        p++, size--;
    if ((p[0] >= 0xe4 && p[0] <= 0xe5) || p[0] == 0xec || p[0] == 0xed || p[0] == 0x6c || p[0] == 0x6d)
        return "in";
    if (p[0] == 0xe6 || p[0] == 0xe7 || p[0] == 0xee || p[0] == 0xef || p[0] == 0x6e || p[0] == 0x6f)
        return "out";
    if (p[0] == 0xf4)
        return "hlt";
    if (size == 2 && p[0] == 0x0f) {
        switch (p[1]) {
        case 0xa2: return "cpuid";
        case 0x30: return "wrmsr";
        case 0x32: return "rdmsr";
        case 0x09: return "wbinvd";
        }
    }
    return NULL;
}

/* The instructions so far, at every call of a function named in marks=. */
static void mark_passed(unsigned vcpu, void *address)
{
    (void)vcpu;
    uint64_t total = 0;
    for (struct counter *c = counters; c; c = c->next)
        total += c->exit ? 0 : c->total;
    fprintf(marks_out, "%016" PRIxPTR " %" PRIu64 "\n", (uintptr_t)address, total);
}

static bool is_mark(uint64_t address)
{
    for (size_t i = 0; i < n_marks; i++)
        if (marks[i] == address)
            return true;
    return false;
}

static void read_marks(const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in) {
        perror(path);
        exit(1);
    }
    while (n_marks < MAX_MARKS && fscanf(in, "%" SCNx64, &marks[n_marks]) == 1)
        n_marks++;
    fclose(in);
}

static void write_profile(void)
{
    FILE *out = fopen(out_path, "w");
    if (!out) {
        perror(out_path);
        exit(1);
    }
    for (struct counter *c = counters; c; c = c->next) {
        if (c->total && c->exit)
            fprintf(out, "%016" PRIx64 " %s %" PRIu64 "\n", c->address, c->exit, c->total);
        else if (c->total)
            fprintf(out, "%016" PRIx64 " %" PRIu64 "\n", c->address, c->total);
    }
    fclose(out);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    uint64_t start = qemu_plugin_tb_vaddr(tb);
    size_t n = qemu_plugin_tb_n_insns(tb);

    if (finished)
        return;
    if (!started && start == entry_address) {
        started = true;
        for (struct counter *c = counters; c; c = c->next)
            c->total = 0;
    }
    /* Translation comes before execution, so PID 1 has run nothing yet. */
    if (started && start >> 12 == init_address >> 12) {
        finished = true;
        fclose(marks_out);
        write_profile();
        exit(0);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &counter_new(start, NULL)->total, n);
    if (is_mark(start))
        qemu_plugin_register_vcpu_tb_exec_cb(tb, mark_passed, CB_NO_REGS, (void *)(uintptr_t)start);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const char *name = exit_name(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
        if (name)
            qemu_plugin_register_vcpu_insn_exec_inline(
                insn, INLINE_ADD_U64, &counter_new(qemu_plugin_insn_vaddr(insn), name)->total, 1);
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "entry=", 6))
            entry_address = strtoull(argv[i] + 6, NULL, 0);
        else if (!strncmp(argv[i], "init=", 5))
            init_address = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "out=", 4))
            out_path = strdup(argv[i] + 4);
        else if (!strncmp(argv[i], "marks=", 6))
            read_marks(argv[i] + 6);
        else if (!strncmp(argv[i], "passed=", 7))
            marks_out = fopen(argv[i] + 7, "w");
        else
            return -1;
    }
    if (!entry_address || !init_address || !out_path || !marks_out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
