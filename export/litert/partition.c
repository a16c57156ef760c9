#include "partition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "step.h"
#include "threads.h"

enum { ARENA_ALIGNMENT = 64 };

/* Nanoseconds, the shortest so far. */
typedef struct {
    uint64_t to_planar, run, to_nhwc;
} ec2t_times;

/* A tensor that the partition reads, writes or keeps to itself. */
typedef struct {
    int tensor;
    bool is_input, is_output; /* of the partition; neither: inner, in our own arena */
    ec2t_extent extent;
    bool in_arena;   /* inner, or a planar twin of a tensor of the graph */
    size_t offset;   /* in the arena */
    int first, last; /* steps between which it is alive */
} ec2t_value;

typedef struct {
    const ec2t_delegate_options *options;
    ec2t_step *steps;
    int step_count;
    ec2t_value *values;
    int value_count;
    ec2t_workspace *workspace;
    size_t scratch_size; /* of one thread */
    ec2t_times *times;   /* of each step, with the option `profile` */
    uint64_t runs;
    ec2t_reason damage; /* why init failed, if it did */
} ec2t_partition;

static bool contains(const TfLiteIntArray *array, int item) {
    for (int i = 0; array != NULL && i < array->size; i++) {
        if (array->data[i] == item) {
            return true;
        }
    }
    return false;
}

static ec2t_value *find_value(const ec2t_partition *partition, int tensor) {
    for (int i = 0; i < partition->value_count; i++) {
        if (partition->values[i].tensor == tensor) {
            return &partition->values[i];
        }
    }
    return NULL;
}

/* Notes that step number `step` uses a tensor. */
static void use_value(ec2t_partition *partition, const TfLiteDelegateParams *params, int tensor,
                      int step) {
    ec2t_value *value = find_value(partition, tensor);
    if (value == NULL) {
        value = &partition->values[partition->value_count++];
        value->tensor = tensor;
        value->is_input = contains(params->input_tensors, tensor);
        value->is_output = contains(params->output_tensors, tensor);
        value->first = step;
    }
    value->last = step;
}

static const char *name_of(const ec2t_step *step) {
    static const char *const LAYERS[] = {"", "convolution", "depthwise convolution",
                                         "fully connected"};
    switch (step->kind) {
    case EC2T_STEP_ADD: return "addition";
    case EC2T_STEP_MAX_POOL: return "max pooling";
    case EC2T_STEP_LAYER: break;
    }
    return LAYERS[step->layer.op];
}

static void print_times(const ec2t_partition *partition) {
    for (int i = 0; i < partition->step_count; i++) {
        const ec2t_step *step = &partition->steps[i];
        const ec2t_times *times = &partition->times[i];
        const double unit = 1e3;
        fprintf(stderr,
                "EC2T: tensor %d, %s, %s: %.1f us, input to planar %.1f us, output to NHWC %.1f "
                "us\n",
                step->output, name_of(step), ec2t_step_is_planar(step) ? "sparse" : "dense",
                (double)times->run / unit, (double)times->to_planar / unit,
                (double)times->to_nhwc / unit);
    }
}

static void partition_free(TfLiteContext *context, void *buffer) {
    (void)context;
    ec2t_partition *partition = buffer;
    if (partition == NULL) {
        return;
    }
    if (partition->times != NULL && partition->runs > 0) {
        print_times(partition);
    }
    free(partition->times);
    for (int i = 0; i < partition->step_count; i++) {
        ec2t_step_destroy(&partition->steps[i]);
    }
    free(partition->steps);
    free(partition->values);
    ec2t_workspace_leave(partition->workspace);
    free(partition);
}

