/* Convolutions, depthwise convolutions and fully connected layers: ours, and plain ones that turn
 * out to be ternary. */
#include <stdlib.h>
#include <string.h>

#include "claim.h"

static const int64_t MOST_WEIGHTS = INT64_C(1) << 28; /* 256 MB as int8: no real layer has more */
static const int64_t MOST_TAPS = 65535;
static const int32_t MOST_STEP = 4095; /* kernels, strides and dilations, as in a blob */

/* Checks a layer against the tensors around it, and prepares its requantisation. */
static ec2t_claim finish_layer(const TfLiteTensor *input, const TfLiteTensor *output,
                               const ec2t_delegate_options *options, ec2t_step *step,
                               ec2t_claim otherwise, ec2t_reason *reason) {
    const ec2t_layer *layer = &step->layer;
    if (!ec2t_is_int8_activation(input) || !ec2t_is_int8_activation(output)) {
        return ec2t_say(
            reason, otherwise,
            "its input and output must be int8 activations, with a finite scale above 0 "
            "and a zero point from -128 to 127");
    }
    if (input->params.zero_point != layer->input_zero_point ||
        output->params.zero_point != layer->output_zero_point ||
        (layer->weight_scales != NULL &&
         (!ec2t_same_scale(input->params.scale, layer->input_scale) ||
          !ec2t_same_scale(output->params.scale, layer->output_scale)))) {
        return ec2t_say(reason, otherwise,
                        "the quantisation of its input or output is not the one in its blob");
    }
    const size_t entries = (size_t)ec2t_requant_entries(layer);
    const bool real = layer->op == EC2T_FULLY_CONNECTED && options->requant == EC2T_REQUANT_TFLITE;
    step->requant_entries =
        malloc(entries * (real ? sizeof(double) : sizeof(int32_t) + sizeof(int8_t)));
    if (step->requant_entries == NULL) {
        return ec2t_say(reason, otherwise, "out of memory");
    }
    ec2t_status status;
    if (real) {
        status = ec2t_requant_from_layer_real(layer, step->requant_entries, &step->requant);
    } else if (options->requant == EC2T_REQUANT_TFLITE) {
        int32_t *multipliers = step->requant_entries;
        status = ec2t_requant_from_layer_tflite(layer, multipliers,
                                                (int8_t *)(multipliers + entries), &step->requant);
    } else {
        status = ec2t_requant_from_layer_fp32(layer, step->requant_entries, &step->requant);
    }
    if (status != EC2T_OK) {
        return ec2t_say(reason, otherwise, "requantisation: %s", ec2t_status_text(status));
    }
    return EC2T_CLAIMED;
}

/* Whether a tensor can have `channels`; a fully connected layer reads images as vectors. A tensor
 * without a shape gets it later, and is judged then. */
static bool has_channels(const TfLiteTensor *tensor, int32_t channels, bool flattened) {
    ec2t_extent extent;
    if (!ec2t_extent_of_tensor(tensor, &extent)) {
        return true;
    }
    return flattened ? ec2t_extent_size(&extent) % (size_t)channels == 0
                     : extent.channels == channels;
}

/* Parses the blob that is a node's second input. */
static ec2t_claim parse_blob(const TfLiteTensor *blob, ec2t_step *step, ec2t_reason *reason) {
    if (blob == NULL || blob->type != kTfLiteUInt8 || !ec2t_is_constant(blob) ||
        blob->sparsity != NULL) {
        return ec2t_say(reason, EC2T_DAMAGED, "its second input must be a constant uint8 tensor");
    }
    const void *bytes = blob->data;
    if ((uintptr_t)bytes % 4 != 0) {
        step->owned = malloc(blob->bytes + 1);
        if (step->owned == NULL) {
            return ec2t_say(reason, EC2T_DAMAGED, "out of memory");
        }
        memcpy(step->owned, bytes, blob->bytes);
        bytes = step->owned;
    }
    ec2t_status status = ec2t_layer_parse(bytes, blob->bytes, &step->layer);
    if (status == EC2T_OK) {
        status = ec2t_layer_verify_checksum(bytes, blob->bytes);
    }
    return status == EC2T_OK
               ? EC2T_CLAIMED
               : ec2t_say(reason, EC2T_DAMAGED, "its blob: %s", ec2t_status_text(status));
}

static ec2t_ends ends_of(const TfLiteTensor *input, const TfLiteTensor *output) {
    return (ec2t_ends){input->params.scale, output->params.scale, input->params.zero_point,
                       output->params.zero_point};
}

