#include "tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const TfLiteTensor *ec2t_tensor_at(const TfLiteContext *context, const TfLiteIntArray *places,
                                   int place) {
    if (places == NULL || place >= places->size || places->data[place] < 0 ||
        (size_t)places->data[place] >= context->tensors_size) {
        return NULL;
    }
    return &context->tensors[places->data[place]];
}

bool ec2t_is_constant(const TfLiteTensor *tensor) {
    return tensor->allocation_type == kTfLiteMmapRo && tensor->data != NULL;
}

bool ec2t_is_scale(float scale) {
    return scale > 0.0f && isnormal(scale);
}

bool ec2t_same_scale(float left, float right) {
    return memcmp(&left, &right, sizeof left) == 0;
}

static bool is_quantised(const TfLiteTensor *tensor) {
    const int32_t zero_point = tensor->params.zero_point;
    return zero_point >= INT8_MIN && zero_point <= INT8_MAX && ec2t_is_scale(tensor->params.scale);
}

bool ec2t_is_misquantised(const TfLiteTensor *tensor) {
    return tensor != NULL && tensor->type == kTfLiteInt8 && !is_quantised(tensor);
}

bool ec2t_is_int8_activation(const TfLiteTensor *tensor) {
    return tensor->type == kTfLiteInt8 && tensor->dims != NULL &&
           tensor->allocation_type != kTfLiteMmapRo && !tensor->is_variable && is_quantised(tensor);
}

size_t ec2t_extent_size(const ec2t_extent *extent) {
    return (size_t)extent->batch * (size_t)extent->height * (size_t)extent->width *
           (size_t)extent->channels;
}

bool ec2t_is_extent(const ec2t_extent *extent) {
    const int32_t sizes[4] = {extent->batch, extent->height, extent->width, extent->channels};
    int64_t count = 1;
    for (int axis = 0; axis < 4; axis++) {
        if (sizes[axis] < 1) {
            return false;
        }
        count *= sizes[axis]; /* both below 2^31 */
        if (count > INT32_MAX) {
            return false;
        }
    }
    return extent->height <= EC2T_LARGEST_EXTENT && extent->width <= EC2T_LARGEST_EXTENT;
}

bool ec2t_extent_of_tensor(const TfLiteTensor *tensor, ec2t_extent *extent) {
    const TfLiteIntArray *dims = tensor->dims;
    if (tensor->type != kTfLiteInt8 || dims == NULL || (dims->size != 4 && dims->size != 2)) {
        return false;
    }
    *extent = (ec2t_extent){dims->data[0], 1, 1, dims->data[dims->size - 1]};
    if (dims->size == 4) {
        extent->height = dims->data[1];
        extent->width = dims->data[2];
    }
    return ec2t_is_extent(extent);
}

TfLiteStatus ec2t_resize_tensor(TfLiteContext *context, TfLiteTensor *tensor,
                                const ec2t_extent *extent) {
    const bool flat = tensor->dims != NULL && tensor->dims->size == 2 && extent->height == 1 &&
                      extent->width == 1;
    const int size = flat ? 2 : 4;
    TfLiteIntArray *dims = malloc(sizeof *dims + sizeof(int) * (size_t)size);
    if (dims == NULL) {
        return kTfLiteError;
    }
    dims->size = size;
    dims->data[0] = extent->batch;
    if (!flat) {
        dims->data[1] = extent->height;
        dims->data[2] = extent->width;
    }
    dims->data[size - 1] = extent->channels;
    return context->ResizeTensor(context, tensor, dims);
}

bool ec2t_activation_range(int activation, const TfLiteTensor *output, int32_t *smallest,
                           int32_t *largest) {
    const int32_t zero_point = output->params.zero_point;
    const float scale = output->params.scale;
    *smallest = -128;
    *largest = 127;
    const bool from_zero = activation == kTfLiteActRelu || activation == kTfLiteActRelu6;
    if (activation == kTfLiteActNone) {
        return true;
    }
    if (!from_zero && activation != kTfLiteActReluN1To1) {
        return false;
    }
    const float low = from_zero ? 0.0f : -1.0f;
    const float high = activation == kTfLiteActRelu6 ? 6.0f : 1.0f;
    const float lowest = roundf(low / scale) + (float)zero_point;
    const float highest = roundf(high / scale) + (float)zero_point;
    if (lowest > -128.0f) {
        *smallest = lowest < 127.0f ? (int32_t)lowest : 127;
    }
    if (activation != kTfLiteActRelu && highest < 127.0f) {
        *largest = highest > -128.0f ? (int32_t)highest : -128;
    }
    return true;
}
