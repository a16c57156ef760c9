/* Registrations of the EC2T.* operators for TensorFlow Lite Micro:
 *
 *   resolver.AddCustom("EC2T.Conv2D", ec2t::Register());
 *   resolver.AddCustom("EC2T.DepthwiseConv2D", ec2t::Register());
 *   resolver.AddCustom("EC2T.FullyConnected", ec2t::Register());
 *
 * TFLM moved from the namespace `tflite` to `tflite::micro` in October 2026; define
 * EC2T_TFLM_NAMESPACE_MICRO for trees after that. */
#ifndef EC2T_TFLM_ADAPTER_H
#define EC2T_TFLM_ADAPTER_H
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_common.h"

#if defined(EC2T_TFLM_NAMESPACE_MICRO)
namespace ec2t_tflm = tflite::micro;
#else
namespace ec2t_tflm {
using ::TfLiteContext;
using ::TfLiteEvalTensor;
using ::TfLiteNode;
using ::TfLiteStatus;
using ::TFLMRegistration;
} // namespace ec2t_tflm
#endif

namespace ec2t {
const ec2t_tflm::TFLMRegistration *Register();
}
#endif
