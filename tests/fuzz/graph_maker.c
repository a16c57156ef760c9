#include "graph_maker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blob_maker.h"

uint8_t decide(decisions *from) {
    return from->at < from->end ? *from->at++ : 0;
}

int pick(decisions *from, int count) {
    return decide(from) % count;
}

static const int32_t HOSTILE[] = {
    0,     -1,    1,         2,         127,           128,     -128,          -129,
    255,   4095,  4096,      65535,     65536,         1 << 20, 1 << 24,       (1 << 24) + 1,
    32768, 12345, INT32_MAX, INT32_MIN, INT32_MAX - 1, 1 << 30, INT32_MIN + 1, 3,
};
static const float HOSTILE_SCALES[] = {0.0f,   -0.1f,  NAN,    INFINITY, -INFINITY, 1e-40f,
                                       3e38f,  1e-38f, -0.0f,  1e-6f,    1e6f,      0.0009765625f,
                                       256.0f, 1.0f,   0.003f, 0.1f};

static int hostile(decisions *from) {
    return HOSTILE[pick(from, sizeof HOSTILE / sizeof HOSTILE[0])];
}

static float hostile_scale(decisions *from) {
    return HOSTILE_SCALES[pick(from, sizeof HOSTILE_SCALES / sizeof HOSTILE_SCALES[0])];
}

/* Height, width and channels of an activation. */
typedef struct {
    int batch, height, width, channels;
    bool is_flat;
} extent;

static extent extent_of(const TfLiteTensor *tensor) {
    const TfLiteIntArray *dims = tensor->dims;
    if (dims->size == 4) {
        return (extent){dims->data[0], dims->data[1], dims->data[2], dims->data[3], false};
    }
    return (extent){dims->data[0], 1, 1, dims->data[dims->size - 1], true};
}

static int add_activation(ec2t_runtime *runtime, const extent *size, decisions *from) {
    static const float SCALES[] = {0.1f, 0.05f, 0.02f, 0.1f};
    TfLiteTensor *tensor = runtime_add_tensor(runtime);
    if (tensor == NULL) {
        return -1;
    }
    const int four[4] = {size->batch, size->height, size->width, size->channels};
    const int two[2] = {size->batch, size->channels};
    tensor->type = kTfLiteInt8;
    tensor->dims = size->is_flat ? array_of(2, two) : array_of(4, four);
    tensor->allocation_type = 2; /* kTfLiteArenaRw */
    const int choice = pick(from, 8);
    tensor->params = (TfLiteQuantizationParams){SCALES[choice % 4], choice < 4 ? 0 : choice - 6};
    return (int)runtime->context.tensors_size - 1;
}

/* A constant whose bytes lie at `shift` beyond an aligned address. */
static int add_constant(ec2t_runtime *runtime, int type, const TfLiteIntArray *dims,
                        const void *bytes, size_t size, size_t shift) {
    TfLiteTensor *tensor = runtime_add_tensor(runtime);
    if (tensor == NULL) {
        return -1;
    }
    uint8_t *memory = malloc(size + shift + (size == 0));
    if (size > 0) {
        memcpy(memory + shift, bytes, size);
    }
    tensor->type = type;
    tensor->dims = array_of(dims->size, dims->data);
    tensor->allocation_type = kTfLiteMmapRo;
    tensor->allocation = memory; /* released with it */
    tensor->data = memory + shift;
    tensor->bytes = size;
    return (int)runtime->context.tensors_size - 1;
}

static void draw_weights(layer_plan *plan, decisions *from) {
    const int kind = pick(from, 8), threshold = 64 * pick(from, 4);
    const int8_t plus = (int8_t)(1 + pick(from, 127)), minus = (int8_t)-(1 + pick(from, 127));
    uint32_t state = 1 + decide(from);
    for (int i = 0; i < plan->count; i++) {
        state = state * 1664525u + 1013904223u;
        const int draw = (int)(state >> 24);
        const bool flipped = kind == 1 && i / plan->taps % 2 != 0;
        const int step = kind == 2 ? i / plan->taps % 3 : 0; /* values a channel */
        int weight = draw < threshold ? 0 : (draw & 1) != 0 ? plus - step : minus + step;
        weight = kind == 3 && (draw & 2) != 0 ? draw / 4 : weight; /* not ternary */
        weight = weight > 127 ? 127 : weight < -127 ? -127 : weight;
        plan->weights[i] = (int8_t)(flipped ? -weight : weight);
    }
}

