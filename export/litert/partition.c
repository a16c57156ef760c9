#include "partition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "claim.h"
#include "values.h"

/* Nanoseconds, the shortest so far. */
typedef struct {
    uint64_t to_planar, run, to_nhwc;
} ec2t_times;

/* The values that a step reads and writes; NULL: none. */
typedef struct {
    ec2t_value *inputs[2], *output;
} ec2t_uses;

typedef struct {
    const ec2t_delegate_options *options;
    ec2t_step *steps;
    ec2t_uses *uses; /* of each step */
    int step_count;
    ec2t_value *values;
    int value_count;
    ec2t_workspace *workspace;
    size_t scratch_size;          /* of one thread */
    uint64_t needs[EC2T_BUFFERS]; /* bytes of each buffer of the workspace */
    bool is_prepared;
    ec2t_times *times; /* of each step, with the option `profile` */
    uint64_t runs;
    ec2t_reason damage; /* why init failed, if it did */
} ec2t_partition;

/* Marks the tensors of `tensors` in `marks`, one byte a tensor of the graph. */
static void mark(const TfLiteIntArray *tensors, size_t count, uint8_t *marks, uint8_t bit) {
    for (int i = 0; tensors != NULL && i < tensors->size; i++) {
        if (tensors->data[i] >= 0 && (size_t)tensors->data[i] < count) {
            marks[tensors->data[i]] |= bit;
        }
    }
}

enum { IS_INPUT = 1, IS_OUTPUT = 2 };

/* What collects the values of a partition: per tensor of the graph, its marks and its value. */
typedef struct {
    uint8_t *marks;
    ec2t_value **values;
} ec2t_census;

/* The value of a tensor that step number `step` uses. */
static ec2t_value *use_value(ec2t_partition *partition, const ec2t_census *census, int tensor,
                             int step) {
    ec2t_value *value = census->values[tensor];
    if (value == NULL) {
        value = census->values[tensor] = &partition->values[partition->value_count++];
        value->tensor = tensor;
        value->is_input = (census->marks[tensor] & IS_INPUT) != 0;
        value->is_output = (census->marks[tensor] & IS_OUTPUT) != 0;
        value->first = step;
    }
    value->last = step;
    return value;
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
    free(partition->uses);
    free(partition->values);
    ec2t_workspace_leave(partition->workspace);
    free(partition);
}

static void damage(ec2t_partition *partition, const char *reason) {
    snprintf(partition->damage.text, sizeof partition->damage.text, "%s", reason);
}

/* Makes the step of a node and notes its values; on false `damage` says why. */
static bool add_step(TfLiteContext *context, ec2t_partition *partition, const ec2t_census *census,
                     int index) {
    TfLiteNode *node = NULL;
    TfLiteRegistration *registration = NULL;
    const int number = partition->step_count;
    ec2t_step *step = &partition->steps[number];
    ec2t_uses *uses = &partition->uses[number];
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) {
        damage(partition, "it does not exist");
        return false;
    }
    if (ec2t_step_create(context, node, registration, partition->options, step,
                         &partition->damage) != EC2T_CLAIMED) {
        return false;
    }
    partition->step_count++;
    for (int place = 0; place < 2; place++) {
        const int tensor = step->inputs[place];
        if (tensor >= 0 && census->values[tensor] == NULL &&
            (census->marks[tensor] & IS_INPUT) == 0) {
            damage(partition, "it reads a tensor before it is written");
            return false;
        }
        uses->inputs[place] = tensor < 0 ? NULL : use_value(partition, census, tensor, number);
    }
    if (census->values[step->output] != NULL || (census->marks[step->output] & IS_INPUT) != 0) {
        damage(partition, "it writes a tensor that is read or written elsewhere");
        return false;
    }
    uses->output = use_value(partition, census, step->output, number);
    return true;
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
    partition->uses = calloc((size_t)count + 1, sizeof *partition->uses);
    partition->values = calloc(3 * (size_t)count + 1, sizeof *partition->values);
    if (partition->options->profile) {
        partition->times = calloc((size_t)count + 1, sizeof *partition->times);
    }
    const size_t tensors = context->tensors_size;
    ec2t_census census = {calloc(tensors + 1, sizeof *census.marks),
                          calloc(tensors + 1, sizeof *census.values)};
    if (partition->steps == NULL || partition->uses == NULL || partition->values == NULL ||
        partition->workspace == NULL || census.marks == NULL || census.values == NULL) {
        damage(partition, "out of memory");
    } else {
        mark(params->input_tensors, tensors, census.marks, IS_INPUT);
        mark(params->output_tensors, tensors, census.marks, IS_OUTPUT);
        for (int i = 0; i < count; i++) {
            if (!add_step(context, partition, &census, params->nodes_to_replace->data[i])) {
                break;
            }
        }
    }
    free(census.marks);
    free(census.values);
    return partition;
}

static bool plan_arena(ec2t_partition *partition) {
    ec2t_value **placed = malloc(((size_t)partition->value_count + 1) * sizeof *placed);
    if (placed == NULL) {
        return false;
    }
    partition->needs[EC2T_ARENA] =
        ec2t_place_values(partition->values, partition->value_count, placed);
    free(placed);
    return ec2t_workspace_reserve(partition->workspace, EC2T_ARENA, partition->needs[EC2T_ARENA]);
}

/* Whether planar and NHWC are the same bytes in the same order. */
static bool has_one_layout(const ec2t_extent *extent) {
    return extent->channels == 1 || extent->height * extent->width == 1;
}

/* Whether a tensor of the graph holds at least the values of `extent`. */
static bool holds(const TfLiteTensor *tensor, const ec2t_extent *extent) {
    return tensor->bytes >= ec2t_extent_size(extent);
}

