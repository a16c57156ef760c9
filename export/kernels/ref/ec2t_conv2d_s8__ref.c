#include "ec2t_reference.h"

static ec2t_status output_extent(int32_t input, int32_t kernel, int32_t stride, int32_t dilation,
                                 ec2t_padding padding, int32_t before, int32_t after,
                                 int32_t *output, int32_t *pad) {
    const int32_t reach = (kernel - 1) * dilation + 1;
    *pad = before;
    if (padding == EC2T_PADDING_SAME) {
        *output = (input + stride - 1) / stride;
        const int64_t needed = (int64_t)(*output - 1) * stride + reach - input;
        *pad = needed > 0 ? (int32_t)(needed / 2) : 0;
        return EC2T_OK;
    }
    if (padding == EC2T_PADDING_VALID) {
        *pad = 0;
        after = 0;
    }
    const int64_t room = (int64_t)input + *pad + after - reach;
    if (room < 0) {
        return EC2T_ERROR_ARGUMENT;
    }
    *output = (int32_t)(room / stride) + 1;
    return EC2T_OK;
}

ec2t_status ec2t_conv2d_shape_from_layer(const ec2t_layer *layer, int32_t batch,
                                         int32_t input_height, int32_t input_width,
                                         ec2t_conv2d_shape *shape) {
    const int32_t largest = 1 << 24;
    if (layer == NULL || shape == NULL || batch < 1 || input_height < 1 || input_width < 1 ||
        input_height > largest || input_width > largest) {
        return EC2T_ERROR_ARGUMENT;
    }
    shape->batch = batch;
    shape->input_height = input_height;
    shape->input_width = input_width;
    shape->input_channels = layer->input_channels;
    shape->output_channels = layer->output_channels;
    shape->kernel_height = layer->kernel_height;
    shape->kernel_width = layer->kernel_width;
    shape->stride_height = layer->stride_height;
    shape->stride_width = layer->stride_width;
    shape->dilation_height = layer->dilation_height;
    shape->dilation_width = layer->dilation_width;
    shape->groups = layer->groups;
    shape->input_zero_point = layer->input_zero_point;
    const ec2t_status status = output_extent(
        input_height, layer->kernel_height, layer->stride_height, layer->dilation_height,
        layer->padding, layer->pad_top, layer->pad_bottom, &shape->output_height, &shape->pad_top);
    if (status != EC2T_OK) {
        return status;
    }
    return output_extent(input_width, layer->kernel_width, layer->stride_width,
                         layer->dilation_width, layer->padding, layer->pad_left, layer->pad_right,
                         &shape->output_width, &shape->pad_left);
}

static uint32_t accumulate(const ec2t_conv2d_shape *shape, const int8_t *weights,
                           const int8_t *image, int32_t y, int32_t x, int32_t first_input) {
    const int32_t inputs = shape->input_channels / shape->groups;
    uint32_t sum = 0; /* unsigned: wraps instead of overflowing */
    for (int32_t ky = 0; ky < shape->kernel_height; ++ky) {
        const int32_t in_y =
            y * shape->stride_height - shape->pad_top + ky * shape->dilation_height;
        if (in_y < 0 || in_y >= shape->input_height) {
            continue;
        }
        for (int32_t kx = 0; kx < shape->kernel_width; ++kx) {
            const int32_t in_x =
                x * shape->stride_width - shape->pad_left + kx * shape->dilation_width;
            if (in_x < 0 || in_x >= shape->input_width) {
                continue;
            }
            const int8_t *const pixel = image +
                                        ((size_t)in_y * (size_t)shape->input_width + (size_t)in_x) *
                                            (size_t)shape->input_channels +
                                        first_input;
            const int8_t *const row = weights + (ky * shape->kernel_width + kx) * inputs;
            for (int32_t i = 0; i < inputs; ++i) {
                sum += (uint32_t)(row[i] * (pixel[i] - shape->input_zero_point));
            }
        }
    }
    return sum;
}

ec2t_status ec2t_conv2d_s8__ref(const ec2t_conv2d_shape *shape, const ec2t_requant *requant,
                                const int8_t *weights, const int32_t *bias, const int8_t *input,
                                int8_t *output) {
    if (shape == NULL || requant == NULL || weights == NULL || input == NULL || output == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    const int32_t inputs = shape->input_channels / shape->groups;
    const int32_t outputs = shape->output_channels / shape->groups;
    const int32_t taps = shape->kernel_height * shape->kernel_width * inputs;
    const size_t image_size =
        (size_t)shape->input_height * (size_t)shape->input_width * (size_t)shape->input_channels;
    for (int32_t n = 0; n < shape->batch; ++n) {
        const int8_t *const image = input + (size_t)n * image_size;
        for (int32_t y = 0; y < shape->output_height; ++y) {
            for (int32_t x = 0; x < shape->output_width; ++x) {
                for (int32_t o = 0; o < shape->output_channels; ++o) {
                    uint32_t sum = bias != NULL ? (uint32_t)bias[o] : 0;
                    sum += accumulate(shape, weights + (size_t)o * (size_t)taps, image, y, x,
                                      o / outputs * inputs);
                    *output++ = ec2t_requantise((int32_t)sum, requant, o);
                }
            }
        }
    }
    return EC2T_OK;
}
