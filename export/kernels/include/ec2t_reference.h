/* Reference kernels: plain loops over NHWC int8 tensors, bit-exact with TensorFlow Lite's reference
 * kernels (EC2T_REQUANT_TFLITE) and with XNNPACK (EC2T_REQUANT_FP32). What is fast is compared with
 * these. */
#ifndef EC2T_REFERENCE_H
#define EC2T_REFERENCE_H

#include "ec2t_layer.h"
#include "ec2t_requant.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Shape of one convolution. A depthwise convolution has groups == input_channels; a fully connected
 * layer is a 1x1 convolution of a 1x1 image. */
typedef struct {
    int32_t batch;
    int32_t input_height, input_width, input_channels;
    int32_t output_height, output_width, output_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_left; /* bottom and right follow from the output's size */
    int32_t groups;
    int32_t input_zero_point;
} ec2t_conv2d_shape;

/* The shape of a layer for an input of this size; TensorFlow's rule for SAME padding. */
ec2t_status ec2t_conv2d_shape_from_layer(const ec2t_layer *layer, int32_t batch,
                                         int32_t input_height, int32_t input_width,
                                         ec2t_conv2d_shape *shape);

/* weights: [output channel][kernel y][kernel x][input channel of the group], int8; bias: per output
 * channel or NULL; input and output: NHWC. Accumulators wrap at 32 bits. */
ec2t_status ec2t_conv2d_s8__ref(const ec2t_conv2d_shape *shape, const ec2t_requant *requant,
                                const int8_t *weights, const int32_t *bias, const int8_t *input,
                                int8_t *output);

/* weights: [output][input]; input: [batch][input]; output: [batch][output]. */
ec2t_status ec2t_fully_connected_s8__ref(int32_t batch, int32_t inputs, int32_t outputs,
                                         int32_t input_zero_point, const ec2t_requant *requant,
                                         const int8_t *weights, const int32_t *bias,
                                         const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif
#endif
