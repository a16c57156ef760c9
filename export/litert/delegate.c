/* The external delegate: what `load_delegate`, Java's Delegate and the C API load. It selects nodes
 * and hands them to partitions. */
#include "delegate.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"
#include "partition.h"
#include "restore.h"
#include "select.h"

typedef struct {
    TfLiteDelegate delegate; /* first: the runtime knows us by its address */
    ec2t_delegate_options options;
    ec2t_restored *restored;
    pthread_mutex_t lock; /* of `restored` and options.workspace: interpreters may share us */
} ec2t_delegate;

static bool read_extent(const TfLiteContext *context, int tensor, ec2t_extent *extent) {
    return tensor >= 0 && (size_t)tensor < context->tensors_size &&
           ec2t_extent_of_tensor(&context->tensors[tensor], extent);
}

static void note(const ec2t_delegate_options *options, int node, const char *reason) {
    if (options->verbose && reason[0] != '\0') {
        fprintf(stderr, "EC2T: node %d is left: %s\n", node, reason);
    }
}

/* Looks at one node; kTfLiteError if it is ours and damaged. */
static TfLiteStatus classify(TfLiteContext *context, const ec2t_delegate_options *options,
                             const ec2t_costs *costs, int index, ec2t_choice *choice) {
    TfLiteNode *node = NULL;
    TfLiteRegistration *registration = NULL;
    choice->class = EC2T_NODE_FOREIGN;
    choice->inputs[0] = choice->inputs[1] = choice->output = -1;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) {
        return kTfLiteError;
    }
    const ec2t_node_class class = ec2t_class_of_node(registration, options);
    if (class == EC2T_NODE_FOREIGN) {
        return kTfLiteOk;
    }
    ec2t_step step;
    ec2t_reason reason;
    const ec2t_claim claim = ec2t_step_create(context, node, registration, options, &step, &reason);
    if (claim == EC2T_DAMAGED && class != EC2T_NODE_OWN) {
        /* After an error here the runtime would try its own kernel, which ends the process. */
        note(options, index, reason.text);
        choice->class = EC2T_NODE_OWN; /* its partition will say why it cannot run */
        return kTfLiteOk;
    }
    if (claim == EC2T_DAMAGED) {
        context->ReportError(context, "EC2T: node %d (%s) cannot run: %s. Export the file again.",
                             index, registration->custom_name, reason.text);
        return kTfLiteError;
    }
    if (claim == EC2T_LEFT) {
        note(options, index, class == EC2T_NODE_PLAIN ? reason.text : "");
        return kTfLiteOk;
    }
    ec2t_extent inputs[2] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, output;
    if (read_extent(context, step.inputs[0], &inputs[0]) &&
        (step.inputs[1] < 0 || read_extent(context, step.inputs[1], &inputs[1])) &&
        ec2t_step_output_extent(&step, inputs, &output) == EC2T_OK) {
        choice->class = class;
        /* XNNPACK rounds as FP32 does. */
        choice->is_restorable = class == EC2T_NODE_OWN && !options->everything &&
                                !options->reference && options->requant == EC2T_REQUANT_FP32 &&
                                ec2t_is_restorable(context, &step);
        ec2t_choice_from_step(choice, costs, &step, inputs, &output);
    } else if (class == EC2T_NODE_OWN) {
        /* Its shape comes with resize_tensor_input, or never; preparing will say. */
        choice->class = class;
        memcpy(choice->inputs, step.inputs, sizeof choice->inputs);
        choice->output = step.output;
    }
    if (class == EC2T_NODE_OWN) {
        ec2t_keep_expansion(context, node, options, &step);
    }
    ec2t_step_destroy(&step);
    return kTfLiteOk;
}

static TfLiteStatus select_nodes(TfLiteContext *context, ec2t_delegate *delegate,
                                 const TfLiteIntArray *plan, ec2t_choice *choices,
                                 TfLiteIntArray *mine) {
    const ec2t_delegate_options *options = &delegate->options;
    const ec2t_costs *costs = ec2t_costs_here();
    for (int i = 0; i < plan->size; i++) {
        if (classify(context, options, costs, plan->data[i], &choices[i]) != kTfLiteOk) {
            return kTfLiteError;
        }
    }
    if (options->everything) {
        for (int i = 0; i < plan->size; i++) {
            choices[i].taken = choices[i].class != EC2T_NODE_FOREIGN;
        }
    } else if (!ec2t_choose_nodes(costs, choices, plan->size)) {
        context->ReportError(context, "EC2T: out of memory");
        return kTfLiteError;
    }
    for (int i = 0; i < plan->size; i++) {
        if (choices[i].taken) {
            mine->data[mine->size++] = plan->data[i];
            continue;
        }
        if (choices[i].is_restorable &&
            ec2t_restore(context, plan->data[i], options, &delegate->restored) != kTfLiteOk) {
            context->ReportError(context, "EC2T: node %d cannot be restored", plan->data[i]);
            return kTfLiteError;
        }
        if (choices[i].is_restorable || choices[i].class == EC2T_NODE_PLAIN) {
            note(options, plan->data[i], "dense is faster here");
        }
    }
    if (options->verbose) {
        fprintf(stderr, "EC2T: %d of %d nodes claimed (%s)\n", mine->size, plan->size,
                costs->machine);
    }
    return kTfLiteOk;
}

