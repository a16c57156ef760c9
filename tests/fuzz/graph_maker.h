/* Graphs of several operators out of any bytes: mostly well-formed, with a few fields twisted. */
#ifndef EC2T_FUZZ_GRAPH_MAKER_H
#define EC2T_FUZZ_GRAPH_MAKER_H

#include "runtime.h"

/* Bytes that decide; zeros after their end. */
typedef struct {
    const uint8_t *at, *end;
} decisions;

uint8_t decide(decisions *from);

/* A number below `count`, which is at most 256. */
int pick(decisions *from, int count);

/* Fills an empty runtime. */
void make_graph(ec2t_runtime *runtime, decisions *from);

#endif
