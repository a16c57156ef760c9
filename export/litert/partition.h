/* A partition: neighbouring operators that the delegate executes as one node of the graph. */
#ifndef EC2T_PARTITION_H
#define EC2T_PARTITION_H

#include "ec2t_requant.h"
#include "tflite_abi.h"

/* What the user of the delegate chose. */
typedef struct {
    ec2t_requant_mode requant;
    bool claim_int8;  /* also take plain int8 operators whose weights are ternary */
    bool reference;   /* run the reference kernels only */
    bool always;      /* take plain int8 operators even where the cost model prefers dense */
    bool verbose;
    int threads; /* 0: as many as the interpreter asks for */
} ec2t_delegate_options;

typedef enum { EC2T_CLAIMED, EC2T_LEFT, EC2T_DAMAGED } ec2t_claim;

/* Why a node was left or is damaged, in words. */
typedef struct {
    char text[160];
} ec2t_reason;

/* Whether the delegate executes a node: EC2T_LEFT is no error, EC2T_DAMAGED is. */
ec2t_claim ec2t_node_claim(TfLiteContext *context, const TfLiteNode *node,
                           const TfLiteRegistration *registration,
                           const ec2t_delegate_options *options, ec2t_reason *reason);

/* Whether a node can join a partition between claimed ones (an addition or a pooling). */
bool ec2t_node_joins(TfLiteContext *context, const TfLiteNode *node,
                     const TfLiteRegistration *registration,
                     const ec2t_delegate_options *options);

/* The registration of the node that replaces a partition. Its delegate's data_ points to
 * ec2t_delegate_options. */
TfLiteRegistration ec2t_partition_registration(void);

#endif
