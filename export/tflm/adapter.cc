#include "adapter.h"

#include "ec2t_tflm.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace {
using ec2t_tflm::TfLiteContext;
using ec2t_tflm::TfLiteEvalTensor;
using ec2t_tflm::TfLiteNode;
using ec2t_tflm::TfLiteStatus;

TfLiteStatus Result(ec2t_status status) {
    if (status == EC2T_OK)
        return kTfLiteOk;
    MicroPrintf("EC2T operator: %s", ec2t_status_text(status));
    return kTfLiteError;
}

size_t Bytes(const TfLiteEvalTensor *tensor) {
    size_t product = 1;
    for (int i = 0; i < tensor->dims->size; ++i) {
        product *= static_cast<size_t>(tensor->dims->data[i]);
    }
    return product;
}

void *Init(TfLiteContext *context, const char *, size_t) {
    return context->AllocatePersistentBuffer(context, sizeof(ec2t_tflm_node));
}

TfLiteStatus Prepare(TfLiteContext *context, TfLiteNode *node) {
    auto *operation = static_cast<ec2t_tflm_node *>(node->user_data);
    if (operation == nullptr || node->inputs->size != 2 || node->outputs->size != 1) {
        return Result(EC2T_ERROR_ARGUMENT);
    }
    const TfLiteEvalTensor *input = context->GetEvalTensor(context, node->inputs->data[0]);
    const TfLiteEvalTensor *blob = context->GetEvalTensor(context, node->inputs->data[1]);
    const TfLiteEvalTensor *output = context->GetEvalTensor(context, node->outputs->data[0]);
    ec2t_status status =
        ec2t_tflm_prepare(operation, blob->data.raw, Bytes(blob), input->dims->data,
                          input->dims->size, output->dims->data, output->dims->size);
    if (status != EC2T_OK)
        return Result(status);
    const size_t size = ec2t_tflm_get_buffer_size(operation);
    void *buffer = context->AllocatePersistentBuffer(context, size);
    if (buffer == nullptr)
        return Result(EC2T_ERROR_BUFFER);
    return Result(ec2t_tflm_attach(operation, buffer, size));
}

TfLiteStatus Invoke(TfLiteContext *context, TfLiteNode *node) {
    const auto *operation = static_cast<const ec2t_tflm_node *>(node->user_data);
    const TfLiteEvalTensor *input = context->GetEvalTensor(context, node->inputs->data[0]);
    TfLiteEvalTensor *output = context->GetEvalTensor(context, node->outputs->data[0]);
    return Result(ec2t_tflm_invoke(operation, input->data.int8, output->data.int8));
}
} // namespace

const ec2t_tflm::TFLMRegistration *ec2t::Register() {
    static ec2t_tflm::TFLMRegistration registration = {};
    registration.init = Init;
    registration.prepare = Prepare;
    registration.invoke = Invoke;
    return &registration;
}
