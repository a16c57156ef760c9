#include "restore.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPTIONS_SIZE = 64, /* more than any runtime's options of these operators; zeros beyond ours */
    INT8_VERSION = 4,  /* of the operators: the first with int8 weights, or later */
};

struct ec2t_restored {
    ec2t_restored *next;
    ec2t_step step;
    int8_t *turned; /* weights of a depthwise convolution as [kernel y][kernel x][channel] */
    int32_t *bias;
};

/* The fused activation that clips to a layer's range; -1 if none does. */
static int activation_of(const ec2t_layer *layer, const TfLiteTensor *output) {
    static const int KNOWN[] = {kTfLiteActNone, kTfLiteActRelu, kTfLiteActRelu6,
                                kTfLiteActReluN1To1};
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        int32_t smallest, largest;
        if (ec2t_activation_range(KNOWN[i], output, &smallest, &largest) &&
            smallest == layer->output_min && largest == layer->output_max) {
            return KNOWN[i];
        }
    }
    return -1;
}

bool ec2t_is_restorable(const TfLiteContext *context, const ec2t_step *step) {
    const ec2t_layer *layer = &step->layer;
    const bool grouped = layer->op == EC2T_DEPTHWISE_CONV_2D
                             ? layer->groups != layer->input_channels
                             : layer->groups != 1;
    return step->kind == EC2T_STEP_LAYER && layer->weight_scales != NULL && !grouped &&
           (layer->padding == EC2T_PADDING_SAME || layer->padding == EC2T_PADDING_VALID) &&
           activation_of(layer, &context->tensors[step->output]) >= 0;
}

/* The options of the operator, for the runtime to release. */
static void *make_options(const ec2t_layer *layer, int activation) {
    void *options = calloc(1, OPTIONS_SIZE);
    if (options == NULL) {
        return NULL;
    }
    const int padding =
        layer->padding == EC2T_PADDING_SAME ? kTfLitePaddingSame : kTfLitePaddingValid;
    if (layer->op == EC2T_FULLY_CONNECTED) {
        *(TfLiteFullyConnectedParams *)options = (TfLiteFullyConnectedParams){activation, 0, false};
    } else if (layer->op == EC2T_CONV_2D) {
        *(TfLiteConvParams *)options = (TfLiteConvParams){
            padding,    layer->stride_width,   layer->stride_height,
            activation, layer->dilation_width, layer->dilation_height,
        };
    } else {
        *(TfLiteDepthwiseConvParams *)options = (TfLiteDepthwiseConvParams){
            padding,
            layer->stride_width,
            layer->stride_height,
            layer->output_channels / layer->input_channels,
            activation,
            layer->dilation_width,
            layer->dilation_height,
        };
    }
    return options;
}

/* A constant tensor at `data`, which stays ours, with a scale per channel or one for all. */
static bool fill_constant(TfLiteTensor *tensor, int type, int axes, const int *shape, void *data,
                          size_t element, int count, const float *scales, float times, int axis) {
    TfLiteIntArray *dims = malloc(sizeof *dims + sizeof(int) * (size_t)axes);
    TfLiteAffineQuantization *affine = calloc(1, sizeof *affine);
    TfLiteFloatArray *scale = malloc(sizeof *scale + sizeof(float) * (size_t)count);
    TfLiteIntArray *zero_point = calloc(1, sizeof *zero_point + sizeof(int) * (size_t)count);
    if (dims == NULL || affine == NULL || scale == NULL || zero_point == NULL) {
        free(dims);
        free(affine);
        free(scale);
        free(zero_point);
        return false;
    }
    dims->size = axes;
    tensor->bytes = element;
    for (int i = 0; i < axes; i++) {
        dims->data[i] = shape[i];
        tensor->bytes *= (size_t)shape[i];
    }
    scale->size = zero_point->size = count;
    for (int i = 0; i < count; i++) {
        scale->data[i] = scales[i] * times;
    }
    *affine = (TfLiteAffineQuantization){scale, zero_point, axis};
    tensor->type = type;
    tensor->data = data;
    tensor->dims = dims;
    tensor->params = (TfLiteQuantizationParams){scale->data[0], 0};
    tensor->allocation_type = kTfLiteMmapRo;
    tensor->name = "";
    tensor->quantization = (TfLiteQuantization){kTfLiteAffineQuantization, affine};
    return true;
}

static TfLiteStatus prepare(TfLiteContext *context, TfLiteNode *node) {
    const ec2t_restored *restored = node->user_data;
    const ec2t_step *step = &restored->step;
    ec2t_extent inputs[2], extent;
    memset(inputs, 0, sizeof inputs);
    TfLiteTensor *output = &context->tensors[step->output];
    if (!ec2t_extent_of_tensor(&context->tensors[step->inputs[0]], &inputs[0]) ||
        ec2t_step_output_extent(step, inputs, &extent) != EC2T_OK || output->dims == NULL) {
        context->ReportError(context, "EC2T: the input of tensor %d does not fit its layer",
                             step->output);
        return kTfLiteError;
    }
    return ec2t_resize_tensor(context, output, &extent);
}

