#include "semihost.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20
};

static uint32_t call(int operation, const void *argument) {
#if defined(__riscv)
    register uint32_t a0 __asm("a0") = (uint32_t)operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n .option norvc\n .balign 16\n slli x0,x0,0x1f\n ebreak\n"
                   " srai x0,x0,7\n .option pop"
                   : "+r"(a0)
                   : "r"(a1)
                   : "memory");
    return a0;
#else
    register uint32_t r0 __asm("r0") = (uint32_t)operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

void semihost_write(const char *text) {
    (void)call(SYS_WRITE0, text);
}

void semihost_write_number(uint32_t value) {
    char digits[11];
    char *p = digits + sizeof digits;
    *--p = 0;
    do {
        *--p = (char)('0' + value % 10u);
        value /= 10u;
    } while (value);
    semihost_write(p);
}

int semihost_open(const char *path, int mode) {
    uint32_t length = 0;
    while (path[length])
        ++length;
    const uint32_t block[3] = {(uint32_t)(uintptr_t)path, (uint32_t)mode, length};
    return (int)call(SYS_OPEN, block);
}

uint32_t semihost_read(int handle, void *bytes, uint32_t size) {
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)bytes, size};
    return size - call(SYS_READ, block);
}

uint32_t semihost_file_write(int handle, const void *bytes, uint32_t size) {
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)bytes, size};
    return size - call(SYS_WRITE, block);
}

void semihost_close(int handle) {
    const uint32_t block[1] = {(uint32_t)handle};
    (void)call(SYS_CLOSE, block);
}

void semihost_exit(int status) {
    const uint32_t block[2] = {0x20026u, (uint32_t)status}; /* ADP_Stopped_ApplicationExit */
    (void)call(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}
