#include "order.h"

#include <stdlib.h>

enum { NOBODY = -1 };

/* Per tensor, the first node that reads it unwritten and the node that writes it. */
typedef struct {
    int reader, writer;
} ec2t_access;

static TfLiteStatus refuse(TfLiteContext *context, int tensor, const char *what, int first,
                           int second) {
    const char *name = context->tensors[tensor].name;
    context->ReportError(context,
                         "EC2T: tensor %d (%.60s) %s: nodes %d and %d. An operator writes tensors "
                         "of its own, before others read them. Export the file again.",
                         tensor, name != NULL ? name : "", what, first, second);
    return kTfLiteError;
}

static void read_all(const TfLiteContext *context, const TfLiteIntArray *tensors, int node,
                     ec2t_access *accesses) {
    for (int i = 0; tensors != NULL && i < tensors->size; i++) {
        const int tensor = tensors->data[i];
        if (tensor >= 0 && (size_t)tensor < context->tensors_size &&
            accesses[tensor].writer == NOBODY && accesses[tensor].reader == NOBODY) {
            accesses[tensor].reader = node;
        }
    }
}

static TfLiteStatus write_all(TfLiteContext *context, const TfLiteIntArray *tensors, int node,
                              ec2t_access *accesses) {
    for (int i = 0; tensors != NULL && i < tensors->size; i++) {
        const int tensor = tensors->data[i];
        if (tensor < 0) {
            continue; /* an optional output that the file leaves out */
        }
        if ((size_t)tensor >= context->tensors_size) {
            return kTfLiteError;
        }
        ec2t_access *access = &accesses[tensor];
        const bool is_variable = context->tensors[tensor].is_variable;
        if (context->tensors[tensor].allocation_type == kTfLiteMmapRo) {
            return refuse(context, tensor, "is constant and written", node, node);
        }
        if (access->writer != NOBODY) {
            return refuse(context, tensor, "is written twice", access->writer, node);
        }
        if (access->reader == node && !is_variable) {
            return refuse(context, tensor, "is read and written by one node", node, node);
        }
        if (access->reader != NOBODY && !is_variable) {
            return refuse(context, tensor, "is read before it is written", access->reader, node);
        }
        access->writer = node;
    }
    return kTfLiteOk;
}

TfLiteStatus ec2t_check_order(TfLiteContext *context, const TfLiteIntArray *plan) {
    ec2t_access *accesses = malloc((context->tensors_size + 1) * sizeof *accesses);
    if (accesses == NULL) {
        context->ReportError(context, "EC2T: out of memory");
        return kTfLiteError;
    }
    for (size_t i = 0; i < context->tensors_size; i++) {
        accesses[i] = (ec2t_access){NOBODY, NOBODY};
    }
    TfLiteStatus status = kTfLiteOk;
    for (int i = 0; status == kTfLiteOk && i < plan->size; i++) {
        TfLiteNode *node = NULL;
        TfLiteRegistration *registration = NULL;
        const int index = plan->data[i];
        status = context->GetNodeAndRegistration(context, index, &node, &registration);
        if (status == kTfLiteOk) {
            read_all(context, node->inputs, index, accesses);
            status = write_all(context, node->outputs, index, accesses);
        }
    }
    free(accesses);
    return status;
}