/* The compact blob that a node has as its options, expanded, now or when it was judged. */
static ec2t_claim expand_blob(const TfLiteNode *node, const TfLiteTensor *input,
                              const TfLiteTensor *output, const ec2t_delegate_options *options,
                              ec2t_step *step, ec2t_reason *reason) {
    if (node->custom_initial_data == NULL || node->custom_initial_data_size < 1 ||
        !ec2t_is_int8_activation(input) || !ec2t_is_int8_activation(output)) {
        return ec2t_say(reason, EC2T_DAMAGED,
                        "it must have a blob, and int8 activations as input and output");
    }
    const ec2t_ends ends = ends_of(input, output);
    const size_t size = (size_t)node->custom_initial_data_size;
    size_t blob_size = 0;
    ec2t_status status = EC2T_OK;
    if (options->expansions != NULL) {
        step->owned =
            ec2t_expansions_take(options->expansions, node->custom_initial_data, &ends, &blob_size);
    }
    if (step->owned == NULL) {
        blob_size = ec2t_compact_get_expanded_size(node->custom_initial_data, size, &ends);
        step->owned = malloc(blob_size + 1);
        if (step->owned == NULL) {
            return ec2t_say(reason, EC2T_DAMAGED, "out of memory");
        }
        status =
            ec2t_compact_expand(node->custom_initial_data, size, &ends, step->owned, &blob_size);
    }
    if (status == EC2T_OK) {
        status = ec2t_layer_parse(step->owned, blob_size, &step->layer);
    }
    return status == EC2T_OK
               ? EC2T_CLAIMED
               : ec2t_say(reason, EC2T_DAMAGED, "its blob: %s", ec2t_status_text(status));
}

ec2t_claim ec2t_claim_own(const TfLiteContext *context, const TfLiteNode *node,
                          const ec2t_delegate_options *options, ec2t_step *step,
                          ec2t_reason *reason) {
    const TfLiteTensor *input = ec2t_tensor_at(context, node->inputs, 0);
    const TfLiteTensor *output = ec2t_tensor_at(context, node->outputs, 0);
    if (node->inputs->size < 1 || node->inputs->size > 2 || node->outputs->size != 1 ||
        input == NULL || output == NULL) {
        return ec2t_say(reason, EC2T_DAMAGED, "it must have one or two inputs and one output");
    }
    const ec2t_claim claim =
        node->inputs->size == 1
            ? expand_blob(node, input, output, options, step, reason)
            : parse_blob(ec2t_tensor_at(context, node->inputs, 1), step, reason);
    if (claim != EC2T_CLAIMED) {
        return claim;
    }
    if (!has_channels(input, step->layer.input_channels, step->layer.op == EC2T_FULLY_CONNECTED) ||
        !has_channels(output, step->layer.output_channels, false)) {
        return ec2t_say(reason, EC2T_DAMAGED,
                        "its blob is for %d to %d channels, its tensors have others",
                        (int)step->layer.input_channels, (int)step->layer.output_channels);
    }
    return finish_layer(input, output, options, step, EC2T_DAMAGED, reason);
}

void ec2t_keep_expansion(const TfLiteContext *context, const TfLiteNode *node,
                         const ec2t_delegate_options *options, ec2t_step *step) {
    if (options->expansions == NULL || node->inputs->size != 1 || step->owned == NULL) {
        return;
    }
    const ec2t_ends ends = ends_of(ec2t_tensor_at(context, node->inputs, 0),
                                   ec2t_tensor_at(context, node->outputs, 0));
    uint32_t size; /* a field of the blob's header */
    memcpy(&size, (const uint8_t *)step->owned + 8, sizeof size);
    if (ec2t_expansions_keep(options->expansions, node->custom_initial_data, &ends, step->owned,
                             size)) {
        step->owned = NULL;
    }
}

static bool is_step(int32_t value) {
    return value >= 1 && value <= MOST_STEP;
}