/* A layer that fits an input; false if it has too many weights. */
static bool plan_layer(layer_plan *plan, const extent *input, decisions *from) {
    static const int OUTPUTS[] = {1, 2, 3, 4, 3, 16, 5, 2};
    const int op = 1 + pick(from, 3);
    plan->op = op;
    for (int axis = 0; axis < 2; axis++) {
        const int shape = pick(from, 32);
        plan->kernel[axis] = op == EC2T_FULLY_CONNECTED ? 1 : 1 + shape % 4;
        plan->stride[axis] = op == EC2T_FULLY_CONNECTED ? 1 : 1 + shape / 4 % 3;
        plan->dilation[axis] = op == EC2T_FULLY_CONNECTED || shape < 24 ? 1 : 1 + shape / 8;
    }
    const int flags = decide(from);
    plan->is_same = op != EC2T_FULLY_CONNECTED && (flags & 1) != 0;
    plan->has_bias = (flags & 2) != 0;
    plan->has_one_scale = (flags & 4) != 0;
    plan->activation = flags / 8 % 4;
    plan->outputs = OUTPUTS[flags / 32];
    plan->groups = 1;
    plan->inputs = input->channels;
    if (op == EC2T_FULLY_CONNECTED && !input->is_flat) {
        plan->inputs = input->height * input->width * input->channels;
    } else if (op == EC2T_DEPTHWISE_CONV_2D) {
        plan->groups = plan->inputs;
        plan->outputs = plan->inputs * (1 + (flags / 32 > 6));
    } else if (op == EC2T_CONV_2D && plan->inputs % 2 == 0 && flags / 32 == 3) {
        plan->groups = 2;
    }
    plan->taps = plan->kernel[0] * plan->kernel[1] * (plan->inputs / plan->groups);
    plan->count = plan->taps * plan->outputs;
    if (plan->count > MOST_WEIGHTS) {
        return false;
    }
    draw_weights(plan, from);
    return true;
}

static int size_after(int input, int kernel, int stride, int dilation, bool is_same) {
    const int size = is_same ? (input + stride - 1) / stride
                             : (input - (kernel - 1) * dilation - 1 + stride) / stride;
    return size < 1 ? 1 : size;
}

static extent extent_after(const layer_plan *plan, const extent *input) {
    if (plan->op == EC2T_FULLY_CONNECTED) {
        return (extent){input->batch, 1, 1, plan->outputs, true};
    }
    extent output = {input->batch, 0, 0, plan->outputs, false};
    output.height = size_after(input->height, plan->kernel[0], plan->stride[0], plan->dilation[0],
                               plan->is_same);
    output.width = size_after(input->width, plan->kernel[1], plan->stride[1], plan->dilation[1],
                              plan->is_same);
    return output;
}

static TfLiteNode *add_node(ec2t_runtime *runtime, int builtin, const char *custom, int count,
                            const int *inputs, int output) {
    TfLiteNode *node = runtime_add_node(runtime, builtin, custom);
    if (node != NULL) {
        node->inputs = array_of(count, inputs);
        node->outputs = array_of(1, &output);
    }
    return node;
}

static void add_own_layer(ec2t_runtime *runtime, const layer_plan *plan, int source, int target,
                          decisions *from) {
    static const char *const NAMES[] = {"", "EC2T.Conv2D", "EC2T.DepthwiseConv2D",
                                        "EC2T.FullyConnected"};
    static buffer blob;
    const int how = decide(from);
    if (how >= 128) {
        make_compact_blob(&blob, plan, &runtime->tensors[target], from);
        TfLiteNode *node =
            add_node(runtime, kTfLiteBuiltinCustom, "EC2T.Layer", 1, &source, target);
        if (node != NULL) {
            runtime_set_custom(runtime, node, blob.bytes, blob.size);
        }
        return;
    }
    make_blob(&blob, plan, &runtime->tensors[source], &runtime->tensors[target], from);
    const int size = (int)blob.size;
    TfLiteIntArray *dims = array_of(1, &size);
    const size_t shift = (size_t)how % 8 % 5 % 4; /* other writers align to nothing */
    const int constant = add_constant(runtime, kTfLiteUInt8, dims, blob.bytes, blob.size, shift);
    free(dims);
    const int inputs[2] = {source, constant};
    (void)add_node(runtime, kTfLiteBuiltinCustom, NAMES[plan->op], 2, inputs, target);
}

