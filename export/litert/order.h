/* Whether a graph is well-formed in time: every tensor written once, and before it is read. */
#ifndef EC2T_ORDER_H
#define EC2T_ORDER_H

#include "tflite_abi.h"

/* Looks at all nodes of an execution plan, ours or not. The runtime trusts the file here, and
 * partitions rely on it: a tensor written twice would have two sizes in one place, and one read
 * before it is written would show what the memory held before. kTfLiteError, after a report that
 * names the tensor and its nodes, if it is not so; constants are never written, and of variables
 * only that is checked, for they keep their values from run to run. */
TfLiteStatus ec2t_check_order(TfLiteContext *context, const TfLiteIntArray *plan);

#endif
