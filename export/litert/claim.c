#include "claim.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char CUSTOM_PREFIX[] = "EC2T.";
enum { MOST_STEP = 4095 }; /* rows and columns of windows and strides */

ec2t_claim ec2t_say(ec2t_reason *reason, ec2t_claim claim, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
    return claim;
}

static void multiplier_of(double real, int32_t *multiplier, int32_t *shift) {
    int8_t narrow = 0;
    ec2t_quantize_multiplier(real, multiplier, &narrow);
    *shift = narrow;
}

static ec2t_claim addition(const TfLiteContext *context, const TfLiteNode *node,
                           const ec2t_delegate_options *options, ec2t_step *step,
                           ec2t_reason *reason) {
    const TfLiteTensor *left = ec2t_tensor_at(context, node->inputs, 0);
    const TfLiteTensor *right = ec2t_tensor_at(context, node->inputs, 1);
    const TfLiteTensor *output = ec2t_tensor_at(context, node->outputs, 0);
    const TfLiteAddParams *params = node->builtin_data;
    ec2t_add *add = &step->add;
    if (ec2t_is_misquantised(left) || ec2t_is_misquantised(right) || ec2t_is_misquantised(output)) {
        return ec2t_say(reason, EC2T_DAMAGED,
                        "an int8 tensor needs a scale above 0 and a zero point from -128 to 127");
    }
    if (left == NULL || right == NULL || output == NULL || params == NULL ||
        node->inputs->size != 2 || node->outputs->size != 1 || !ec2t_is_int8_activation(left) ||
        !ec2t_is_int8_activation(right) || !ec2t_is_int8_activation(output) ||
        left->dims->size != 4 || right->dims->size != 4 ||
        memcmp(left->dims->data, right->dims->data, 4 * sizeof(int)) != 0 ||
        !ec2t_activation_range(params->activation, output, &add->output_min, &add->output_max)) {
        return ec2t_say(reason, EC2T_LEFT, "it is not a plain sum of two int8 images");
    }
    const float scale[2] = {left->params.scale, right->params.scale};
    /* TensorFlow Lite: both inputs in units of twice the larger scale. */
    const double unit = 2 * (double)(scale[0] > scale[1] ? scale[0] : scale[1]);
    const double output_unit = unit / ((double)(1 << 20) * (double)output->params.scale);
    /* Beyond these TensorFlow Lite ends the process; its product is a float. */
    const float output_units = (float)(1 << 20) * output->params.scale;
    if (output_unit >= 1.0 || !isfinite(output_units)) {
        return ec2t_say(reason, EC2T_DAMAGED, "the scale of a sum does not suit its inputs");
    }
    add->input_zero_point[0] = left->params.zero_point;
    add->input_zero_point[1] = right->params.zero_point;
    add->output_zero_point = output->params.zero_point;
    if (options->requant == EC2T_REQUANT_TFLITE) {
        multiplier_of((double)scale[0] / unit, &add->multiplier[0], &add->shift[0]);
        multiplier_of((double)scale[1] / unit, &add->multiplier[1], &add->shift[1]);
        multiplier_of(output_unit, &add->multiplier[2], &add->shift[2]);
        if (add->shift[2] > 0) { /* rounded up to one */
            return ec2t_say(reason, EC2T_LEFT, "its output scale is too small");
        }
        return EC2T_CLAIMED;
    }
    /* XNNPACK's qs8-vadd: multipliers of 20 bits and a shift shared by both inputs. */
    const float ratio[2] = {scale[0] / output->params.scale, scale[1] / output->params.scale};
    const float largest = ratio[0] > ratio[1] ? ratio[0] : ratio[1];
    const float smallest = ratio[0] > ratio[1] ? ratio[1] : ratio[0];
    if (!(smallest >= 0x1.0p-10f && largest < 0x1.0p+8f)) {
        return ec2t_say(reason, EC2T_LEFT, "XNNPACK does not take sums of these scales");
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

/* Whether a window is far larger than what it slides over: XNNPACK takes gigabytes and half a
 * minute for it. */
static bool is_out_of_proportion(int window, int size) {
    return window > MOST_STEP && window / 2 > size;
}

static ec2t_claim max_pool(const TfLiteContext *context, const TfLiteNode *node, ec2t_step *step,
                           ec2t_reason *reason) {
    const TfLiteTensor *input = ec2t_tensor_at(context, node->inputs, 0);
    const TfLiteTensor *output = ec2t_tensor_at(context, node->outputs, 0);
    const TfLitePoolParams *params = node->builtin_data;
    ec2t_pool *pool = &step->pool;
    ec2t_extent extent;
    if (input != NULL && params != NULL && ec2t_extent_of_tensor(input, &extent) &&
        (is_out_of_proportion(params->filter_height, extent.height) ||
         is_out_of_proportion(params->filter_width, extent.width))) {
        return ec2t_say(reason, EC2T_DAMAGED, "its window is far larger than its input");
    }
    if (input == NULL || output == NULL || params == NULL || node->inputs->size != 1 ||
        node->outputs->size != 1 || !ec2t_is_int8_activation(input) ||
        !ec2t_is_int8_activation(output) || input->dims->size != 4 ||
        input->params.zero_point != output->params.zero_point ||
        !ec2t_same_scale(input->params.scale, output->params.scale) || params->filter_height < 1 ||
        params->filter_width < 1 || params->stride_height < 1 || params->stride_width < 1 ||
        params->filter_height > MOST_STEP || params->filter_width > MOST_STEP ||
        params->stride_height > MOST_STEP || params->stride_width > MOST_STEP ||
        (params->padding != kTfLitePaddingSame && params->padding != kTfLitePaddingValid) ||
        !ec2t_activation_range(params->activation, output, &pool->output_min, &pool->output_max)) {
        return ec2t_say(reason, EC2T_LEFT, "it is not a plain int8 pooling");
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

ec2t_claim ec2t_step_create(TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason) {
    memset(step, 0, sizeof *step);
    reason->text[0] = '\0';
    if (node->inputs == NULL || node->outputs == NULL || node->inputs->size < 1 ||
        node->outputs->size < 1) {
        return ec2t_say(reason, EC2T_LEFT, "it has no input or no output");
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
        claim = ec2t_claim_plain(context, node, registration, options, step, reason);
        break;
    case EC2T_NODE_OWN: claim = ec2t_claim_own(context, node, options, step, reason); break;
    default: claim = ec2t_say(reason, EC2T_LEFT, "it is no operator of ours");
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