/* Hands the chosen nodes to partitions, which share one workspace. */
static TfLiteStatus replace_nodes(TfLiteContext *context, ec2t_delegate *delegate,
                                  const TfLiteIntArray *mine) {
    ec2t_workspace *workspace = ec2t_workspace_create();
    delegate->options.workspace = workspace;
    const TfLiteStatus status = context->ReplaceNodeSubsetsWithDelegateKernels(
        context, ec2t_partition_registration(), mine, &delegate->delegate);
    delegate->options.workspace = NULL;
    ec2t_workspace_leave(workspace);
    return status;
}

static TfLiteStatus delegate_prepare(TfLiteContext *context, TfLiteDelegate *base) {
    ec2t_delegate *delegate = (ec2t_delegate *)base;
    TfLiteIntArray *plan = NULL;
    if (context->GetExecutionPlan(context, &plan) != kTfLiteOk || plan == NULL) {
        return kTfLiteError;
    }
    const size_t count = (size_t)plan->size;
    ec2t_choice *choices = calloc(count + 1, sizeof *choices);
    TfLiteIntArray *own_plan = malloc(sizeof *own_plan + sizeof(int) * (count + 1));
    TfLiteIntArray *mine = malloc(sizeof *mine + sizeof(int) * (count + 1));
    TfLiteStatus status = kTfLiteError;
    ec2t_expansions expansions = {NULL};
    pthread_mutex_lock(&delegate->lock);
    if (choices != NULL && own_plan != NULL && mine != NULL) {
        own_plan->size = plan->size;
        memcpy(own_plan->data, plan->data, sizeof(int) * count);
        mine->size = 0;
        delegate->options.expansions = &expansions;
        status = ec2t_check_order(context, own_plan);
        if (status == kTfLiteOk) {
            status = select_nodes(context, delegate, own_plan, choices, mine);
        }
    }
    if (status == kTfLiteOk && mine->size > 0) {
        status = replace_nodes(context, delegate, mine);
    }
    delegate->options.expansions = NULL;
    ec2t_expansions_clear(&expansions);
    pthread_mutex_unlock(&delegate->lock);
    free(choices);
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
        options->requant = strcmp(value, "tflite") == 0 ? EC2T_REQUANT_TFLITE : EC2T_REQUANT_FP32;
        return strcmp(value, "tflite") == 0 || strcmp(value, "fp32") == 0;
    }
    if (strcmp(key, "claim_int8") == 0) {
        const bool always = strcmp(value, "always") == 0;
        options->everything = always;
        options->claim_int8 = always;
        return always || read_switch(value, &options->claim_int8);
    }
    if (strcmp(key, "reference") == 0) {
        return read_switch(value, &options->reference);
    }
    if (strcmp(key, "profile") == 0) {
        return read_switch(value, &options->profile);
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

TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                              size_t count, void (*report_error)(const char *)) {
    ec2t_delegate *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return NULL;
    }
    created->options.requant = EC2T_REQUANT_FP32;
    for (size_t i = 0; i < count; i++) {
        if (keys[i] == NULL || values[i] == NULL ||
            !read_option(keys[i], values[i], &created->options)) {
            if (report_error != NULL) {
                char message[256];
                snprintf(message, sizeof message,
                         "the options of the EC2T delegate are requant=fp32|tflite, "
                         "claim_int8=0|1|always, reference=0|1, verbose=0|1, profile=0|1, "
                         "num_threads=0..1024. Received: %.40s=%.40s",
                         keys[i] != NULL ? keys[i] : "nothing",
                         values[i] != NULL ? values[i] : "nothing");
                report_error(message);
            }
            free(created);
            return NULL;
        }
    }
    pthread_mutex_init(&created->lock, NULL);
    created->delegate.data_ = &created->options;
    created->delegate.Prepare = delegate_prepare;
    /* Without this flag the runtime prepares every operator first and stops at ours. */
    created->delegate.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
    return &created->delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) {
    ec2t_delegate *own = (ec2t_delegate *)delegate;
    if (own != NULL) {
        ec2t_restored_destroy(own->restored);
        pthread_mutex_destroy(&own->lock);
    }
    free(own);
}
