/* The tensors of a partition, and where those that are its own lie. */
#ifndef EC2T_VALUES_H
#define EC2T_VALUES_H

#include "elementwise.h"

/* A tensor that the partition reads, writes or keeps to itself. */
typedef struct {
    int tensor;
    bool is_input, is_output; /* of the partition; neither: inner, in our own arena */
    ec2t_extent extent;
    bool in_arena;   /* inner, or a planar twin of a tensor of the graph */
    uint64_t offset; /* in the arena */
    int first, last; /* steps between which it is alive */
} ec2t_value;

/* Lays the values that are `in_arena` out in one, each at the lowest offset that is free while it
 * is alive. `placed` has room for all of them. Returns the arena's size. */
uint64_t ec2t_place_values(ec2t_value *values, int value_count, ec2t_value **placed);

#endif
