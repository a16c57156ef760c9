#include "step.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char CUSTOM_PREFIX[] = "EC2T.";
static const int64_t MOST_WEIGHTS = INT64_C(1) << 28; /* 256 MB as int8: no real layer has more */

static ec2t_claim say(ec2t_reason *reason, ec2t_claim claim, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
    return claim;
}

/* The tensor a node reads or writes at `place`, or NULL. */
static const TfLiteTensor *tensor_at(const TfLiteContext *context, const TfLiteIntArray *places,
                                     int place) {
    if (places == NULL || place >= places->size || places->data[place] < 0 ||
        (size_t)places->data[place] >= context->tensors_size) {
        return NULL;
    }
    return &context->tensors[places->data[place]];
}

static bool is_constant(const TfLiteTensor *tensor) {
    return tensor->allocation_type == kTfLiteMmapRo && tensor->data != NULL;
}

static bool same_scale(float left, float right) {
    return memcmp(&left, &right, sizeof left) == 0;
}

/* Checks a layer against the tensors around it, and prepares its requantisation. */
static ec2t_claim finish_layer(const TfLiteTensor *input, const TfLiteTensor *output,
                               const ec2t_delegate_options *options, ec2t_step *step,
                               ec2t_claim otherwise, ec2t_reason *reason) {
    const ec2t_layer *layer = &step->layer;
    if (input->type != kTfLiteInt8 || output->type != kTfLiteInt8) {
        return say(reason, otherwise, "its input and output must be int8");
    }
    if ((int64_t)layer->output_channels * layer->taps > MOST_WEIGHTS) {
        return say(reason, otherwise, "it has more than 2^28 weights");
    }
    if (input->params.zero_point != layer->input_zero_point ||
        output->params.zero_point != layer->output_zero_point ||
        (layer->weight_scales != NULL &&
         (!same_scale(input->params.scale, layer->input_scale) ||
          !same_scale(output->params.scale, layer->output_scale)))) {
        return say(reason, otherwise,
                   "the quantisation of its input or output is not the one in its blob");
    }
    const size_t entries = (size_t)ec2t_requant_entries(layer);
    const bool real = layer->op == EC2T_FULLY_CONNECTED && options->requant == EC2T_REQUANT_TFLITE;
    step->requant_entries =
        malloc(entries * (real ? sizeof(double) : sizeof(int32_t) + sizeof(int8_t)));
    if (step->requant_entries == NULL) {
        return say(reason, otherwise, "out of memory");
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
        return say(reason, otherwise, "requantisation: %s", ec2t_status_text(status));
    }
    return EC2T_CLAIMED;
}

