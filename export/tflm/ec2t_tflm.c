#include "ec2t_tflm.h"

static int elements_are(const int32_t *dimensions, int32_t rank, int32_t count) {
    int64_t product = 1;
    for (int32_t i = 0; i < rank; ++i) {
        if (dimensions[i] < 1 || product > INT32_MAX) {
            return 0;
        }
        product *= dimensions[i];
    }
    return product == count;
}

ec2t_status ec2t_tflm_prepare(ec2t_tflm_node *node, const void *blob, size_t blob_size,
                              const int32_t *input, int32_t input_rank, const int32_t *output,
                              int32_t output_rank) {
    ec2t_status status = ec2t_layer_parse(blob, blob_size, &node->layer);
    if (status == EC2T_OK) {
        status = ec2t_layer_verify_checksum(blob, blob_size);
    }
    if (status != EC2T_OK) {
        return status;
    }
    const ec2t_layer *layer = &node->layer;
    if (layer->encoding == EC2T_ENCODING_INT8) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    int32_t height = 1, width = 1;
    if (layer->op == EC2T_FULLY_CONNECTED) {
        if (!elements_are(input, input_rank, layer->input_channels) ||
            !elements_are(output, output_rank, layer->output_channels)) {
            return EC2T_ERROR_ARGUMENT;
        }
    } else {
        if (input_rank != 4 || input[0] != 1 || input[3] != layer->input_channels) {
            return EC2T_ERROR_ARGUMENT;
        }
        height = input[1];
        width = input[2];
    }
    status = ec2t_conv2d_shape_from_layer(layer, 1, height, width, &node->shape);
    if (status != EC2T_OK) {
        return status;
    }
    if (layer->op != EC2T_FULLY_CONNECTED &&
        (output_rank != 4 || output[0] != 1 || output[1] != node->shape.output_height ||
         output[2] != node->shape.output_width || output[3] != layer->output_channels)) {
        return EC2T_ERROR_ARGUMENT;
    }
    return EC2T_OK;
}

static size_t rounded(size_t size) {
    return (size + 3u) & ~(size_t)3u;
}

/* Of the multipliers and shifts of a convolution, or the factors of a fully connected layer. */
static size_t requant_size(const ec2t_layer *layer) {
    const size_t entries = (size_t)ec2t_requant_entries(layer);
    return layer->op == EC2T_FULLY_CONNECTED ? sizeof(double) * entries
                                             : 4u * entries + rounded(entries);
}

size_t ec2t_tflm_get_buffer_size(const ec2t_tflm_node *node) {
    return requant_size(&node->layer) + rounded(2u * (size_t)node->layer.taps) +
           ec2t_decoder_get_buffer_size(&node->layer);
}

ec2t_status ec2t_tflm_attach(ec2t_tflm_node *node, void *buffer, size_t size) {
    if (size < ec2t_tflm_get_buffer_size(node)) {
        return EC2T_ERROR_BUFFER;
    }
    const ec2t_layer *const layer = &node->layer;
    uint8_t *const taps = (uint8_t *)buffer + requant_size(layer);
    node->taps = (uint16_t *)(void *)taps;
    node->decoder_scratch = taps + rounded(2u * (size_t)layer->taps);
    if (layer->op == EC2T_FULLY_CONNECTED) {
        return ec2t_requant_from_layer_real(layer, buffer, &node->requant);
    }
    int32_t *const multipliers = buffer;
    return ec2t_requant_from_layer_tflite(
        layer, multipliers, (int8_t *)(multipliers + ec2t_requant_entries(layer)), &node->requant);
}

/* Sum of the input, less its zero point, at the taps of a list for one output pixel. */
static int32_t sum_of(const ec2t_conv2d_shape *shape, const int8_t *input, int32_t y, int32_t x,
                      const uint16_t *taps, uint32_t count) {
    const int32_t depth = shape->input_channels / shape->groups;
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t place = taps[i] / depth, channel = taps[i] % depth;
        const int32_t row = y + place / shape->kernel_width * shape->dilation_height;
        const int32_t column = x + place % shape->kernel_width * shape->dilation_width;
        if (row >= 0 && row < shape->input_height && column >= 0 && column < shape->input_width) {
            const size_t pixel = (size_t)row * (size_t)shape->input_width + (size_t)column;
            sum += input[pixel * (size_t)shape->input_channels + (size_t)channel] -
                   shape->input_zero_point;
        }
    }
    return sum;
}

