/* QEMU user-mode plugin: counts executed AArch64 instructions between two markers, exactly.
 *
 * The markers are HINTs that do nothing on any core: `hint #0x70` begins, `hint #0x78` ends. Each
 * pair prints one line "COUNT n" to stderr, the markers themselves left out. The declarations below
 * are our own, from the documented plugin interface (API version 1), as distributions ship no
 * header. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct plugin_block;
struct plugin_instruction;
struct plugin_info;

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id,
                                                  void (*)(plugin_id, struct plugin_block *));
extern size_t qemu_plugin_tb_n_insns(const struct plugin_block *);
extern struct plugin_instruction *qemu_plugin_tb_get_insn(const struct plugin_block *, size_t);
extern const void *qemu_plugin_insn_data(const struct plugin_instruction *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct plugin_instruction *, int operation,
                                                       void *counter, uint64_t step);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct plugin_instruction *,
                                                   void (*)(unsigned, void *), int flags, void *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static uint64_t executed, at_begin;

static uint32_t hint(uint32_t number) {
    return 0xd503201fu | number << 5;
}

static void on_begin(unsigned cpu, void *data) {
    (void)cpu;
    (void)data;
    at_begin = executed;
}

static void on_end(unsigned cpu, void *data) {
    (void)cpu;
    (void)data;
    /* The counter has this marker and the first one in it, or neither, by the order of callbacks:
     * an empty pair of markers calibrates. */
    fprintf(stderr, "COUNT %llu\n", (unsigned long long)(executed - at_begin));
}

static void on_block(plugin_id id, struct plugin_block *block) {
    (void)id;
    const size_t count = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < count; ++i) {
        struct plugin_instruction *const instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, 0, &executed, 1);
        if (code == hint(0x70)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_begin, 0, NULL);
        } else if (code == hint(0x78)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_end, 0, NULL);
        }
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc,
                               char **argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    return 0;
}