static void *partition_init(TfLiteContext *context, const char *buffer, size_t length) {
    (void)length;
    const TfLiteDelegateParams *params = (const void *)buffer;
    const int count = params->nodes_to_replace->size;
    ec2t_partition *partition = calloc(1, sizeof *partition);
    if (partition == NULL) {
        return NULL;
    }
    partition->options = params->delegate->data_;
    partition->workspace = ec2t_workspace_join(partition->options->workspace);
    partition->steps = calloc((size_t)count + 1, sizeof *partition->steps);
    partition->values = calloc(3 * (size_t)count + 1, sizeof *partition->values);
    if (partition->options->profile) {
        partition->times = calloc((size_t)count + 1, sizeof *partition->times);
    }
    if (partition->steps == NULL || partition->values == NULL || partition->workspace == NULL) {
        snprintf(partition->damage.text, sizeof partition->damage.text, "out of memory");
        return partition;
    }
    for (int i = 0; i < count; i++) {
        TfLiteNode *node = NULL;
        TfLiteRegistration *registration = NULL;
        ec2t_step *step = &partition->steps[i];
        if (context->GetNodeAndRegistration(context, params->nodes_to_replace->data[i], &node,
                                            &registration) != kTfLiteOk ||
            ec2t_step_create(context, node, registration, partition->options, step,
                             &partition->damage) != EC2T_CLAIMED) {
            return partition;
        }
        partition->step_count++;
        for (int place = 0; place < 2; place++) {
            if (step->inputs[place] >= 0) {
                use_value(partition, params, step->inputs[place], i);
            }
        }
        use_value(partition, params, step->output, i);
    }
    return partition;
}

static size_t size_of(const ec2t_extent *extent) {
    return (size_t)extent->batch * (size_t)extent->height * (size_t)extent->width *
           (size_t)extent->channels;
}

/* Lays the inner values out in one arena; values that are never alive together share bytes. */
static bool plan_arena(ec2t_partition *partition) {
    size_t total = 0;
    for (int i = 0; i < partition->value_count; i++) {
        ec2t_value *value = &partition->values[i];
        if (!value->in_arena) {
            continue;
        }
        const size_t size = size_of(&value->extent);
        size_t offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (int j = 0; j < i; j++) {
                const ec2t_value *other = &partition->values[j];
                const size_t end = other->offset + size_of(&other->extent);
                if (!other->in_arena || other->last < value->first || value->last < other->first ||
                    end <= offset || offset + size <= other->offset) {
                    continue;
                }
                offset = (end + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
                moved = true;
            }
        }
        value->offset = offset;
        total = offset + size > total ? offset + size : total;
    }
    return ec2t_workspace_reserve(partition->workspace, EC2T_ARENA, total + ARENA_ALIGNMENT);
}

/* Whether planar and NHWC are the same bytes in the same order. */
static bool has_one_layout(const ec2t_extent *extent) {
    return extent->channels == 1 || extent->height * extent->width == 1;
}

