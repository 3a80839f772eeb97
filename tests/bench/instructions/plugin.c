// Counts the instructions that QEMU's user emulation executes: qemu-ARCH -plugin libcount.so
// PROGRAM.
//
// Each mark (probe.cpp) but the first prints the instructions since the last one. One thread of the
// guest is assumed. The declarations below are the part of QEMU's plugin interface (version 1,
// QEMU 4.2 and later) that this needs: Debian 12 ships no header.
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "tests/bench/instructions/mark.h"

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum { inlineAdd = 0 };
typedef void (*TranslateCallback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*SyscallCallback)(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t, uint64_t,
                                uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, TranslateCallback);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, SyscallCallback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter,
                                              uint64_t step);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

static uint64_t executed, before;
static int hasBegun;

static void onTranslate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_inline(block, inlineAdd, &executed,
                                           qemu_plugin_tb_n_insns(block));
}

static void onSyscall(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a, uint64_t b,
                      uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  if (a != markArgument)
    return;
  if (hasBegun)
    fprintf(stderr, "instructions %" PRIu64 "\n", executed - before);
  hasBegun = 1;
  before = executed;
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc,
                                 char **argv) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, onTranslate);
  qemu_plugin_register_vcpu_syscall_cb(id, onSyscall);
  return 0;
}
