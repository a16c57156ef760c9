/* A partition: neighbouring operators that the delegate executes as one node of the graph. */
#ifndef EC2T_PARTITION_H
#define EC2T_PARTITION_H

#include "ec2t_requant.h"
#include "tflite_abi.h"
#include "workspace.h"

/* What the user of the delegate chose. */
typedef struct {
    ec2t_requant_mode requant;
    bool claim_int8; /* also take plain int8 operators whose weights are ternary */
    bool everything; /* and that where the cost model prefers dense */
    bool reference;  /* run the reference kernels only */
    bool verbose;
    bool profile;              /* print the time of every step when the interpreter goes */
    int threads;               /* 0: as many as the interpreter asks for */
    ec2t_workspace *workspace; /* not the user's: of the partitions that are being made */
} ec2t_delegate_options;

/* The registration of the node that replaces a partition. Its delegate's data_ points to
 * ec2t_delegate_options. */
TfLiteRegistration ec2t_partition_registration(void);

#endif