static void *options_of(const layer_plan *plan, decisions *from) {
    int *options = calloc(16, sizeof *options);
    const int padding = plan->is_same ? kTfLitePaddingSame : kTfLitePaddingValid;
    if (plan->op == EC2T_FULLY_CONNECTED) {
        options[0] = plan->activation;
    } else if (plan->op == EC2T_CONV_2D) {
        *(TfLiteConvParams *)options =
            (TfLiteConvParams){padding,          plan->stride[1],   plan->stride[0],
                               plan->activation, plan->dilation[1], plan->dilation[0]};
    } else {
        *(TfLiteDepthwiseConvParams *)options = (TfLiteDepthwiseConvParams){
            padding,          plan->stride[1],   plan->stride[0],  plan->outputs / plan->inputs,
            plan->activation, plan->dilation[1], plan->dilation[0]};
    }
    if (pick(from, 16) > 12) {
        options[pick(from, 8)] = hostile(from);
    }
    return options;
}

static void quantise(TfLiteTensor *tensor, int count, float scale, decisions *from) {
    TfLiteAffineQuantization *affine = calloc(1, sizeof *affine);
    affine->scale = malloc(sizeof *affine->scale + sizeof(float) * (size_t)count);
    affine->scale->size = count;
    for (int i = 0; i < count; i++) {
        affine->scale->data[i] = scale + 0.001f * (float)i;
    }
    const int zero = 0;
    affine->zero_point = array_of(1, &zero);
    if (pick(from, 32) > 29) {
        affine->scale->data[pick(from, count)] = hostile_scale(from);
        affine->zero_point->data[0] = pick(from, 3) - 1;
    }
    tensor->quantization = (TfLiteQuantization){kTfLiteAffineQuantization, affine};
}

static void add_plain_layer(ec2t_runtime *runtime, const layer_plan *plan, int source, int target,
                            decisions *from) {
    static const int BUILTINS[] = {0, kTfLiteBuiltinConv2d, kTfLiteBuiltinDepthwiseConv2d,
                                   kTfLiteBuiltinFullyConnected};
    int8_t turned[MOST_WEIGHTS];
    const bool is_depthwise = plan->op == EC2T_DEPTHWISE_CONV_2D;
    for (int o = 0; o < plan->outputs; o++) {
        for (int tap = 0; tap < plan->taps; tap++) {
            const int from_place = o * plan->taps + tap;
            turned[is_depthwise ? tap * plan->outputs + o : from_place] = plan->weights[from_place];
        }
    }
    const int conv[4] = {plan->outputs, plan->kernel[0], plan->kernel[1],
                         plan->inputs / plan->groups};
    const int depthwise[4] = {1, plan->kernel[0], plan->kernel[1], plan->outputs};
    const int connected[2] = {plan->outputs, plan->inputs};
    TfLiteIntArray *dims = plan->op == EC2T_FULLY_CONNECTED
                               ? array_of(2, connected)
                               : array_of(4, is_depthwise ? depthwise : conv);
    const int weights = add_constant(runtime, kTfLiteInt8, dims, turned, (size_t)plan->count, 0);
    free(dims);
    if (weights < 0) {
        return;
    }
    quantise(&runtime->tensors[weights], plan->has_one_scale ? 1 : plan->outputs, 0.01f, from);
    int inputs[3] = {source, weights, -1};
    if (plan->has_bias) {
        int32_t bias[MOST_WEIGHTS];
        for (int o = 0; o < plan->outputs; o++) {
            bias[o] = 17 * o - 40;
        }
        dims = array_of(1, &plan->outputs);
        inputs[2] = add_constant(runtime, kTfLiteInt32, dims, bias, 4 * (size_t)plan->outputs, 0);
        free(dims);
    }
    TfLiteNode *node = add_node(runtime, BUILTINS[plan->op], NULL, 3, inputs, target);
    if (node != NULL) {
        node->builtin_data = options_of(plan, from);
    }
}

