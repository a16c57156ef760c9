/* One operator of a partition: what it reads, what it writes, what it computes. */
#ifndef EC2T_STEP_H
#define EC2T_STEP_H

#include "ec2t_planar.h"
#include "ec2t_reference.h"
#include "elementwise.h"

typedef enum { EC2T_STEP_LAYER, EC2T_STEP_ADD, EC2T_STEP_MAX_POOL } ec2t_step_kind;

typedef struct {
    ec2t_step_kind kind;
    int inputs[2]; /* tensors of the graph; -1: none */
    int output;

    ec2t_layer layer;
    void *owned;           /* a copy of the blob, or weights and bias of a plain operator */
    void *requant_entries; /* of `requant` */
    ec2t_requant requant;

    /* Made by ec2t_step_prepare: one of these three. */
    void *planar_memory; /* of `planar` */
    ec2t_planar_conv2d planar;
    void *dense_memory; /* of `dense` */
    ec2t_dense dense;
    int8_t *weights; /* decoded, [output][kernel y][kernel x][input] */
    size_t scratch_size;

    ec2t_add add;
    ec2t_pool pool;
} ec2t_step;

void ec2t_step_destroy(ec2t_step *step);

/* The extent of the output for inputs of this extent; EC2T_ERROR_ARGUMENT if they do not fit, or
 * if the output is more than the kernels can count. */
ec2t_status ec2t_step_output_extent(const ec2t_step *step, const ec2t_extent inputs[2],
                                    ec2t_extent *output);

/* Decodes the weights of a layer for inputs of this extent: as lists for the planar kernels, or as
 * int8 for the reference kernels. */
ec2t_status ec2t_step_prepare(ec2t_step *step, const ec2t_extent *input, bool reference);

/* Whether the step, once prepared, works on planar tensors; otherwise it works on NHWC ones. */
bool ec2t_step_is_planar(const ec2t_step *step);

/* Bytes of scratch that each thread needs to run the step. */
size_t ec2t_step_scratch_size(const ec2t_step *step);

/* Runs part `part` of `parts` of a step. `planar` tells the layout of additions and poolings. */
ec2t_status ec2t_step_run(const ec2t_step *step, bool planar, const ec2t_extent *input,
                          const ec2t_extent *output, const int8_t *const sources[2], int8_t *target,
                          int part, int parts, void *scratch, size_t scratch_size);

#endif