/* The options of a plain operator as fields of a layer. */
static bool plain_options(const TfLiteNode *node, const TfLiteRegistration *registration,
                          const TfLiteTensor *input, const TfLiteTensor *weights, ec2t_layer *layer,
                          int *activation) {
    const int *shape = weights->dims->data;
    for (int axis = 0; axis < weights->dims->size; axis++) {
        if (shape[axis] < 1) {
            return false;
        }
    }
    if (registration->builtin_code == kTfLiteBuiltinFullyConnected) {
        const TfLiteFullyConnectedParams *params = node->builtin_data;
        if (params->weights_format != 0 || weights->dims->size != 2 || input->dims->size != 2 ||
            input->dims->data[1] != shape[1]) {
            return false;
        }
        *activation = params->activation;
        layer->op = EC2T_FULLY_CONNECTED;
        layer->output_channels = shape[0];
        layer->input_channels = shape[1];
        layer->groups = layer->kernel_height = layer->kernel_width = 1;
        layer->stride_height = layer->stride_width = 1;
        layer->dilation_height = layer->dilation_width = 1;
        layer->padding = EC2T_PADDING_VALID;
        return true;
    }
    if (weights->dims->size != 4 || input->dims->size != 4) {
        return false;
    }
    int padding;
    layer->input_channels = input->dims->data[3];
    layer->kernel_height = shape[1];
    layer->kernel_width = shape[2];
    if (registration->builtin_code == kTfLiteBuiltinConv2d) {
        const TfLiteConvParams *params = node->builtin_data;
        padding = params->padding;
        *activation = params->activation;
        layer->op = EC2T_CONV_2D;
        layer->output_channels = shape[0];
        layer->stride_height = params->stride_height;
        layer->stride_width = params->stride_width;
        layer->dilation_height = params->dilation_height;
        layer->dilation_width = params->dilation_width;
        if (layer->input_channels % shape[3] != 0) {
            return false;
        }
        layer->groups = layer->input_channels / shape[3];
    } else {
        const TfLiteDepthwiseConvParams *params = node->builtin_data;
        padding = params->padding;
        *activation = params->activation;
        if (shape[0] != 1) {
            return false;
        }
        layer->op = EC2T_DEPTHWISE_CONV_2D;
        layer->output_channels = shape[3];
        layer->stride_height = params->stride_height;
        layer->stride_width = params->stride_width;
        layer->dilation_height = params->dilation_height;
        layer->dilation_width = params->dilation_width;
        layer->groups = layer->input_channels;
        if ((int64_t)layer->groups * params->depth_multiplier != layer->output_channels) {
            return false; /* our kernels do not ask, XNNPACK's do */
        }
    }
    if (padding != kTfLitePaddingSame && padding != kTfLitePaddingValid) {
        return false;
    }
    layer->padding = padding == kTfLitePaddingSame ? EC2T_PADDING_SAME : EC2T_PADDING_VALID;
    return is_step(layer->stride_height) && is_step(layer->stride_width) &&
           is_step(layer->dilation_height) && is_step(layer->dilation_width) &&
           is_step(layer->kernel_height) && is_step(layer->kernel_width) && layer->groups > 0 &&
           layer->output_channels % layer->groups == 0;
}

/* Writes the weights of a plain operator as a stream of two bits each; false if not ternary. */
static bool encode_ternary(const int8_t *weights, const ec2t_layer *layer, int8_t *values,
                           uint8_t *stream, uint32_t *nonzeros) {
    const bool depthwise = layer->op == EC2T_DEPTHWISE_CONV_2D;
    const size_t channels = (size_t)layer->output_channels, taps = (size_t)layer->taps;
    size_t symbol = 0;
    *nonzeros = 0;
    for (size_t channel = 0; channel < channels; channel++) {
        int8_t *plus = &values[2 * channel], *minus = plus + 1;
        for (size_t tap = 0; tap < taps; tap++, symbol++) {
            /* Depthwise weights lie as [kernel y][kernel x][channel]. */
            const int8_t weight =
                depthwise ? weights[tap * channels + channel] : weights[channel * taps + tap];
            if (weight == 0) {
                continue;
            }
            int8_t *value = weight > 0 ? plus : minus;
            if ((*value != 0 && *value != weight) || weight == -128) {
                return false;
            }
            *value = weight;
            stream[symbol / 4] |= (uint8_t)((weight > 0 ? 1u : 2u) << 2 * (symbol % 4));
            ++*nonzeros;
        }
    }
    return true;
}

/* The scales of a tensor; NULL where it has none. */
static const TfLiteAffineQuantization *quantisation_of(const TfLiteTensor *tensor) {
    const TfLiteAffineQuantization *affine = tensor->quantization.params;
    return tensor->quantization.type == kTfLiteAffineQuantization && affine != NULL &&
                   affine->scale != NULL
               ? affine
               : NULL;
}

static bool are_normal(const TfLiteAffineQuantization *affine) {
    for (int i = 0; affine != NULL && i < affine->scale->size; i++) {
        if (!ec2t_is_scale(affine->scale->data[i])) {
            return false;
        }
    }
    return true;
}