static void add_addition(ec2t_runtime *runtime, int left, decisions *from) {
    const extent size = extent_of(&runtime->tensors[left]);
    int right = left;
    for (int t = (int)runtime->context.tensors_size - 1; t >= 0; t--) {
        const TfLiteTensor *other = &runtime->tensors[t];
        const TfLiteIntArray *dims = runtime->tensors[left].dims;
        if (t != left && other->allocation_type != kTfLiteMmapRo &&
            other->dims->size == dims->size &&
            memcmp(other->dims->data, dims->data, sizeof(int) * (size_t)dims->size) == 0) {
            right = t;
            break;
        }
    }
    const int inputs[2] = {left, right};
    const int target = add_activation(runtime, &size, from);
    TfLiteNode *node =
        target < 0 ? NULL : add_node(runtime, kTfLiteBuiltinAdd, NULL, 2, inputs, target);
    if (node != NULL) {
        int *options = calloc(16, sizeof *options);
        options[0] = pick(from, 5);
        node->builtin_data = options;
    }
}

static void add_pool(ec2t_runtime *runtime, int source, decisions *from) {
    const extent input = extent_of(&runtime->tensors[source]);
    const int shape = decide(from);
    const int window[2] = {1 + shape % 3, 1 + shape / 3 % 3};
    const int stride[2] = {1 + shape / 9 % 3, 1 + shape / 27 % 3};
    const bool is_same = shape > 160;
    extent output = input;
    output.height = size_after(input.height, window[0], stride[0], 1, is_same);
    output.width = size_after(input.width, window[1], stride[1], 1, is_same);
    const int target = add_activation(runtime, &output, from);
    TfLiteNode *node =
        target < 0 ? NULL : add_node(runtime, kTfLiteBuiltinMaxPool2d, NULL, 1, &source, target);
    if (node != NULL) {
        runtime->tensors[target].params = runtime->tensors[source].params;
        int *options = calloc(16, sizeof *options);
        *(TfLitePoolParams *)options =
            (TfLitePoolParams){is_same ? kTfLitePaddingSame : kTfLitePaddingValid,
                               stride[1],
                               stride[0],
                               window[1],
                               window[0],
                               pick(from, 4)};
        if (pick(from, 16) > 13) {
            options[pick(from, 6)] = hostile(from);
        }
        node->builtin_data = options;
    }
}

/* An activation that exists already; mostly the last one. */
static int choose_source(const ec2t_runtime *runtime, decisions *from) {
    const int back = pick(from, 8);
    int found = 0;
    for (int t = (int)runtime->context.tensors_size - 1, skip = back < 5 ? 0 : back - 4; t >= 0;
         t--) {
        if (runtime->tensors[t].allocation_type != kTfLiteMmapRo) {
            found = t;
            if (skip-- == 0) {
                break;
            }
        }
    }
    return found;
}

static void add_operator(ec2t_runtime *runtime, decisions *from) {
    const int source = choose_source(runtime, from), kind = pick(from, 16);
    const extent input = extent_of(&runtime->tensors[source]);
    if (kind < 10) {
        static layer_plan plan;
        if (!plan_layer(&plan, &input, from)) {
            return;
        }
        const extent size = extent_after(&plan, &input);
        const int target = add_activation(runtime, &size, from);
        if (target < 0 || runtime->context.tensors_size + 2 > MOST_TENSORS) {
            return;
        }
        (kind < 5 ? add_own_layer : add_plain_layer)(runtime, &plan, source, target, from);
    } else if (kind < 12) {
        add_addition(runtime, source, from);
    } else if (kind < 14) {
        add_pool(runtime, source, from);
    } else {
        const int target = add_activation(runtime, &input, from);
        if (target >= 0) {
            (void)add_node(runtime, 999, NULL, 1, &source, target);
        }
    }
}

