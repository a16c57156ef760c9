#include "step.h"

#include <stdlib.h>
#include <string.h>

#include "tensor.h"

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

/* The input as the layer sees it: a fully connected layer takes images for vectors. */
static bool fit_input(const ec2t_layer *layer, const ec2t_extent *input, ec2t_extent *fitted) {
    *fitted = *input;
    if (!ec2t_is_extent(input)) {
        return false;
    }
    if (layer->op == EC2T_FULLY_CONNECTED && input->height * input->width > 1) {
        const int32_t size = (int32_t)ec2t_extent_size(input);
        *fitted = (ec2t_extent){size / layer->input_channels, 1, 1, layer->input_channels};
        return size % layer->input_channels == 0;
    }
    return input->channels == layer->input_channels;
}

static ec2t_status shape_of(const ec2t_layer *layer, const ec2t_extent *input,
                            ec2t_conv2d_shape *shape) {
    ec2t_extent fitted;
    return fit_input(layer, input, &fitted)
               ? ec2t_conv2d_shape_from_layer(layer, fitted.batch, fitted.height, fitted.width,
                                              shape)
               : EC2T_ERROR_ARGUMENT;
}

static ec2t_status layer_output(const ec2t_layer *layer, const ec2t_extent *input,
                                ec2t_extent *output) {
    ec2t_conv2d_shape shape;
    const ec2t_status status = shape_of(layer, input, &shape);
    if (status == EC2T_OK) {
        *output = (ec2t_extent){shape.batch, shape.output_height, shape.output_width,
                                shape.output_channels};
    }
    return status;
}

ec2t_status ec2t_step_output_extent(const ec2t_step *step, const ec2t_extent inputs[2],
                                    ec2t_extent *output) {
    const ec2t_extent *input = &inputs[0];
    const ec2t_pool *pool = &step->pool;
    ec2t_status status = ec2t_is_extent(input) ? EC2T_OK : EC2T_ERROR_ARGUMENT;
    *output = *input;
    switch (step->kind) {
    case EC2T_STEP_ADD:
        if (memcmp(input, &inputs[1], sizeof *input) != 0) {
            status = EC2T_ERROR_ARGUMENT;
        }
        break;
    case EC2T_STEP_MAX_POOL:
        output->height = output_size(input->height, pool->height, pool->stride_height, pool->same);
        output->width = output_size(input->width, pool->width, pool->stride_width, pool->same);
        break;
    case EC2T_STEP_LAYER: status = layer_output(&step->layer, input, output); break;
    }
    return status == EC2T_OK && !ec2t_is_extent(output) ? EC2T_ERROR_ARGUMENT : status;
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
    ec2t_status status = shape_of(&step->layer, input, &shape);
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

/* Where part `part` of `parts` of `count` items begins. */
static int32_t share(int32_t count, int part, int parts) {
    return (int32_t)((int64_t)count * part / parts);
}

static void run_dense(const ec2t_step *step, const ec2t_extent *output, const int8_t *source,
                      int8_t *target, int part, int parts, int16_t *scratch) {
    const ec2t_dense *dense = &step->dense;
    const int32_t begin = share(dense->outputs, part, parts);
    const int32_t end = share(dense->outputs, part + 1, parts);
    for (int32_t row = 0; row < output->batch; row++) {
        ec2t_widen_s8(source + (ptrdiff_t)row * dense->inputs, scratch, (size_t)dense->inputs);
        ec2t_dense_s8(dense, scratch, target + (ptrdiff_t)row * dense->outputs, begin, end);
    }
}

static ec2t_status run_planar(const ec2t_step *step, const ec2t_extent *input,
                              const ec2t_extent *output, const int8_t *source, int8_t *target,
                              int part, int parts, void *scratch, size_t scratch_size) {
    /* By rows where there are enough: channels in one thread share the lowered rows. */
    const bool by_rows = output->height / 4 >= parts;
    ec2t_planar_part own = {0, output->height, 0, output->channels};
    if (by_rows) {
        own.row_begin = share(output->height, part, parts);
        own.row_end = share(output->height, part + 1, parts);
    } else {
        own.channel_begin = share(output->channels, part, parts);
        own.channel_end = share(output->channels, part + 1, parts);
    }
    const ptrdiff_t in = (ptrdiff_t)input->height * input->width * input->channels;
    const ptrdiff_t out = (ptrdiff_t)output->height * output->width * output->channels;
    for (int32_t image = 0; image < input->batch; image++) {
        const ec2t_status status = ec2t_planar_conv2d_run(
            &step->planar, &own, source + image * in, target + image * out, scratch, scratch_size);
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
        const int32_t count = (int32_t)ec2t_extent_size(output);
        const int32_t begin = share(count, part, parts), end = share(count, part + 1, parts);
        ec2t_add_s8(&step->add, step->requant.mode, sources[0] + begin, sources[1] + begin,
                    target + begin, (size_t)(end - begin));
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
        run_dense(step, output, sources[0], target, part, parts, scratch);
        return EC2T_OK;
    }
    if (part > 0) {
        return EC2T_OK;
    }
    ec2t_conv2d_shape shape;
    const ec2t_status status = shape_of(&step->layer, input, &shape);
    if (status != EC2T_OK) {
        return status;
    }
    return ec2t_conv2d_s8__ref(&shape, &step->requant, step->weights, step->layer.bias, sources[0],
                               target);
}
