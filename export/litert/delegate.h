/* The entry points of the library: TensorFlow Lite's external delegate interface. */
#ifndef EC2T_DELEGATE_H
#define EC2T_DELEGATE_H

#include "tflite_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC2T_EXPORT __attribute__((visibility("default")))

/* A delegate with `count` options; NULL, after a call of `report_error` (which may be NULL), for an
 * option that does not exist. */
EC2T_EXPORT TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys,
                                                          const char *const *values, size_t count,
                                                          void (*report_error)(const char *));

/* After the interpreters that use it have gone. */
EC2T_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate);

#ifdef __cplusplus
}
#endif
#endif