static void twist_tensor(ec2t_runtime *runtime, decisions *from) {
    const int index = pick(from, (int)runtime->context.tensors_size);
    TfLiteTensor *tensor = &runtime->tensors[index];
    const bool is_constant = tensor->allocation_type == kTfLiteMmapRo;
    switch (pick(from, 8)) {
    case 0: tensor->params.zero_point = hostile(from); break;
    case 1: tensor->params.scale = hostile_scale(from); break;
    case 2:
        tensor->type = (const int[]){kTfLiteInt8, kTfLiteUInt8, kTfLiteInt32, 1}[pick(from, 4)];
        break;
    case 3: tensor->is_variable = true; break;
    case 4: tensor->dims->size -= tensor->dims->size > 1; break;
    case 5: tensor->dims->data[pick(from, tensor->dims->size)] = hostile(from); break;
    case 6: tensor->dims->data[pick(from, tensor->dims->size)] = 1 + pick(from, 20); break;
    default:
        if (is_constant) {
            tensor->sparsity = tensor;
        } else {
            runtime->is_net_output[index] = true;
        }
    }
    if (is_constant && tensor->type == kTfLiteInt32 && tensor->bytes % 4 != 0) {
        tensor->type = kTfLiteInt8;
    }
}

static void twist_node(ec2t_runtime *runtime, decisions *from) {
    TfLiteNode *node = &runtime->nodes[pick(from, runtime->node_count)];
    const int any = pick(from, (int)runtime->context.tensors_size + 1) - 1;
    switch (pick(from, 6)) {
    case 0:
    case 1:
        if (node->inputs->size > 0) {
            node->inputs->data[pick(from, node->inputs->size)] = any;
        }
        break;
    case 2:
    case 3:
        if (node->outputs->size > 0) {
            node->outputs->data[0] = any < 0 ? 0 : any;
        }
        break;
    case 4: node->inputs->size -= node->inputs->size > 0; break;
    default:
        if (pick(from, 2) == 0) {
            node->outputs->size = 0;
        } else {
            free(node->builtin_data);
            node->builtin_data = NULL;
        }
    }
}

void make_graph(ec2t_runtime *runtime, decisions *from) {
    /* Small ones mostly: what goes wrong goes wrong there, and sooner. */
    static const int SIZES[16] = {1, 2, 3, 4, 5, 6, 3, 4, 5, 2, 6, 7, 4, 3, 8, 16};
    static const int CHANNELS[16] = {1, 2, 3, 4, 2, 1, 3, 2, 4, 5, 1, 2, 3, 8, 16, 17};
    for (int i = 1 + (pick(from, 4) == 0); i > 0; i--) {
        const int shape = decide(from), more = decide(from);
        const extent size = {1 + (more / 16 == 7), SIZES[shape % 16],
                             shape == 255 ? 40 : SIZES[shape / 16], CHANNELS[more % 16],
                             more / 16 > 13};
        const int tensor = add_activation(runtime, &size, from);
        runtime->is_net_input[tensor] = true;
    }
    for (int i = 1 + pick(from, MOST_NODES - 1); i > 0; i--) {
        add_operator(runtime, from);
    }
    for (int i = pick(from, 8), count = i < 5 ? 0 : i - 4; count > 0 && runtime->node_count > 0;
         count--) {
        if (pick(from, 2) == 0) {
            twist_tensor(runtime, from);
        } else {
            twist_node(runtime, from);
        }
    }
    /* The last activation leaves the net, and what nobody reads. */
    bool is_read[MOST_TENSORS] = {false};
    for (int n = 0; n < runtime->node_count; n++) {
        const TfLiteIntArray *inputs = runtime->nodes[n].inputs;
        for (int i = 0; i < inputs->size; i++) {
            if (inputs->data[i] >= 0) {
                is_read[inputs->data[i]] = true;
            }
        }
    }
    for (size_t t = 0; t < runtime->context.tensors_size; t++) {
        runtime->is_net_output[t] =
            runtime->is_net_output[t] ||
            (!is_read[t] && runtime->tensors[t].allocation_type != kTfLiteMmapRo);
    }
}