/* The same where all taps lie inside: the taps are byte offsets already. */
static int32_t inner_sum(const int8_t *input, const uint16_t *offsets, uint32_t count) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; ++i) {
        sum += input[offsets[i]];
    }
    return sum;
}

ec2t_status ec2t_tflm_invoke(const ec2t_tflm_node *node, const int8_t *input, int8_t *output) {
    const ec2t_layer *const layer = &node->layer;
    const ec2t_conv2d_shape *const shape = &node->shape;
    const int32_t outputs = shape->output_channels, depth = shape->input_channels / shape->groups;
    const int32_t row_bytes = shape->input_width * shape->input_channels;
    const int32_t reach_y = (shape->kernel_height - 1) * shape->dilation_height;
    const int32_t reach_x = (shape->kernel_width - 1) * shape->dilation_width;
    const int64_t furthest =
        (int64_t)reach_y * row_bytes + (int64_t)reach_x * shape->input_channels;
    const int offsets_fit = furthest + depth <= UINT16_MAX;
    ec2t_decoder decoder;
    ec2t_status status = ec2t_decoder_init(&decoder, layer, node->decoder_scratch,
                                           ec2t_decoder_get_buffer_size(layer));
    for (int32_t o = 0; status == EC2T_OK && o < outputs; ++o) {
        uint32_t pluses, minuses;
        int32_t plus_value, minus_value;
        status = ec2t_decode_channel(&decoder, node->taps, &pluses, &minuses);
        if (status != EC2T_OK) {
            return status;
        }
        ec2t_layer_values(layer, o, &plus_value, &minus_value);
        const uint16_t *const plus = node->taps;
        const uint16_t *const minus = node->taps + layer->taps - minuses;
        const int32_t bias = layer->bias ? layer->bias[o] : 0;
        const int8_t *const image = input + o / (outputs / shape->groups) * depth;
        /* First the pixels at the border, then, with taps turned into offsets, the others. */
        for (int inner = 0; inner <= offsets_fit; ++inner) {
            if (inner) {
                for (int32_t i = 0; i < layer->taps; ++i) {
                    if ((uint32_t)i >= pluses && (uint32_t)i < (uint32_t)layer->taps - minuses) {
                        continue;
                    }
                    const int32_t place = node->taps[i] / depth;
                    node->taps[i] = (uint16_t)(place / shape->kernel_width *
                                                   shape->dilation_height * row_bytes +
                                               place % shape->kernel_width * shape->dilation_width *
                                                   shape->input_channels +
                                               node->taps[i] % depth);
                }
            }
            const int32_t zeros = shape->input_zero_point *
                                  (plus_value * (int32_t)pluses + minus_value * (int32_t)minuses);
            for (int32_t oy = 0; oy < shape->output_height; ++oy) {
                const int32_t y = oy * shape->stride_height - shape->pad_top;
                for (int32_t ox = 0; ox < shape->output_width; ++ox) {
                    const int32_t x = ox * shape->stride_width - shape->pad_left;
                    const int inside = offsets_fit && y >= 0 && x >= 0 &&
                                       y + reach_y < shape->input_height &&
                                       x + reach_x < shape->input_width;
                    if (inside != inner) {
                        continue;
                    }
                    int32_t sum = bias;
                    if (inner) {
                        const int8_t *const at = image + y * row_bytes + x * shape->input_channels;
                        sum += plus_value * inner_sum(at, plus, pluses) +
                               minus_value * inner_sum(at, minus, minuses) - zeros;
                    } else {
                        sum += plus_value * sum_of(shape, image, y, x, plus, pluses) +
                               minus_value * sum_of(shape, image, y, x, minus, minuses);
                    }
                    output[(oy * shape->output_width + ox) * outputs + o] =
                        ec2t_requantise(sum, &node->requant, o);
                }
            }
        }
    }
    return status == EC2T_OK ? ec2t_decode_finish(&decoder) : status;
}
