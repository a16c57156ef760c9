/* What the delegate asks of the runtime's tensors. Files come from strangers: nothing here trusts
 * more than the runtime has checked, which is that indices and sizes fit. */
#ifndef EC2T_TENSOR_H
#define EC2T_TENSOR_H

#include "elementwise.h"
#include "tflite_abi.h"

enum {
    EC2T_LARGEST_EXTENT = 1 << 24, /* of a height or width */
};

/* The tensor a node reads or writes at `place`, or NULL. */
const TfLiteTensor *ec2t_tensor_at(const TfLiteContext *context, const TfLiteIntArray *places,
                                   int place);

/* Whether a tensor's data come with the file. */
bool ec2t_is_constant(const TfLiteTensor *tensor);

/* Whether a tensor carries int8 values from operator to operator, with one scale that is positive
 * and normal and a zero point that is an int8: what the kernels' sums rely on not to overflow. */
bool ec2t_is_int8_activation(const TfLiteTensor *tensor);

/* Whether a scale is a finite, normal number above zero, as in a blob and for XNNPACK; a weight
 * scale may be zero, too. */
bool ec2t_is_scale(float scale);
bool ec2t_same_scale(float left, float right);

/* Whether a tensor, which may be NULL, says that it is int8 with a scale or zero point that no sum
 * can have. The runtime's own kernels abort the process there, or overflow. */
bool ec2t_is_misquantised(const TfLiteTensor *tensor);

/* Number of values; at most INT32_MAX for what the two functions below return. */
size_t ec2t_extent_size(const ec2t_extent *extent);

/* Whether the kernels can count an extent: at least one value, at most INT32_MAX in all. */
bool ec2t_is_extent(const ec2t_extent *extent);

/* The extent of an int8 NHWC tensor, or of [batch, features]; false for other shapes. */
bool ec2t_extent_of_tensor(const TfLiteTensor *tensor, ec2t_extent *extent);

/* Gives an int8 output its shape; vectors stay vectors. */
TfLiteStatus ec2t_resize_tensor(TfLiteContext *context, TfLiteTensor *tensor,
                                const ec2t_extent *extent);

/* TensorFlow Lite's CalculateActivationRangeQuantized; false for an activation that is no clip. */
bool ec2t_activation_range(int activation, const TfLiteTensor *output, int32_t *smallest,
                           int32_t *largest);

#endif
