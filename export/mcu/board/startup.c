/* Start-up code for Cortex-M0 to Cortex-M55 under QEMU: stack, FPU and Helium access, .bss, main.
 * Written against the ARMv6-M, ARMv7-M and ARMv8.1-M architecture manuals; no vendor headers. */
#include <stdint.h>

#include "semihost.h"

extern uint32_t ec2t_stack_top[], ec2t_bss_start[], ec2t_bss_end[];
int main(void);
void Reset_Handler(void);
void Fault_Handler(void);
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
#if __ARM_ARCH == 6
    /* ARMv6-M faults on unaligned words. On a larger core standing in for it, ask for the same;
     * where the bit is fixed the write is ignored. */
    CONFIGURATION_CONTROL |= 1u << 3;
#endif
    __asm volatile("dsb\n isb" ::: "memory");
    for (uint32_t *p = ec2t_bss_start; p < ec2t_bss_end; ++p)
        *p = 0;
    semihost_exit(main());
}

void Fault_Handler(void) {
    semihost_write("FAULT\n");
    semihost_exit(99);
}