ec2t_claim ec2t_claim_plain(const TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason) {
    const TfLiteTensor *input = ec2t_tensor_at(context, node->inputs, 0);
    const TfLiteTensor *weights = ec2t_tensor_at(context, node->inputs, 1);
    const TfLiteTensor *bias = ec2t_tensor_at(context, node->inputs, 2);
    const TfLiteTensor *output = ec2t_tensor_at(context, node->outputs, 0);
    ec2t_layer *layer = &step->layer;
    if (input == NULL || weights == NULL || output == NULL || node->builtin_data == NULL ||
        node->inputs->size > 3 || node->outputs->size != 1 || !ec2t_is_int8_activation(input) ||
        !ec2t_is_int8_activation(output) || weights->type != kTfLiteInt8 ||
        !ec2t_is_constant(weights) || weights->sparsity != NULL || weights->dims == NULL) {
        return ec2t_say(reason, EC2T_LEFT, "it is not a plain int8 layer with constant weights");
    }
    if (bias == NULL && registration->builtin_code != kTfLiteBuiltinFullyConnected) {
        /* Of one that is depthwise the runtime's own kernel ends the process. */
        return ec2t_say(reason, EC2T_DAMAGED, "a convolution in int8 must have a bias");
    }
    int activation = 0;
    if (!plain_options(node, registration, input, weights, layer, &activation) ||
        !ec2t_activation_range(activation, output, &layer->output_min, &layer->output_max)) {
        return ec2t_say(reason, EC2T_LEFT, "its options are not among those supported");
    }
    /* At most 4095^2 * 2^31, so that 64 bits hold it. */
    const int64_t taps = (int64_t)layer->kernel_height * layer->kernel_width *
                         (layer->input_channels / layer->groups);
    const int64_t count = taps <= MOST_TAPS ? taps * layer->output_channels : INT64_MAX;
    if (taps < 1 || taps > MOST_TAPS || count > MOST_WEIGHTS || (size_t)count != weights->bytes) {
        return ec2t_say(reason, EC2T_LEFT, "its weights do not have a supported size");
    }
    layer->taps = (int32_t)taps;
    const TfLiteAffineQuantization *affine = quantisation_of(weights);
    if (affine == NULL ||
        (affine->scale->size != 1 && affine->scale->size != layer->output_channels)) {
        return ec2t_say(reason, EC2T_LEFT, "its weights lack scales");
    }
    if (!are_normal(affine) ||
        (bias != NULL && !are_normal(quantisation_of(bias)))) { /* XNNPACK leaves it too */
        return ec2t_say(reason, EC2T_LEFT,
                        "a scale of its weights or bias is 0, negative, infinite or subnormal");
    }
    for (int i = 0; affine->zero_point != NULL && i < affine->zero_point->size; i++) {
        if (affine->zero_point->data[i] != 0) {
            return ec2t_say(reason, EC2T_LEFT, "its weights have a zero point");
        }
    }
    if (bias != NULL && (bias->type != kTfLiteInt32 || !ec2t_is_constant(bias) ||
                         bias->bytes != 4 * (size_t)layer->output_channels)) {
        return ec2t_say(reason, EC2T_LEFT, "its bias is not a constant int32 tensor");
    }
    /* One allocation: bias and scales first, as they want alignment. */
    const size_t channels = (size_t)layer->output_channels;
    const size_t words = bias != NULL ? channels : 0, stream_size = ((size_t)count + 3) / 4;
    step->owned = calloc(1, 4 * (words + channels) + 2 * channels + stream_size);
    if (step->owned == NULL) {
        return ec2t_say(reason, EC2T_LEFT, "out of memory");
    }
    int32_t *own_bias = step->owned;
    float *scales = (float *)(own_bias + words);
    int8_t *values = (int8_t *)(scales + channels);
    uint8_t *stream = (uint8_t *)(values + 2 * channels);
    if (!encode_ternary(weights->data, layer, values, stream, &layer->nonzeros)) {
        return ec2t_say(reason, EC2T_LEFT, "it has more than three codes in an output channel");
    }
    if (bias != NULL) {
        memcpy(own_bias, bias->data, bias->bytes);
        layer->bias = own_bias;
    }
    memcpy(scales, affine->scale->data, 4 * (size_t)affine->scale->size);
    layer->weight_scales = scales;
    layer->requant_stride = affine->scale->size != 1;
    layer->input_scale = input->params.scale;
    layer->output_scale = output->params.scale;
    layer->input_zero_point = input->params.zero_point;
    layer->output_zero_point = output->params.zero_point;
    layer->encoding = EC2T_ENCODING_TWO_BIT;
    layer->channel_values = values;
    layer->stream = stream;
    layer->stream_size = (uint32_t)stream_size;
    return finish_layer(input, output, options, step, EC2T_LEFT, reason);
}
