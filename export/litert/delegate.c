/* The external delegate: what `tf.lite.experimental.load_delegate`, Java's Delegate and the C API
 * load. It claims nodes and hands them to partitions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "partition.h"

#define EC2T_EXPORT __attribute__((visibility("default")))

typedef struct {
    TfLiteDelegate delegate; /* first: the runtime knows us by its address */
    ec2t_delegate_options options;
} ec2t_delegate;

typedef struct {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    int index;
    bool mine;
} ec2t_candidate;

static bool reads_output_of(const TfLiteNode *reader, const TfLiteNode *writer) {
    for (int i = 0; i < reader->inputs->size; i++) {
        for (int j = 0; j < writer->outputs->size; j++) {
            if (reader->inputs->data[i] >= 0 &&
                reader->inputs->data[i] == writer->outputs->data[j]) {
                return true;
            }
        }
    }
    return false;
}

/* Additions and poolings that read what a claimed node writes join it. */
static void let_neighbours_join(TfLiteContext *context, const ec2t_delegate_options *options,
                                ec2t_candidate *candidates, int count) {
    for (int i = 0; i < count; i++) {
        ec2t_candidate *candidate = &candidates[i];
        if (candidate->mine || candidate->node->inputs == NULL ||
            !ec2t_node_joins(context, candidate->node, candidate->registration, options)) {
            continue;
        }
        for (int j = i - 1; j >= 0 && !candidate->mine; j--) {
            candidate->mine =
                candidates[j].mine && reads_output_of(candidate->node, candidates[j].node);
        }
    }
}

static TfLiteStatus claim_nodes(TfLiteContext *context, const ec2t_delegate_options *options,
                                const TfLiteIntArray *plan, ec2t_candidate *candidates,
                                TfLiteIntArray *mine) {
    for (int i = 0; i < plan->size; i++) {
        ec2t_candidate *candidate = &candidates[i];
        candidate->index = plan->data[i];
        if (context->GetNodeAndRegistration(context, candidate->index, &candidate->node,
                                            &candidate->registration) != kTfLiteOk) {
            return kTfLiteError;
        }
        ec2t_reason reason;
        const ec2t_claim claim = ec2t_node_claim(context, candidate->node,
                                                 candidate->registration, options, &reason);
        if (claim == EC2T_DAMAGED) {
            context->ReportError(context,
                                 "EC2T: node %d (%s) cannot run: %s. Export the file again.",
                                 candidate->index, candidate->registration->custom_name,
                                 reason.text);
            return kTfLiteError;
        }
        if (claim == EC2T_LEFT && reason.text[0] != '\0' && options->verbose) {
            fprintf(stderr, "EC2T: node %d is left: %s\n", candidate->index, reason.text);
        }
        candidate->mine = claim == EC2T_CLAIMED;
    }
    let_neighbours_join(context, options, candidates, plan->size);
    for (int i = 0; i < plan->size; i++) {
        if (candidates[i].mine) {
            mine->data[mine->size++] = candidates[i].index;
        }
    }
    return kTfLiteOk;
}

static TfLiteStatus delegate_prepare(TfLiteContext *context, TfLiteDelegate *delegate) {
    const ec2t_delegate_options *options = delegate->data_;
    TfLiteIntArray *plan = NULL;
    if (context->GetExecutionPlan(context, &plan) != kTfLiteOk || plan == NULL) {
        return kTfLiteError;
    }
    const size_t count = (size_t)plan->size;
    ec2t_candidate *candidates = calloc(count + 1, sizeof *candidates);
    TfLiteIntArray *own_plan = malloc(sizeof *own_plan + sizeof(int) * (count + 1));
    TfLiteIntArray *mine = malloc(sizeof *mine + sizeof(int) * (count + 1));
    TfLiteStatus status = kTfLiteError;
    if (candidates != NULL && own_plan != NULL && mine != NULL) {
        own_plan->size = plan->size;
        memcpy(own_plan->data, plan->data, sizeof(int) * count);
        mine->size = 0;
        status = claim_nodes(context, options, own_plan, candidates, mine);
    }
    if (status == kTfLiteOk && options->verbose) {
        fprintf(stderr, "EC2T: %d of %d nodes claimed\n", mine->size, plan->size);
    }
    if (status == kTfLiteOk && mine->size > 0) {
        status = context->ReplaceNodeSubsetsWithDelegateKernels(
            context, ec2t_partition_registration(), mine, delegate);
    }
    free(candidates);
    free(own_plan);
    free(mine);
    return status;
}

static bool read_switch(const char *value, bool *target) {
    const bool on = strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
    *target = on;
    return on || strcmp(value, "0") == 0 || strcmp(value, "false") == 0;
}

static bool read_option(const char *key, const char *value, ec2t_delegate_options *options) {
    if (strcmp(key, "requant") == 0) {
        options->requant =
            strcmp(value, "tflite") == 0 ? EC2T_REQUANT_TFLITE : EC2T_REQUANT_FP32;
        return strcmp(value, "tflite") == 0 || strcmp(value, "fp32") == 0;
    }
    if (strcmp(key, "claim_int8") == 0) {
        return read_switch(value, &options->claim_int8);
    }
    if (strcmp(key, "reference") == 0) {
        return read_switch(value, &options->reference);
    }
    if (strcmp(key, "verbose") == 0) {
        return read_switch(value, &options->verbose);
    }
    if (strcmp(key, "num_threads") == 0) {
        char *end = NULL;
        const long threads = strtol(value, &end, 10);
        options->threads = (int)threads;
        return end != value && *end == '\0' && threads >= 0 && threads <= 1024;
    }
    return false;
}

/* The entry points of the external delegate interface. */
EC2T_EXPORT TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys,
                                                          const char *const *values, size_t count,
                                                          void (*report_error)(const char *));
EC2T_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate);

TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                              size_t count,
                                              void (*report_error)(const char *)) {
    ec2t_delegate *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return NULL;
    }
    created->options.requant = EC2T_REQUANT_FP32;
    for (size_t i = 0; i < count; i++) {
        if (!read_option(keys[i], values[i], &created->options)) {
            if (report_error != NULL) {
                char message[256];
                snprintf(message, sizeof message,
                         "the options of the EC2T delegate are requant=fp32|tflite, "
                         "claim_int8=0|1, reference=0|1, verbose=0|1, num_threads=0..1024. "
                         "Received: %.40s=%.40s",
                         keys[i], values[i]);
                report_error(message);
            }
            free(created);
            return NULL;
        }
    }
    created->delegate.data_ = &created->options;
    created->delegate.Prepare = delegate_prepare;
    /* Without this flag the runtime prepares every operator first and stops at ours. */
    created->delegate.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
    return &created->delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) {
    free(delegate);
}
