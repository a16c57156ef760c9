// The EC2T.* operators inside the tflite-micro wheel, which ships no headers: the few declarations
// needed, and no more. Memory comes from a static pool, as the context's layout is not declared
// here.
#include <cstdint>
#include <cstdio>
#include <initializer_list>

#include "ec2t_tflm.h"

namespace tflite {
namespace micro {
struct TfLiteContext;
struct TfLiteNode;
struct TfLiteIntArray {
    int size;
    int data[];
};
struct TfLiteEvalTensor {
    void *data;
    TfLiteIntArray *dims;
    int type;
};
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TFLMRegistration {
    void *(*init)(TfLiteContext *, const char *, size_t);
    void (*free)(TfLiteContext *, void *);
    TfLiteStatus (*prepare)(TfLiteContext *, TfLiteNode *);
    TfLiteStatus (*invoke)(TfLiteContext *, TfLiteNode *);
    void (*reset)(TfLiteContext *, void *);
    int32_t builtin_code;
    const char *custom_name;
};
const TfLiteEvalTensor *GetEvalInput(const TfLiteContext *, const TfLiteNode *, int);
TfLiteEvalTensor *GetEvalOutput(const TfLiteContext *, const TfLiteNode *, int);
} // namespace micro
struct PythonOpsResolver {
    void *vtable;
    micro::TFLMRegistration registrations[200];
    unsigned length;
};
} // namespace tflite

namespace {
using namespace tflite::micro;
alignas(8) uint8_t pool[1 << 20];

TfLiteStatus Result(ec2t_status status) {
    if (status == EC2T_OK)
        return kTfLiteOk;
    fprintf(stderr, "EC2T operator: %s\n", ec2t_status_text(status));
    return kTfLiteError;
}

TfLiteStatus Prepare(TfLiteContext *, TfLiteNode *) {
    return kTfLiteOk;
}

TfLiteStatus Invoke(TfLiteContext *context, TfLiteNode *node) {
    const TfLiteEvalTensor *input = GetEvalInput(context, node, 0);
    const TfLiteEvalTensor *blob = GetEvalInput(context, node, 1);
    TfLiteEvalTensor *output = GetEvalOutput(context, node, 0);
    ec2t_tflm_node operation;
    ec2t_status status = ec2t_tflm_prepare(
        &operation, blob->data, static_cast<size_t>(blob->dims->data[0]), input->dims->data,
        input->dims->size, output->dims->data, output->dims->size);
    if (status != EC2T_OK)
        return Result(status);
    if (ec2t_tflm_get_buffer_size(&operation) > sizeof pool)
        return Result(EC2T_ERROR_BUFFER);
    status = ec2t_tflm_attach(&operation, pool, sizeof pool);
    if (status != EC2T_OK)
        return Result(status);
    return Result(ec2t_tflm_invoke(&operation, static_cast<const int8_t *>(input->data),
                                   static_cast<int8_t *>(output->data)));
}
} // namespace

extern "C" bool RegisterEc2tOperators(tflite::PythonOpsResolver *resolver) {
    for (const char *name : {"EC2T.Conv2D", "EC2T.DepthwiseConv2D", "EC2T.FullyConnected"}) {
        if (resolver->length >= 200)
            return false;
        TFLMRegistration &entry = resolver->registrations[resolver->length++];
        entry = {};
        entry.prepare = Prepare;
        entry.invoke = Invoke;
        entry.builtin_code = 32;
        entry.custom_name = name;
    }
    return true;
}