static TfLiteStatus invoke(TfLiteContext *context, TfLiteNode *node) {
    const ec2t_restored *restored = node->user_data;
    const ec2t_step *step = &restored->step;
    ec2t_extent input, output;
    const int8_t *const sources[2] = {context->tensors[step->inputs[0]].data, NULL};
    if (!ec2t_extent_of_tensor(&context->tensors[step->inputs[0]], &input) ||
        !ec2t_extent_of_tensor(&context->tensors[step->output], &output)) {
        return kTfLiteError;
    }
    return ec2t_step_run(step, false, &input, &output, sources, context->tensors[step->output].data,
                         0, 1, NULL, 0) == EC2T_OK
               ? kTfLiteOk
               : kTfLiteError;
}

/* Decodes the weights into the order of the operator's tensor. */
static bool decode(ec2t_restored *restored, const ec2t_extent *input) {
    ec2t_step *step = &restored->step;
    const ec2t_layer *layer = &step->layer;
    const size_t channels = (size_t)layer->output_channels, taps = (size_t)layer->taps;
    restored->bias = calloc(channels, sizeof *restored->bias);
    if (restored->bias == NULL || ec2t_step_prepare(step, input, true) != EC2T_OK) {
        return false;
    }
    if (layer->bias != NULL) {
        memcpy(restored->bias, layer->bias, channels * sizeof *restored->bias);
    }
    if (layer->op == EC2T_DEPTHWISE_CONV_2D) {
        restored->turned = malloc(channels * taps);
        if (restored->turned == NULL) {
            return false;
        }
        for (size_t channel = 0; channel < channels; channel++) {
            for (size_t tap = 0; tap < taps; tap++) {
                restored->turned[tap * channels + channel] = step->weights[channel * taps + tap];
            }
        }
    }
    return true;
}

/* Adds the constants to the graph; the number of the first one, or -1. */
static int add_constants(TfLiteContext *context, const ec2t_restored *restored) {
    const ec2t_layer *layer = &restored->step.layer;
    const int outputs = layer->output_channels;
    const int conv[4] = {outputs, layer->kernel_height, layer->kernel_width, layer->input_channels};
    const int depthwise[4] = {1, layer->kernel_height, layer->kernel_width, outputs};
    const int connected[2] = {outputs, layer->input_channels};
    const bool is_depthwise = layer->op == EC2T_DEPTHWISE_CONV_2D;
    const bool is_connected = layer->op == EC2T_FULLY_CONNECTED;
    const int scales = layer->requant_stride ? outputs : 1;
    int first = 0;
    if (context->AddTensors(context, 2, &first) != kTfLiteOk ||
        !fill_constant(&context->tensors[first], kTfLiteInt8, is_connected ? 2 : 4,
                       is_connected   ? connected
                       : is_depthwise ? depthwise
                                      : conv,
                       is_depthwise ? restored->turned : restored->step.weights, sizeof(int8_t),
                       scales, layer->weight_scales, 1.0f, is_depthwise ? 3 : 0) ||
        !fill_constant(&context->tensors[first + 1], kTfLiteInt32, 1, &outputs, restored->bias,
                       sizeof(int32_t), scales, layer->weight_scales, layer->input_scale, 0)) {
        return -1;
    }
    return first;
}

TfLiteStatus ec2t_restore(TfLiteContext *context, int index, const ec2t_delegate_options *options,
                          ec2t_restored **list) {
    static const int BUILTINS[] = {
        [EC2T_CONV_2D] = kTfLiteBuiltinConv2d,
        [EC2T_DEPTHWISE_CONV_2D] = kTfLiteBuiltinDepthwiseConv2d,
        [EC2T_FULLY_CONNECTED] = kTfLiteBuiltinFullyConnected,
    };
    TfLiteNode *node = NULL;
    TfLiteRegistration *registration = NULL;
    ec2t_reason reason;
    ec2t_extent input;
    ec2t_restored *restored = calloc(1, sizeof *restored);
    if (restored == NULL ||
        context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk ||
        ec2t_step_create(context, node, registration, options, &restored->step, &reason) !=
            EC2T_CLAIMED) {
        free(restored);
        return kTfLiteError;
    }
    restored->next = *list;
    *list = restored;
    const ec2t_step *step = &restored->step;
    const ec2t_layer *layer = &step->layer;
    const int source = step->inputs[0];
    if (!ec2t_extent_of_tensor(&context->tensors[source], &input) || !decode(restored, &input)) {
        return kTfLiteError;
    }
    void *own_options = make_options(layer, activation_of(layer, &context->tensors[step->output]));
    TfLiteIntArray *inputs = malloc(sizeof *inputs + 3 * sizeof(int));
    const int first = own_options != NULL && inputs != NULL ? add_constants(context, restored) : -1;
    if (first < 0) {
        free(own_options);
        free(inputs);
        return kTfLiteError;
    }
    inputs->size = 3;
    inputs->data[0] = source;
    inputs->data[1] = first;
    inputs->data[2] = first + 1;
    free(node->inputs);
    free(node->builtin_data);
    node->inputs = inputs;
    node->builtin_data = own_options;
    node->user_data = restored;
    memset(registration, 0, offsetof(TfLiteRegistration, unknown));
    registration->prepare = prepare;
    registration->invoke = invoke;
    registration->builtin_code = BUILTINS[layer->op];
    registration->version = INT8_VERSION;
    return kTfLiteOk;
}

void ec2t_restored_destroy(ec2t_restored *list) {
    while (list != NULL) {
        ec2t_restored *next = list->next;
        ec2t_step_destroy(&list->step);
        free(list->turned);
        free(list->bias);
        free(list);
        list = next;
    }
}
