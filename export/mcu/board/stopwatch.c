#include "stopwatch.h"

#if defined(__riscv)
static uint32_t start;

static uint32_t retired(void) {
    uint32_t count;
    __asm volatile(".insn i 0x73,2,%0,x0,-1278" : "=r"(count)); /* csrr minstret */
    return count;
}

void stopwatch_start(void) {
    start = retired();
}

uint32_t stopwatch_stop(void) {
    return retired() - start;
}
#else
#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CONTROL REGISTER(0xE000E010u)
#define RELOAD REGISTER(0xE000E014u)
#define CURRENT REGISTER(0xE000E018u)

enum { RANGE = 0xffffff, LOOPS = 100000 };
/* The processor's clock, also when stopped: another one would scale the count. Running: with an
 * interrupt at every wrap. */
enum { STOPPED = 4, RUNNING = 7 };
static volatile uint32_t wraps;
static uint64_t ticks_of_the_loop;

void SysTick_Handler(void);
void SysTick_Handler(void) {
    wraps = wraps + 1u;
}

static void begin(void) {
    CONTROL = STOPPED;
    wraps = 0;
    RELOAD = RANGE;
    CURRENT = 0;
    CONTROL = RUNNING;
}

static uint64_t end(void) {
    CONTROL = STOPPED;
    __asm volatile("dsb\n isb" ::: "memory");
    return (uint64_t)wraps * (RANGE + 1u) + (RANGE - CURRENT);
}

void stopwatch_start(void) {
    uint32_t count = LOOPS;
    begin();
    __asm volatile("1: sub %0,%0,#1\n cmp %0,#0\n bne 1b" : "+l"(count) : : "cc");
    ticks_of_the_loop = end();
    begin();
}

uint32_t stopwatch_stop(void) {
    return (uint32_t)(end() * (3u * LOOPS) / ticks_of_the_loop);
}
#endif