/* Sizes every value, from the inputs on. */
static TfLiteStatus propagate_extents(TfLiteContext *context, ec2t_partition *partition) {
    for (int i = 0; i < partition->step_count; i++) {
        const ec2t_uses *uses = &partition->uses[i];
        ec2t_extent inputs[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        for (int place = 0; place < 2 && uses->inputs[place] != NULL; place++) {
            ec2t_value *value = uses->inputs[place];
            const TfLiteTensor *tensor = &context->tensors[value->tensor];
            if (value->is_input && (!ec2t_extent_of_tensor(tensor, &value->extent) ||
                                    !holds(tensor, &value->extent))) {
                context->ReportError(context, "EC2T: the shape of tensor %d is not supported",
                                     value->tensor);
                return kTfLiteError;
            }
            inputs[place] = value->extent;
        }
        ec2t_value *output = uses->output;
        const ec2t_status status =
            ec2t_step_output_extent(&partition->steps[i], inputs, &output->extent);
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
        const ec2t_value *input = partition->uses[i].inputs[0], *output = partition->uses[i].output;
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
            const size_t sizes[2] = {
                has_one_layout(&input->extent) ? 0 : ec2t_extent_size(&input->extent),
                has_one_layout(&output->extent) ? 0 : ec2t_extent_size(&output->extent)};
            for (int side = 0; side < 2; side++) {
                largest[side] = sizes[side] > largest[side] ? sizes[side] : largest[side];
            }
        }
    }
    partition->scratch_size = (partition->scratch_size + 63) / 64 * 64;
    partition->needs[EC2T_REARRANGED_INPUT] = largest[0];
    partition->needs[EC2T_REARRANGED_OUTPUT] = largest[1];
    const int threads = partition->options->threads > 0 ? partition->options->threads
                                                        : context->recommended_num_threads;
    ec2t_workspace *workspace = partition->workspace;
    const ec2t_team *team = ec2t_workspace_team(workspace, threads);
    bool has_memory = team != NULL;
    if (has_memory) {
        partition->needs[EC2T_SCRATCH] =
            (uint64_t)partition->scratch_size * (uint64_t)ec2t_team_size(team);
    }
    for (int buffer = EC2T_REARRANGED_INPUT; buffer <= EC2T_SCRATCH; buffer++) {
        has_memory = has_memory && ec2t_workspace_reserve(workspace, (ec2t_buffer)buffer,
                                                          partition->needs[buffer]);
    }
    if (!has_memory) {
        context->ReportError(context, "EC2T: out of memory");
    }
    return has_memory ? kTfLiteOk : kTfLiteError;
}

static TfLiteStatus partition_prepare(TfLiteContext *context, TfLiteNode *node) {
    ec2t_partition *partition = node->user_data;
    if (partition == NULL || partition->damage.text[0] != '\0') {
        context->ReportError(context, "EC2T: a layer cannot run: %s",
                             partition == NULL ? "out of memory" : partition->damage.text);
        return kTfLiteError;
    }
    partition->is_prepared = false;
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
    partition->is_prepared = true;
    return kTfLiteOk;
}

/* Where the steps find a value. */
static int8_t *bytes_of(const TfLiteContext *context, const ec2t_partition *partition,
                        const ec2t_value *value) {
    return value->in_arena ? (int8_t *)partition->workspace->bytes[EC2T_ARENA] + value->offset
                           : context->tensors[value->tensor].data;
}

/* Whether the runtime comes back with what was prepared: tensors of the same sizes, and a workspace
 * that no other partition has lost. */
static bool can_run(const TfLiteContext *context, const ec2t_partition *partition) {
    if (partition == NULL || !partition->is_prepared) {
        return false;
    }
    for (int buffer = 0; buffer < EC2T_BUFFERS; buffer++) {
        if (!ec2t_workspace_has(partition->workspace, (ec2t_buffer)buffer,
                                partition->needs[buffer])) {
            return false;
        }
    }
    for (int i = 0; i < partition->value_count; i++) {
        const ec2t_value *value = &partition->values[i];
        const TfLiteTensor *tensor = &context->tensors[value->tensor];
        if ((value->is_input || value->is_output) &&
            (tensor->data == NULL || !holds(tensor, &value->extent))) {
            return false;
        }
    }
    return true;
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
                            int number) {
    const ec2t_step *step = &partition->steps[number];
    const ec2t_uses *uses = &partition->uses[number];
    ec2t_job job = {.partition = partition, .step = step};
    job.input = uses->inputs[0];
    job.output = uses->output;
    job.sources[0] = bytes_of(context, partition, job.input);
    if (uses->inputs[1] != NULL) {
        job.sources[1] = bytes_of(context, partition, uses->inputs[1]);
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
    if (!can_run(context, partition)) {
        context->ReportError(context, "EC2T: a layer is run without being prepared. Call "
                                      "allocate_tensors (AllocateTensors) first");
        return kTfLiteError;
    }
    partition->runs++;
    for (int i = 0; i < partition->step_count; i++) {
        const ec2t_uses *uses = &partition->uses[i];
        const bool timed = partition->times != NULL;
        const uint64_t begin = timed ? nanoseconds() : 0;
        for (int place = 0; place < 2 && uses->inputs[place] != NULL; place++) {
            const ec2t_value *value = uses->inputs[place];
            if (value->is_input && value->in_arena && value->first == i) {
                ec2t_to_planar(&value->extent, context->tensors[value->tensor].data,
                               bytes_of(context, partition, value));
            }
        }
        const uint64_t turned = timed ? nanoseconds() : 0;
        const ec2t_status status = run_step(context, partition, i);
        const uint64_t done = timed ? nanoseconds() : 0;
        const ec2t_value *output = uses->output;
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
