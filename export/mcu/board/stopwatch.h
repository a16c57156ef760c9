/* Counts executed instructions in QEMU run with -icount: there time is a fixed number of
 * nanoseconds an instruction, and SysTick shows it. On a board the result means nothing. */
#ifndef EC2T_STOPWATCH_H
#define EC2T_STOPWATCH_H
#include <stdint.h>

/* Calibrates and starts. */
void stopwatch_start(void);
/* Instructions since the start, to some ten. */
uint32_t stopwatch_stop(void);
#endif
