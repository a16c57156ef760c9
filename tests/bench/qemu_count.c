/* QEMU TCG plugin (plugin API version 1): instructions, loads and stores executed between two
 * marker hints of the guest. One line a region on standard error: COUNT instructions loads stores.
 * A lap marker ends one region and begins the next. QEMU's packages ship no plugin header, so the
 * few functions used are declared here from its documentation. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, void (*)(PluginId, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int operation,
                                                void *counter, uint64_t addend);
void qemu_plugin_register_vcpu_mem_inline(struct qemu_plugin_insn *, int direction, int operation,
                                          void *counter, uint64_t addend);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *),
                                            int flags, void *);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED extern const int qemu_plugin_version;
const int qemu_plugin_version = 1;

enum { INSTRUCTIONS, LOADS, STORES, COUNTERS };
enum { MARK_BEGIN = 0xbf70, MARK_END = 0xbf80, MARK_LAP = 0xbf90 };
static uint64_t now[COUNTERS], start[COUNTERS];

static void begin(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    memcpy(start, now, sizeof now);
}

static void end(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    /* The closing marker has been counted by now, the opening one before. */
    fprintf(stderr, "COUNT %llu %llu %llu\n",
            (unsigned long long)(now[INSTRUCTIONS] - start[INSTRUCTIONS] - 1),
            (unsigned long long)(now[LOADS] - start[LOADS]),
            (unsigned long long)(now[STORES] - start[STORES]));
}

static void lap(unsigned cpu, void *unused) {
    end(cpu, unused);
    begin(cpu, unused);
}

static void translated(PluginId id, struct qemu_plugin_tb *block) {
    (void)id;
    const size_t n = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < n; ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &now[INSTRUCTIONS], 1);
        qemu_plugin_register_vcpu_mem_inline(insn, 1, 0, &now[LOADS], 1);
        qemu_plugin_register_vcpu_mem_inline(insn, 2, 0, &now[STORES], 1);
        /* The size is no help: QEMU adds the next halfword to an instruction before a page's end. A
         * first halfword of 0xbfxx is always a hint of 16 bits. */
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
        switch (bytes[0] | bytes[1] << 8) {
        case MARK_BEGIN: qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, 0, NULL); break;
        case MARK_LAP: qemu_plugin_register_vcpu_insn_exec_cb(insn, lap, 0, NULL); break;
        case MARK_END: qemu_plugin_register_vcpu_insn_exec_cb(insn, end, 0, NULL); break;
        default: break;
        }
    }
}

EXPORTED int qemu_plugin_install(PluginId id, const struct qemu_info *info, int argc, char **argv);
int qemu_plugin_install(PluginId id, const struct qemu_info *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
