/* What both programs of the benches share: marks for qemu_count_plugin.c, and giving up. */
#ifndef EC2T_BENCH_H
#define EC2T_BENCH_H
#include <stdio.h>
#include <stdlib.h>

#if defined(__aarch64__)
#define MARK_BEGIN() __asm__ volatile("hint #0x70" ::: "memory")
#define MARK_END() __asm__ volatile("hint #0x78" ::: "memory")
#else
#define MARK_BEGIN() ((void)0)
#define MARK_END() ((void)0)
#endif

static inline void fail(const char *what) {
    fprintf(stderr, "error: %s\n", what);
    exit(1);
}

static inline void *allocate(size_t size) {
    void *const memory = malloc(size ? size : 1);
    if (memory == NULL) {
        fail("out of memory");
    }
    return memory;
}

#endif
