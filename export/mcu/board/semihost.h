/* Semihosting, Arm's and RISC-V's: what the example firmware needs to talk to a debugger or to
 * QEMU. */
#ifndef EC2T_SEMIHOST_H
#define EC2T_SEMIHOST_H
#include <stdint.h>

/* Writes a zero-terminated string to the debug console. */
void semihost_write(const char *text);
/* Writes an unsigned number in decimal. */
void semihost_write_number(uint32_t value);
/* Opens a file of the host; mode 1 reads, mode 5 writes. Returns a handle or -1. */
int semihost_open(const char *path, int mode);
/* Returns the number of bytes read, at most `size`. */
uint32_t semihost_read(int handle, void *bytes, uint32_t size);
/* Returns the number of bytes written. */
uint32_t semihost_file_write(int handle, const void *bytes, uint32_t size);
void semihost_close(int handle);
/* Ends the session; `status` becomes QEMU's exit status. */
__attribute__((noreturn)) void semihost_exit(int status);

/* Markers for the counting plugin: hints, which do nothing on any core. */
#if defined(__riscv)
#define EC2T_COUNT_BEGIN() __asm volatile("slti x0,x0,0x70" ::: "memory")
#define EC2T_COUNT_LAP() __asm volatile("slti x0,x0,0x90" ::: "memory")
#define EC2T_COUNT_END() __asm volatile("slti x0,x0,0x80" ::: "memory")
#else
#define EC2T_COUNT_BEGIN() __asm volatile(".short 0xbf70" ::: "memory")
#define EC2T_COUNT_LAP() __asm volatile(".short 0xbf90" ::: "memory")
#define EC2T_COUNT_END() __asm volatile(".short 0xbf80" ::: "memory")
#endif
#endif
