/* Start-up code for Cortex-M0 to Cortex-M55 and 32-bit RISC-V under QEMU: stack, FPU and Helium
 * access, .bss, main. Written against the ARMv6-M, ARMv7-M, ARMv8.1-M and RISC-V architecture
 * manuals; no vendor headers. */
#include <stdint.h>

#include "semihost.h"

extern uint32_t ec2t_stack_top[], ec2t_bss_start[], ec2t_bss_end[];
int main(void);
void Reset_Handler(void);
void Fault_Handler(void);

#if defined(__riscv)
void ec2t_start(void);

/* The word is csrw mtvec,t0, which not every -march lets the assembler know. */
__attribute__((naked, used, section(".vectors"))) void Reset_Handler(void) {
    __asm volatile("la sp,ec2t_stack_top\n la t0,Fault_Handler\n .word 0x30529073\n j ec2t_start");
}

__attribute__((used)) void ec2t_start(void) {
    for (uint32_t *p = ec2t_bss_start; p < ec2t_bss_end; ++p)
        *p = 0;
    semihost_exit(main());
}
#else
void SysTick_Handler(void) __attribute__((weak, alias("Fault_Handler")));

typedef union {
    uint32_t *stack;
    void (*handler)(void);
} Vector;

__attribute__((section(".vectors"), used))
const Vector ec2t_vectors[16] = {{.stack = ec2t_stack_top},
                                 {.handler = Reset_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = 0},
                                 {.handler = 0},
                                 {.handler = 0},
                                 {.handler = Fault_Handler},
                                 {.handler = Fault_Handler},
                                 {.handler = 0},
                                 {.handler = Fault_Handler},
                                 {.handler = SysTick_Handler}};

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CONFIGURATION_CONTROL REGISTER(0xE000ED14u)
#define COPROCESSOR_ACCESS REGISTER(0xE000ED88u)

void Reset_Handler(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    COPROCESSOR_ACCESS |= 0xFu << 20; /* CP10 and CP11: floating point and Helium */
#endif
#if defined(__ARM_FEATURE_MVE)
    CONFIGURATION_CONTROL |= 1u << 19; /* low-overhead loops */
#endif
#if !defined(__ARM_FEATURE_UNALIGNED)
    /* ARMv6-M and ARMv8-M baseline fault on unaligned words. On a larger core standing in for one,
     * ask for the same; where the bit is fixed the write is ignored. */
    CONFIGURATION_CONTROL |= 1u << 3;
#endif
    __asm volatile("dsb\n isb" ::: "memory");
    for (uint32_t *p = ec2t_bss_start; p < ec2t_bss_end; ++p)
        *p = 0;
    semihost_exit(main());
}
#endif

__attribute__((aligned(4))) void Fault_Handler(void) {
    semihost_write("FAULT\n");
    semihost_exit(99);
}