/* Sizes every value, from the inputs on. */
static TfLiteStatus propagate_extents(TfLiteContext *context, ec2t_partition *partition) {
    for (int i = 0; i < partition->step_count; i++) {
        const ec2t_step *step = &partition->steps[i];
        ec2t_extent inputs[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        for (int place = 0; place < 2 && step->inputs[place] >= 0; place++) {
            ec2t_value *value = find_value(partition, step->inputs[place]);
            const TfLiteTensor *tensor = &context->tensors[value->tensor];
            if (value->is_input && (!ec2t_extent_of_tensor(tensor, &value->extent) ||
                                    tensor->bytes < size_of(&value->extent))) {
                context->ReportError(context, "EC2T: the shape of tensor %d is not supported",
                                     value->tensor);
                return kTfLiteError;
            }
            inputs[place] = value->extent;
        }
        ec2t_value *output = find_value(partition, step->output);
        const ec2t_status status = ec2t_step_output_extent(step, inputs, &output->extent);
        if (status != EC2T_OK) {
            context->ReportError(context, "EC2T: the input of tensor %d does not fit its layer: %s",
                                 output->tensor, ec2t_status_text(status));
            return kTfLiteError;
        }
        if (output->is_output && ec2t_resize_tensor(context, &context->tensors[output->tensor],
                                                    &output->extent) != kTfLiteOk) {
            return kTfLiteError;
        }
    }
    return kTfLiteOk;
}

/* Decodes the weights, and sizes what the steps need to run. */
static TfLiteStatus prepare_steps(TfLiteContext *context, ec2t_partition *partition) {
    size_t largest[2] = {0, 0};
    partition->scratch_size = 0;
    for (int i = 0; i < partition->step_count; i++) {
        ec2t_step *step = &partition->steps[i];
        const ec2t_value *input = find_value(partition, step->inputs[0]);
        const ec2t_value *output = find_value(partition, step->output);
        const ec2t_status status =
            ec2t_step_prepare(step, &input->extent, partition->options->reference);
        if (status != EC2T_OK) {
            context->ReportError(context,
                                 "EC2T: the layer of tensor %d cannot run: %s. Export the file "
                                 "again.",
                                 output->tensor, ec2t_status_text(status));
            return kTfLiteError;
        }
        const size_t scratch = ec2t_step_scratch_size(step);
        partition->scratch_size =
            scratch > partition->scratch_size ? scratch : partition->scratch_size;
        if (step->kind == EC2T_STEP_LAYER && !ec2t_step_is_planar(step) &&
            !partition->options->reference) {
            const size_t sizes[2] = {has_one_layout(&input->extent) ? 0 : size_of(&input->extent),
                                     has_one_layout(&output->extent) ? 0
                                                                     : size_of(&output->extent)};
            for (int side = 0; side < 2; side++) {
                largest[side] = sizes[side] > largest[side] ? sizes[side] : largest[side];
            }
        }
    }
    partition->scratch_size = (partition->scratch_size + 63) / 64 * 64;
    const int threads = partition->options->threads > 0 ? partition->options->threads
                                                        : context->recommended_num_threads;
    ec2t_workspace *workspace = partition->workspace;
    const ec2t_team *team = ec2t_workspace_team(workspace, threads);
    if (team == NULL ||
        !ec2t_workspace_reserve(workspace, EC2T_SCRATCH,
                                partition->scratch_size * (size_t)ec2t_team_size(team)) ||
        !ec2t_workspace_reserve(workspace, EC2T_REARRANGED_INPUT, largest[0]) ||
        !ec2t_workspace_reserve(workspace, EC2T_REARRANGED_OUTPUT, largest[1])) {
        context->ReportError(context, "EC2T: out of memory");
        return kTfLiteError;
    }
    return kTfLiteOk;
}

static TfLiteStatus partition_prepare(TfLiteContext *context, TfLiteNode *node) {
    ec2t_partition *partition = node->user_data;
    if (partition == NULL || partition->damage.text[0] != '\0') {
        context->ReportError(context, "EC2T: a layer cannot run: %s",
                             partition == NULL ? "out of memory" : partition->damage.text);
        return kTfLiteError;
    }
    if (propagate_extents(context, partition) != kTfLiteOk ||
        prepare_steps(context, partition) != kTfLiteOk) {
        return kTfLiteError;
    }
    for (int i = 0; i < partition->value_count; i++) {
        ec2t_value *value = &partition->values[i];
        const bool inner = !value->is_input && !value->is_output;
        value->in_arena =
            inner || (!partition->options->reference && !has_one_layout(&value->extent));
    }
    if (!plan_arena(partition)) {
        context->ReportError(context, "EC2T: out of memory");
        return kTfLiteError;
    }
    return kTfLiteOk;
}

/* Where the steps find a value. */
static int8_t *bytes_of(const TfLiteContext *context, const ec2t_partition *partition,
                        const ec2t_value *value) {
    return value->in_arena ? (int8_t *)partition->workspace->bytes[EC2T_ARENA] + value->offset
                           : context->tensors[value->tensor].data;
}

typedef struct {
    const ec2t_partition *partition;
    const ec2t_step *step;
    const ec2t_value *input, *output;
    const int8_t *sources[2];
    int8_t *target;
    ec2t_status status; /* of part 0: a layer fails for all parts or none */
} ec2t_job;

static void run_part(void *argument, int part, int parts) {
    ec2t_job *job = argument;
    const ec2t_partition *partition = job->partition;
    const ec2t_status status = ec2t_step_run(
        job->step, !partition->options->reference, &job->input->extent, &job->output->extent,
        job->sources, job->target, part, parts,
        partition->workspace->bytes[EC2T_SCRATCH] + (size_t)part * partition->scratch_size,
        partition->scratch_size);
    if (part == 0) {
        job->status = status;
    }
}

static ec2t_status run_step(const TfLiteContext *context, const ec2t_partition *partition,
                            const ec2t_step *step) {
    ec2t_job job = {.partition = partition, .step = step};
    job.input = find_value(partition, step->inputs[0]);
    job.output = find_value(partition, step->output);
    job.sources[0] = bytes_of(context, partition, job.input);
    if (step->inputs[1] >= 0) {
        job.sources[1] = bytes_of(context, partition, find_value(partition, step->inputs[1]));
    }
    job.target = bytes_of(context, partition, job.output);
    const bool foreign = step->kind == EC2T_STEP_LAYER && !ec2t_step_is_planar(step) &&
                         !partition->options->reference;
    const bool turn_input = foreign && !has_one_layout(&job.input->extent);
    const bool turn_output = foreign && !has_one_layout(&job.output->extent);
    if (turn_input) {
        int8_t *turned = (int8_t *)partition->workspace->bytes[EC2T_REARRANGED_INPUT];
        ec2t_to_nhwc(&job.input->extent, job.sources[0], turned);
        job.sources[0] = turned;
    }
    if (turn_output) {
        job.target = (int8_t *)partition->workspace->bytes[EC2T_REARRANGED_OUTPUT];
    }
    ec2t_team_run(partition->workspace->team, run_part, &job);
    if (turn_output) {
        ec2t_to_planar(&job.output->extent, job.target, bytes_of(context, partition, job.output));
    }
    return job.status;
}

static uint64_t nanoseconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void keep_shortest(uint64_t *shortest, uint64_t time) {
    *shortest = *shortest == 0 || time < *shortest ? time : *shortest;
}

static TfLiteStatus partition_invoke(TfLiteContext *context, TfLiteNode *node) {
    ec2t_partition *partition = node->user_data;
    partition->runs++;
    for (int i = 0; i < partition->step_count; i++) {
        const ec2t_step *step = &partition->steps[i];
        const bool timed = partition->times != NULL;
        const uint64_t begin = timed ? nanoseconds() : 0;
        for (int place = 0; place < 2 && step->inputs[place] >= 0; place++) {
            const ec2t_value *value = find_value(partition, step->inputs[place]);
            if (value->is_input && value->in_arena && value->first == i) {
                ec2t_to_planar(&value->extent, context->tensors[value->tensor].data,
                               bytes_of(context, partition, value));
            }
        }
        const uint64_t turned = timed ? nanoseconds() : 0;
        const ec2t_status status = run_step(context, partition, step);
        const uint64_t done = timed ? nanoseconds() : 0;
        const ec2t_value *output = find_value(partition, step->output);
        if (status != EC2T_OK) {
            context->ReportError(context, "EC2T: the layer of tensor %d: %s", output->tensor,
                                 ec2t_status_text(status));
            return kTfLiteError;
        }
        if (output->is_output && output->in_arena) {
            ec2t_to_nhwc(&output->extent, bytes_of(context, partition, output),
                         context->tensors[output->tensor].data);
        }
        if (timed) {
            ec2t_times *times = &partition->times[i];
            keep_shortest(&times->to_planar, turned - begin);
            keep_shortest(&times->run, done - turned);
            keep_shortest(&times->to_nhwc, nanoseconds() - done);
        }
    }
    return kTfLiteOk;
}

TfLiteRegistration ec2t_partition_registration(void) {
    TfLiteRegistration registration;
    memset(&registration, 0, sizeof registration);
    registration.init = partition_init;
    registration.free = partition_free;
    registration.prepare = partition_prepare;
    registration.invoke = partition_invoke;
    registration.custom_name = "EC2TPartition";
    registration.version = 1;
    return registration;
}
