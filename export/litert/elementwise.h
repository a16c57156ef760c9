/* What a partition computes besides convolutions: sums, poolings, fully connected layers, and the
 * change between NHWC and planar order. Plain C for the compiler to vectorise. */
#ifndef EC2T_ELEMENTWISE_H
#define EC2T_ELEMENTWISE_H

#include <stdbool.h>

#include "ec2t_requant.h"

/* Height, width and channels; fully connected layers see images of one pixel. */
typedef struct {
    int32_t batch, height, width, channels;
} ec2t_extent;

typedef struct {
    int32_t input_zero_point[2], output_zero_point, output_min, output_max;
    /* EC2T_REQUANT_TFLITE: inputs shifted left by 20, then multiplier and shift of each, then of
     * the sum. EC2T_REQUANT_FP32: products of the inputs with multiplier[0] and multiplier[1],
     * added, and shifted right by shift[0]. */
    int32_t multiplier[3];
    int32_t shift[3];
} ec2t_add;

typedef struct {
    int32_t height, width, stride_height, stride_width, output_min, output_max;
    bool same;
} ec2t_pool;

/* A fully connected layer, weights widened. */
typedef struct {
    int32_t inputs, outputs;
    const int16_t *weights; /* [output][input] */
    const int32_t *bias;    /* per output, the input's zero point folded in */
    const ec2t_requant *requant;
} ec2t_dense;

/* Sums of `count` pairs of values. */
void ec2t_add_s8(const ec2t_add *add, ec2t_requant_mode mode, const int8_t *left,
                 const int8_t *right, int8_t *sum, size_t count);

/* Max pooling of part `part` of `parts` of the planes (planar) or images (NHWC). `scratch` has room
 * for a row of inputs. */
void ec2t_max_pool_s8(const ec2t_pool *pool, bool planar, const ec2t_extent *input,
                      const ec2t_extent *output, const int8_t *source, int8_t *target, int part,
                      int parts, int8_t *scratch);

/* Outputs [begin, end) of one input vector, widened by ec2t_widen_s8. */
void ec2t_dense_s8(const ec2t_dense *dense, const int16_t *input, int8_t *output, int32_t begin,
                   int32_t end);
void ec2t_widen_s8(const int8_t *from, int16_t *to, size_t count);

/* Every image from [pixel][channel] to [channel][pixel], and back. */
void ec2t_to_planar(const ec2t_extent *extent, const int8_t *nhwc, int8_t *planar);
void ec2t_to_nhwc(const ec2t_extent *extent, const int8_t *planar, int8_t *nhwc);

#endif
