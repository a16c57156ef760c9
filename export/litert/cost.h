/* What a node costs sparse and planar in a partition, and dense in XNNPACK: the delegate takes what
 * is cheaper. cost.c says where the figures come from; their unit is the nanosecond on x86 and the
 * instruction on arm64, which is as good: only ratios count. */
#ifndef EC2T_COST_H
#define EC2T_COST_H

#include "elementwise.h"

typedef struct {
    const char *machine;
    float dense_mac;         /* XNNPACK int8, one multiply-accumulate of a convolution */
    float dense_lanes;       /* its output channels come in multiples of this */
    float dense_output;      /* and what each of its outputs costs on top */
    float depthwise_output;  /* of a depthwise convolution, of nine taps */
    float dense_node;        /* what every node of XNNPACK costs at least */
    float sparse_tap;        /* planar kernel: one non-zero weight at one position */
    float sparse_lowered;    /* copying one activation, stride 1 */
    float sparse_strided;    /* and with a stride */
    float sparse_row;        /* with a stride, a row of a lowered plane, not of whole vectors */
    float sparse_output;     /* requantising one output */
    float sparse_channel;    /* an output channel at least */
    float plane;             /* lowering anything at all, a channel of a depthwise convolution */
    float byte_turned;       /* one activation from NHWC to planar, or back, in blocks */
    float byte_turned_alone; /* with fewer pixels or channels than a block has */
    float byte_added;        /* one output of an addition or pooling, ours */
    float byte_added_dense;  /* XNNPACK's */
    float partition;         /* what a partition costs at least */
} ec2t_costs;

/* The costs on this processor. */
const ec2t_costs *ec2t_costs_here(void);

/* A convolution with these extents. */
float ec2t_cost_sparse(const ec2t_costs *costs, const ec2t_layer *layer, const ec2t_extent *input,
                       const ec2t_extent *output);
float ec2t_cost_dense(const ec2t_costs *costs, const ec2t_layer *layer, const ec2t_extent *output);

#endif