static ec2t_claim custom_layer(const TfLiteContext *context, const TfLiteNode *node,
                               const ec2t_delegate_options *options, ec2t_step *step,
                               ec2t_reason *reason) {
    const TfLiteTensor *input = tensor_at(context, node->inputs, 0);
    const TfLiteTensor *blob = tensor_at(context, node->inputs, 1);
    const TfLiteTensor *output = tensor_at(context, node->outputs, 0);
    if (node->inputs->size != 2 || node->outputs->size != 1 || input == NULL || blob == NULL ||
        output == NULL) {
        return say(reason, EC2T_DAMAGED, "it must have two inputs and one output");
    }
    if (blob->type != kTfLiteUInt8 || !is_constant(blob)) {
        return say(reason, EC2T_DAMAGED, "its second input must be a constant uint8 tensor");
    }
    const void *bytes = blob->data;
    if ((uintptr_t)bytes % 4 != 0) {
        step->owned = malloc(blob->bytes + 1);
        if (step->owned == NULL) {
            return say(reason, EC2T_DAMAGED, "out of memory");
        }
        memcpy(step->owned, bytes, blob->bytes);
        bytes = step->owned;
    }
    ec2t_status status = ec2t_layer_parse(bytes, blob->bytes, &step->layer);
    if (status == EC2T_OK) {
        status = ec2t_layer_verify_checksum(bytes, blob->bytes);
    }
    if (status != EC2T_OK) {
        return say(reason, EC2T_DAMAGED, "its blob: %s", ec2t_status_text(status));
    }
    return finish_layer(input, output, options, step, EC2T_DAMAGED, reason);
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

/* The options of a plain operator as fields of a layer. */
static bool plain_options(const TfLiteNode *node, const TfLiteRegistration *registration,
                          const TfLiteTensor *input, const TfLiteTensor *weights, ec2t_layer *layer,
                          int *activation) {
    const int *shape = weights->dims->data;
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
        if (shape[3] <= 0 || layer->input_channels % shape[3] != 0) {
            return false;
        }
        layer->groups = layer->input_channels / shape[3];
    } else {
        const TfLiteDepthwiseConvParams *params = node->builtin_data;
        padding = params->padding;
        *activation = params->activation;
        layer->op = EC2T_DEPTHWISE_CONV_2D;
        layer->output_channels = shape[3];
        layer->stride_height = params->stride_height;
        layer->stride_width = params->stride_width;
        layer->dilation_height = params->dilation_height;
        layer->dilation_width = params->dilation_width;
        layer->groups = layer->input_channels;
    }
    if (padding != kTfLitePaddingSame && padding != kTfLitePaddingValid) {
        return false;
    }
    layer->padding = padding == kTfLitePaddingSame ? EC2T_PADDING_SAME : EC2T_PADDING_VALID;
    return layer->groups > 0 && layer->output_channels % layer->groups == 0;
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

static ec2t_claim plain_layer(const TfLiteContext *context, const TfLiteNode *node,
                              const TfLiteRegistration *registration,
                              const ec2t_delegate_options *options, ec2t_step *step,
                              ec2t_reason *reason) {
    const TfLiteTensor *input = tensor_at(context, node->inputs, 0);
    const TfLiteTensor *weights = tensor_at(context, node->inputs, 1);
    const TfLiteTensor *bias = tensor_at(context, node->inputs, 2);
    const TfLiteTensor *output = tensor_at(context, node->outputs, 0);
    ec2t_layer *layer = &step->layer;
    if (input == NULL || weights == NULL || output == NULL || node->builtin_data == NULL ||
        input->type != kTfLiteInt8 || weights->type != kTfLiteInt8 || output->type != kTfLiteInt8 ||
        !is_constant(weights) || weights->sparsity != NULL || weights->dims == NULL ||
        input->dims == NULL) {
        return say(reason, EC2T_LEFT, "it is not a plain int8 layer with constant weights");
    }
    int activation = 0;
    if (!plain_options(node, registration, input, weights, layer, &activation) ||
        !ec2t_activation_range(activation, output, &layer->output_min, &layer->output_max)) {
        return say(reason, EC2T_LEFT, "its options are not among those supported");
    }
    const int64_t taps = (int64_t)layer->kernel_height * layer->kernel_width *
                         (layer->input_channels / layer->groups);
    const int64_t count = taps * layer->output_channels;
    if (taps < 1 || taps > 65535 || layer->output_channels < 1 || count > MOST_WEIGHTS ||
        (size_t)count != weights->bytes) {
        return say(reason, EC2T_LEFT, "its weights do not have a supported size");
    }
    layer->taps = (int32_t)taps;
    const TfLiteAffineQuantization *affine = weights->quantization.params;
    if (weights->quantization.type != kTfLiteAffineQuantization || affine == NULL ||
        affine->scale == NULL ||
        (affine->scale->size != 1 && affine->scale->size != layer->output_channels)) {
        return say(reason, EC2T_LEFT, "its weights lack scales");
    }
    for (int i = 0; affine->zero_point != NULL && i < affine->zero_point->size; i++) {
        if (affine->zero_point->data[i] != 0) {
            return say(reason, EC2T_LEFT, "its weights have a zero point");
        }
    }
    if (bias != NULL && (bias->type != kTfLiteInt32 || !is_constant(bias) ||
                         bias->bytes != 4 * (size_t)layer->output_channels)) {
        return say(reason, EC2T_LEFT, "its bias is not a constant int32 tensor");
    }
    /* One allocation: bias and scales first, as they want alignment. */
    const size_t channels = (size_t)layer->output_channels;
    const size_t words = bias != NULL ? channels : 0, stream_size = ((size_t)count + 3) / 4;
    step->owned = calloc(1, 4 * (words + channels) + 2 * channels + stream_size);
    if (step->owned == NULL) {
        return say(reason, EC2T_LEFT, "out of memory");
    }
    int32_t *own_bias = step->owned;
    float *scales = (float *)(own_bias + words);
    int8_t *values = (int8_t *)(scales + channels);
    uint8_t *stream = (uint8_t *)(values + 2 * channels);
    if (!encode_ternary(weights->data, layer, values, stream, &layer->nonzeros)) {
        return say(reason, EC2T_LEFT, "it has more than three codes in an output channel");
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

static void multiplier_of(double real, int32_t *multiplier, int32_t *shift) {
    int8_t narrow = 0;
    ec2t_quantize_multiplier(real, multiplier, &narrow);
    *shift = narrow;
}

static ec2t_claim addition(const TfLiteContext *context, const TfLiteNode *node,
                           const ec2t_delegate_options *options, ec2t_step *step,
                           ec2t_reason *reason) {
    const TfLiteTensor *left = tensor_at(context, node->inputs, 0);
    const TfLiteTensor *right = tensor_at(context, node->inputs, 1);
    const TfLiteTensor *output = tensor_at(context, node->outputs, 0);
    const TfLiteAddParams *params = node->builtin_data;
    ec2t_add *add = &step->add;
    if (left == NULL || right == NULL || output == NULL || params == NULL ||
        left->type != kTfLiteInt8 || right->type != kTfLiteInt8 || output->type != kTfLiteInt8 ||
        is_constant(left) || is_constant(right) || left->dims->size != 4 ||
        right->dims->size != 4 ||
        memcmp(left->dims->data, right->dims->data, 4 * sizeof(int)) != 0 ||
        !ec2t_activation_range(params->activation, output, &add->output_min, &add->output_max)) {
        return say(reason, EC2T_LEFT, "it is not a plain sum of two int8 images");
    }
    const float scale[2] = {left->params.scale, right->params.scale};
    add->input_zero_point[0] = left->params.zero_point;
    add->input_zero_point[1] = right->params.zero_point;
    add->output_zero_point = output->params.zero_point;
    if (!(scale[0] > 0) || !(scale[1] > 0) || !(output->params.scale > 0)) {
        return say(reason, EC2T_LEFT, "a scale is not positive");
    }
    if (options->requant == EC2T_REQUANT_TFLITE) {
        /* reference_integer_ops::Add: both inputs in units of twice the larger scale. */
        const double unit = 2 * (double)(scale[0] > scale[1] ? scale[0] : scale[1]);
        multiplier_of((double)scale[0] / unit, &add->multiplier[0], &add->shift[0]);
        multiplier_of((double)scale[1] / unit, &add->multiplier[1], &add->shift[1]);
        multiplier_of(unit / ((double)(1 << 20) * (double)output->params.scale),
                      &add->multiplier[2], &add->shift[2]);
        if (add->shift[2] > 0) {
            return say(reason, EC2T_LEFT, "its output scale is too small");
        }
        return EC2T_CLAIMED;
    }
    /* XNNPACK's qs8-vadd: multipliers of 20 bits and a shift shared by both inputs. */
    const float ratio[2] = {scale[0] / output->params.scale, scale[1] / output->params.scale};
    const float largest = ratio[0] > ratio[1] ? ratio[0] : ratio[1];
    if (!(largest >= 0x1.0p-10f && largest < 0x1.0p+8f)) {
        return say(reason, EC2T_LEFT, "XNNPACK does not take sums of these scales");
    }
    int exponent;
    frexpf(largest, &exponent);
    const int32_t shift = 20 - (exponent - 1);
    add->shift[0] = shift;
    for (int i = 0; i < 2; i++) {
        add->multiplier[i] = (int32_t)lrintf(ldexpf(ratio[i], shift));
    }
    return EC2T_CLAIMED;
}

static ec2t_claim max_pool(const TfLiteContext *context, const TfLiteNode *node, ec2t_step *step,
                           ec2t_reason *reason) {
    const TfLiteTensor *input = tensor_at(context, node->inputs, 0);
    const TfLiteTensor *output = tensor_at(context, node->outputs, 0);
    const TfLitePoolParams *params = node->builtin_data;
    ec2t_pool *pool = &step->pool;
    if (input == NULL || output == NULL || params == NULL || input->type != kTfLiteInt8 ||
        output->type != kTfLiteInt8 || input->dims->size != 4 ||
        input->params.zero_point != output->params.zero_point ||
        !same_scale(input->params.scale, output->params.scale) || params->filter_height < 1 ||
        params->filter_width < 1 || params->stride_height < 1 || params->stride_width < 1 ||
        params->filter_height > 4095 || params->filter_width > 4095 ||
        params->stride_height > 4095 || params->stride_width > 4095 ||
        !ec2t_activation_range(params->activation, output, &pool->output_min, &pool->output_max)) {
        return say(reason, EC2T_LEFT, "it is not a plain int8 pooling");
    }
    pool->height = params->filter_height;
    pool->width = params->filter_width;
    pool->stride_height = params->stride_height;
    pool->stride_width = params->stride_width;
    pool->same = params->padding == kTfLitePaddingSame;
    return EC2T_CLAIMED;
}

ec2t_node_class ec2t_class_of_node(const TfLiteRegistration *registration,
                                   const ec2t_delegate_options *options) {
    const char *custom = registration->custom_name;
    switch (registration->builtin_code) {
    case kTfLiteBuiltinAdd:
    case kTfLiteBuiltinMaxPool2d: return EC2T_NODE_JOINER;
    case kTfLiteBuiltinConv2d:
    case kTfLiteBuiltinDepthwiseConv2d:
    case kTfLiteBuiltinFullyConnected:
        return options->claim_int8 ? EC2T_NODE_PLAIN : EC2T_NODE_FOREIGN;
    default:
        return custom != NULL && strncmp(custom, CUSTOM_PREFIX, sizeof CUSTOM_PREFIX - 1) == 0
                   ? EC2T_NODE_OWN
                   : EC2T_NODE_FOREIGN;
    }
}

bool ec2t_extent_of_tensor(const TfLiteTensor *tensor, ec2t_extent *extent) {
    const TfLiteIntArray *dims = tensor->dims;
    if (tensor->type != kTfLiteInt8 || dims == NULL || (dims->size != 4 && dims->size != 2)) {
        return false;
    }
    int64_t size = 1;
    for (int axis = 0; axis < dims->size; axis++) {
        size *= dims->data[axis];
        if (dims->data[axis] < 1 || size > INT32_MAX) {
            return false;
        }
    }
    *extent = (ec2t_extent){dims->data[0], 1, 1, dims->data[dims->size - 1]};
    if (dims->size == 4) {
        extent->height = dims->data[1];
        extent->width = dims->data[2];
    }
    return true;
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

ec2t_claim ec2t_step_create(TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason) {
    memset(step, 0, sizeof *step);
    reason->text[0] = '\0';
    if (node->inputs == NULL || node->outputs == NULL || node->inputs->size < 1 ||
        node->outputs->size < 1) {
        return say(reason, EC2T_LEFT, "it has no input or no output");
    }
    ec2t_claim claim;
    switch (ec2t_class_of_node(registration, options)) {
    case EC2T_NODE_JOINER:
        if (registration->builtin_code == kTfLiteBuiltinAdd) {
            step->kind = EC2T_STEP_ADD;
            claim = addition(context, node, options, step, reason);
        } else {
            step->kind = EC2T_STEP_MAX_POOL;
            claim = max_pool(context, node, step, reason);
        }
        break;
    case EC2T_NODE_PLAIN:
        claim = plain_layer(context, node, registration, options, step, reason);
        break;
    case EC2T_NODE_OWN: claim = custom_layer(context, node, options, step, reason); break;
    default: claim = say(reason, EC2T_LEFT, "it is no operator of ours");
    }
    step->inputs[0] = node->inputs->data[0];
    step->inputs[1] =
        step->kind == EC2T_STEP_ADD && claim == EC2T_CLAIMED ? node->inputs->data[1] : -1;
    step->output = node->outputs->data[0];
    if (step->kind != EC2T_STEP_LAYER) {
        step->requant.mode = options->requant;
    }
    if (claim != EC2T_CLAIMED) {
        ec2t_step_destroy(step);
    }
    return claim;
}

void ec2t_step_destroy(ec2t_step *step) {
    free(step->owned);
    free(step->requant_entries);
    free(step->planar_memory);
    free(step->dense_memory);
    free(step->weights);
    step->owned = step->requant_entries = step->planar_memory = step->dense_memory = NULL;
    step->weights = NULL;
}

static int32_t output_size(int32_t input, int32_t window, int32_t stride, bool same) {
    return same ? (input + stride - 1) / stride : (input - window + stride) / stride;
}

ec2t_status ec2t_step_output_extent(const ec2t_step *step, const ec2t_extent inputs[2],
                                    ec2t_extent *output) {
    const ec2t_extent *input = &inputs[0];
    if (step->kind == EC2T_STEP_ADD) {
        *output = *input;
        return memcmp(input, &inputs[1], sizeof *input) == 0 ? EC2T_OK : EC2T_ERROR_ARGUMENT;
    }
    if (step->kind == EC2T_STEP_MAX_POOL) {
        const ec2t_pool *pool = &step->pool;
        output->batch = input->batch;
        output->channels = input->channels;
        output->height = output_size(input->height, pool->height, pool->stride_height, pool->same);
        output->width = output_size(input->width, pool->width, pool->stride_width, pool->same);
        return output->height > 0 && output->width > 0 ? EC2T_OK : EC2T_ERROR_ARGUMENT;
    }
    ec2t_conv2d_shape shape;
    if (input->channels != step->layer.input_channels) {
        return EC2T_ERROR_ARGUMENT;
    }
    const ec2t_status status = ec2t_conv2d_shape_from_layer(&step->layer, input->batch,
                                                            input->height, input->width, &shape);
    output->batch = input->batch;
    output->height = shape.output_height;
    output->width = shape.output_width;
    output->channels = shape.output_channels;
    return status;
}

static ec2t_status decode_weights(ec2t_step *step) {
    const ec2t_layer *layer = &step->layer;
    const size_t size = (size_t)layer->output_channels * (size_t)layer->taps;
    const size_t scratch_size = ec2t_decode_weights_get_buffer_size(layer);
    int8_t *weights = malloc(size);
    void *scratch = malloc(scratch_size + 1);
    ec2t_status status = EC2T_ERROR_BUFFER;
    if (weights != NULL && scratch != NULL) {
        status = ec2t_decode_weights(layer, weights, scratch, scratch_size);
    }
    free(scratch);
    if (status != EC2T_OK) {
        free(weights);
        return status;
    }
    step->weights = weights;
    return EC2T_OK;
}

static ec2t_status list_weights(ec2t_step *step, const ec2t_conv2d_shape *shape) {
    const ec2t_layer *layer = &step->layer;
    const ec2t_planar_kernel *kernel = ec2t_planar_best_kernel();
    const size_t memory_size = ec2t_planar_conv2d_get_memory_size(kernel, layer, shape);
    const size_t scratch_size = ec2t_planar_conv2d_get_init_buffer_size(layer);
    step->planar_memory = malloc(memory_size + 1);
    void *scratch = malloc(scratch_size + 1);
    ec2t_status status = EC2T_ERROR_BUFFER;
    if (step->planar_memory != NULL && scratch != NULL) {
        status = ec2t_planar_conv2d_init(&step->planar, kernel, layer, shape, &step->requant,
                                         step->planar_memory, memory_size, scratch, scratch_size);
    }
    free(scratch);
    if (status != EC2T_OK) {
        free(step->planar_memory);
        step->planar_memory = NULL;
    }
    return status;
}

/* From decoded weights to widened ones, which take their place. */
static ec2t_status widen_weights(ec2t_step *step) {
    const ec2t_layer *layer = &step->layer;
    const size_t outputs = (size_t)layer->output_channels, inputs = (size_t)layer->taps;
    step->dense_memory = malloc(4 * outputs + 2 * outputs * inputs);
    if (step->dense_memory == NULL) {
        return EC2T_ERROR_BUFFER;
    }
    int32_t *bias = step->dense_memory;
    int16_t *weights = (int16_t *)(bias + outputs);
    ec2t_widen_s8(step->weights, weights, outputs * inputs);
    for (size_t o = 0; o < outputs; o++) {
        int64_t sum = 0;
        for (size_t i = 0; i < inputs; i++) {
            sum += weights[o * inputs + i];
        }
        const int64_t own = layer->bias != NULL ? layer->bias[o] : 0;
        bias[o] = (int32_t)(uint32_t)(own - sum * layer->input_zero_point);
    }
    step->dense = (ec2t_dense){layer->taps, layer->output_channels, weights, bias, &step->requant};
    free(step->weights);
    step->weights = NULL;
    return EC2T_OK;
}

ec2t_status ec2t_step_prepare(ec2t_step *step, const ec2t_extent *input, bool reference) {
    step->scratch_size = (size_t)input->width * (size_t)input->channels; /* a row to pool */
    if (step->kind != EC2T_STEP_LAYER) {
        return EC2T_OK;
    }
    free(step->planar_memory);
    step->planar_memory = NULL;
    ec2t_conv2d_shape shape;
    ec2t_status status = ec2t_conv2d_shape_from_layer(&step->layer, input->batch, input->height,
                                                      input->width, &shape);
    if (status != EC2T_OK) {
        return status;
    }
    const bool connected = step->layer.op == EC2T_FULLY_CONNECTED;
    if (!reference && !connected && step->layer.encoding != EC2T_ENCODING_INT8) {
        status = list_weights(step, &shape);
        if (status == EC2T_OK) {
            step->scratch_size = ec2t_planar_conv2d_get_buffer_size(&step->planar);
        }
        if (status != EC2T_ERROR_UNSUPPORTED) {
            return status;
        }
    }
    if (step->weights == NULL && step->dense_memory == NULL) {
        status = decode_weights(step);
        if (status == EC2T_OK && connected && !reference) {
            status = widen_weights(step);
        }
    }
    step->scratch_size = connected ? 2 * (size_t)step->layer.taps : 0;
    return status;
}

bool ec2t_step_is_planar(const ec2t_step *step) {
    return step->planar_memory != NULL;
}

size_t ec2t_step_scratch_size(const ec2t_step *step) {
    return step->scratch_size;
}

static void run_dense(const ec2t_step *step, const ec2t_extent *input, const int8_t *source,
                      int8_t *target, int part, int parts, int16_t *scratch) {
    const ec2t_dense *dense = &step->dense;
    const int32_t begin = dense->outputs * part / parts;
    const int32_t end = dense->outputs * (part + 1) / parts;
    for (int32_t row = 0; row < input->batch; row++) {
        ec2t_widen_s8(source + (ptrdiff_t)row * dense->inputs, scratch, (size_t)dense->inputs);
        ec2t_dense_s8(dense, scratch, target + (ptrdiff_t)row * dense->outputs, begin, end);
    }
}

static ec2t_status run_planar(const ec2t_step *step, const ec2t_extent *input,
                              const ec2t_extent *output, const int8_t *source, int8_t *target,
                              int part, int parts, void *scratch, size_t scratch_size) {
    /* By rows where there are enough: channels in one thread share the lowered rows. */
    const bool by_rows = output->height >= 4 * parts;
    ec2t_planar_part share = {0, output->height, 0, output->channels};
    if (by_rows) {
        share.row_begin = output->height * part / parts;
        share.row_end = output->height * (part + 1) / parts;
    } else {
        share.channel_begin = output->channels * part / parts;
        share.channel_end = output->channels * (part + 1) / parts;
    }
    const ptrdiff_t in = (ptrdiff_t)input->height * input->width * input->channels;
    const ptrdiff_t out = (ptrdiff_t)output->height * output->width * output->channels;
    for (int32_t image = 0; image < input->batch; image++) {
        const ec2t_status status =
            ec2t_planar_conv2d_run(&step->planar, &share, source + image * in, target + image * out,
                                   scratch, scratch_size);
        if (status != EC2T_OK) {
            return status;
        }
    }
    return EC2T_OK;
}

ec2t_status ec2t_step_run(const ec2t_step *step, bool planar, const ec2t_extent *input,
                          const ec2t_extent *output, const int8_t *const sources[2], int8_t *target,
                          int part, int parts, void *scratch, size_t scratch_size) {
    if (step->kind == EC2T_STEP_ADD) {
        const size_t count = (size_t)output->batch * (size_t)output->height *
                             (size_t)output->width * (size_t)output->channels;
        const size_t begin = count * (size_t)part / (size_t)parts;
        const size_t end = count * (size_t)(part + 1) / (size_t)parts;
        ec2t_add_s8(&step->add, step->requant.mode, sources[0] + begin, sources[1] + begin,
                    target + begin, end - begin);
        return EC2T_OK;
    }
    if (step->kind == EC2T_STEP_MAX_POOL) {
        ec2t_max_pool_s8(&step->pool, planar, input, output, sources[0], target, part, parts,
                         scratch);
        return EC2T_OK;
    }
    if (ec2t_step_is_planar(step)) {
        return run_planar(step, input, output, sources[0], target, part, parts, scratch,
                          scratch_size);
    }
    if (step->dense_memory != NULL) {
        run_dense(step, input, sources[0], target, part, parts, scratch);
        return EC2T_OK;
    }
    if (part > 0) {
        return EC2T_OK;
    }
    ec2t_conv2d_shape shape;
    const ec2t_status status = ec2t_conv2d_shape_from_layer(&step->layer, input->batch,
                                                            input->height, input->width, &shape);
    if (status != EC2T_OK) {
        return status;
    }
    return ec2t_conv2d_s8__ref(&shape, &step->requant, step->weights, step->layer.bias, sources[0],
                               target);
}
