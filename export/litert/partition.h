/* A partition: neighbouring operators that the delegate executes as one node of the graph. */
#ifndef EC2T_PARTITION_H
#define EC2T_PARTITION_H

#include "tflite_abi.h"

/* The registration of the node that replaces a partition. Its delegate's data_ points to
 * ec2t_delegate_options. */
TfLiteRegistration ec2t_partition_registration(void);

#endif
