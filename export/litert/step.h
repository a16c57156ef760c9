/* One operator of a partition: what it reads, what it writes, what it computes. */
#ifndef EC2T_STEP_H
#define EC2T_STEP_H

#include "ec2t_planar.h"
#include "ec2t_reference.h"
#include "partition.h"

/* Height, width and channels; fully connected layers see 1 x 1 images. */
typedef struct {
    int32_t batch, height, width, channels;
} ec2t_extent;

typedef enum { EC2T_STEP_LAYER, EC2T_STEP_ADD, EC2T_STEP_MAX_POOL } ec2t_step_kind;

typedef struct {
    int32_t input_zero_point[2], output_zero_point, output_min, output_max;
    /* EC2T_REQUANT_TFLITE: inputs shifted left by 20, then these; EC2T_REQUANT_FP32: plain products
     * of the inputs with multiplier[0] and multiplier[1], then a right shift. */
    int32_t multiplier[3];
    int32_t shift[3];
} ec2t_add;

typedef struct {
    int32_t height, width, stride_height, stride_width, output_min, output_max;
    bool same;
} ec2t_pool;

typedef struct {
    ec2t_step_kind kind;
    int inputs[2]; /* tensors of the graph; -1: none */
    int output;

    ec2t_layer layer;
    void *owned;           /* a copy of the blob, or weights and bias of a plain operator */
    void *requant_entries; /* of `requant` */
    ec2t_requant requant;

    /* Made by ec2t_step_prepare: one of these two. */
    void *planar_memory; /* of `planar` */
    ec2t_planar_conv2d planar;
    int8_t *weights; /* decoded, [output][kernel y][kernel x][input] */

    ec2t_add add;
    ec2t_pool pool;
} ec2t_step;

/* Builds the step of a node that was claimed or joins. On any result but EC2T_CLAIMED the step holds
 * nothing. */
ec2t_claim ec2t_step_create(TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason);

void ec2t_step_destroy(ec2t_step *step);

/* The extent of the output for inputs of this extent; EC2T_ERROR_ARGUMENT if they do not fit. */
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
                          const ec2t_extent *output, const int8_t *const sources[2],
                          int8_t *target, int part, int parts, void *scratch,
                          size_t scratch_size);

/* Sums of `count` pairs of values. */
void ec2t_add_s8(const ec2t_add *add, ec2t_requant_mode mode, const int8_t *left,
                 const int8_t *right, int8_t *sum, size_t count);

#endif
