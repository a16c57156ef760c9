/* QEMU TCG plugin (plugin API version 1): what a guest executes between two marker hints. One line
 * a region on standard error: COUNT instructions loads stores cycles. A lap marker ends one region
 * and begins the next. Instructions, loads and stores are exact; cycles are an estimate by the
 * published timings of thumb_timing.h, 0 for a core that has none (argument core=m0plus|m3|m4, or
 * rv32). With aligned=on a RISC-V guest ends with status 98 and a line MISALIGNED at the first load
 * or store whose address is no multiple of its size.
 * QEMU's packages ship no plugin header, so the few functions used are declared here from its
 * documentation. */
#include "thumb_timing.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, void (*)(PluginId, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *),
                                          int flags, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int operation,
                                                void *counter, uint64_t addend);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *),
                                            int flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                      void (*)(unsigned, uint32_t, uint64_t, void *), int flags,
                                      int direction, void *);
unsigned qemu_plugin_mem_size_shift(uint32_t);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED extern const int qemu_plugin_version;
const int qemu_plugin_version = 1;

enum { INSTRUCTIONS, LOADS, STORES, CYCLES, COUNTERS };
enum { MARK_BEGIN = 0xbf70, MARK_END = 0xbf80, MARK_LAP = 0xbf90 };
static uint64_t now[COUNTERS], start[COUNTERS];
static enum timing timing = TIMING_NONE;
static bool riscv, aligned;

static void begin(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    memcpy(start, now, sizeof now);
}

static void end(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    /* The closing marker has been counted by now, the opening one before. */
    const uint64_t cycles = now[CYCLES] - start[CYCLES];
    fprintf(stderr, "COUNT %llu %llu %llu %llu\n",
            (unsigned long long)(now[INSTRUCTIONS] - start[INSTRUCTIONS] - 1),
            (unsigned long long)(now[LOADS] - start[LOADS]),
            (unsigned long long)(now[STORES] - start[STORES]),
            (unsigned long long)(cycles ? cycles - 1 : 0));
}

static void lap(unsigned cpu, void *unused) {
    end(cpu, unused);
    begin(cpu, unused);
}

static void count(struct qemu_plugin_insn *insn, int counter, uint64_t amount) {
    if (amount)
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &now[counter], amount);
}

/* An access that is not aligned takes one more cycle, a word at an odd address two. */
static void accessed(unsigned cpu, uint32_t info, uint64_t address, void *unused) {
    (void)cpu, (void)unused;
    const unsigned shift = qemu_plugin_mem_size_shift(info);
    if (address & ((1u << (shift > 2 ? 2 : shift)) - 1u))
        now[CYCLES] += shift >= 2 && (address & 1u) ? 2 : 1;
}

/* A block of instructions that run one after the other. */
struct block {
    uint64_t begins, ends;
    unsigned refill; /* cycles more if what runs next is not what follows in memory */
};
static uint64_t last_end;
static unsigned last_refill;

static void entered(unsigned cpu, void *user) {
    (void)cpu;
    const struct block *block = user;
    if (block->begins != last_end)
        now[CYCLES] += last_refill;
    last_end = block->ends;
    last_refill = block->refill;
}

static void marked(struct qemu_plugin_insn *insn, unsigned marker) {
    switch (marker) {
    case MARK_BEGIN: qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, 0, NULL); break;
    case MARK_LAP: qemu_plugin_register_vcpu_insn_exec_cb(insn, lap, 0, NULL); break;
    case MARK_END: qemu_plugin_register_vcpu_insn_exec_cb(insn, end, 0, NULL); break;
    default: break;
    }
}

/* QEMU's virt machine takes any address; `user` is the instruction's. */
static void must_be_aligned(unsigned cpu, uint32_t info, uint64_t address, void *user) {
    (void)cpu;
    if (address & ((1u << qemu_plugin_mem_size_shift(info)) - 1u)) {
        fprintf(stderr, "MISALIGNED pc %#lx address %#llx\n", (unsigned long)(uintptr_t)user,
                (unsigned long long)address);
        _exit(98);
    }
}

/* RISC-V: instructions alone. The markers are slti x0,x0,0x70 and so on: hints. */
static void count_riscv(struct qemu_plugin_tb *tb) {
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
        count(insn, INSTRUCTIONS, 1);
        if (aligned) {
            const uintptr_t pc = (uintptr_t)qemu_plugin_insn_vaddr(insn);
            qemu_plugin_register_vcpu_mem_cb(insn, must_be_aligned, 0, 3, (void *)pc);
        }
        if (bytes[0] == 0x13 && bytes[1] == 0x20 && !(bytes[2] & 15))
            marked(insn, 0xbf00u | (unsigned)bytes[2] >> 4 | (unsigned)bytes[3] << 4);
    }
}

static void translated(PluginId id, struct qemu_plugin_tb *tb) {
    (void)id;
    if (riscv) {
        count_riscv(tb);
        return;
    }
    const size_t n = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block); /* lives as long as QEMU */
    struct thumb before = thumb_none();
    if (timing != TIMING_NONE)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, entered, 0, block);
    for (size_t i = 0; i < n; ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        /* The size is no help: QEMU adds the next halfword to an instruction before a page's end. A
         * first halfword of 0xbfxx is always a hint of 16 bits. */
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
        const uint16_t first = (uint16_t)(bytes[0] | bytes[1] << 8);
        const bool wide = first >> 11 >= 0x1d;
        const uint16_t second = wide ? (uint16_t)(bytes[2] | bytes[3] << 8) : 0;
        const struct thumb decoded = thumb_decode(first, second, timing);
        count(insn, INSTRUCTIONS, 1);
        count(insn, LOADS, decoded.kind == THUMB_LOAD || decoded.kind == THUMB_LOADS);
        count(insn, STORES, decoded.kind == THUMB_STORE);
        if (timing != TIMING_NONE) {
            count(insn, CYCLES, thumb_cycles(&decoded, &before, timing));
            if (timing != TIMING_M0PLUS && decoded.kind != THUMB_OTHER)
                qemu_plugin_register_vcpu_mem_cb(insn, accessed, 0, 3, NULL);
        }
        block->refill = decoded.refill;
        if (!i)
            block->begins = qemu_plugin_insn_vaddr(insn);
        block->ends = qemu_plugin_insn_vaddr(insn) + (wide ? 4 : 2);
        before = decoded;
        marked(insn, first);
    }
}

EXPORTED int qemu_plugin_install(PluginId id, const struct qemu_info *info, int argc, char **argv);
int qemu_plugin_install(PluginId id, const struct qemu_info *info, int argc, char **argv) {
    (void)info;
    static const char *const names[] = {"core=none", "core=m0plus", "core=m3", "core=m4"};
    for (int i = 0; i < argc; ++i) {
        riscv = riscv || !strcmp(argv[i], "core=rv32");
        aligned = aligned || !strcmp(argv[i], "aligned=on");
        for (int t = 0; t < 4; ++t) {
            if (!strcmp(argv[i], names[t]))
                timing = (enum timing)t;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
