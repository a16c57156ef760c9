/* Which nodes the delegate can execute, and as what step. */
#ifndef EC2T_CLAIM_H
#define EC2T_CLAIM_H

#include "options.h"
#include "step.h"
#include "tensor.h"

/* EC2T_LEFT is no error, EC2T_DAMAGED is. */
typedef enum { EC2T_CLAIMED, EC2T_LEFT, EC2T_DAMAGED } ec2t_claim;

/* Why a node was left or is damaged, in words. */
typedef struct {
    char text[160];
} ec2t_reason;

typedef enum {
    EC2T_NODE_FOREIGN, /* not for us */
    EC2T_NODE_OWN,     /* an EC2T operator: nobody else can run it */
    EC2T_NODE_PLAIN,   /* a plain int8 layer, perhaps ternary */
    EC2T_NODE_JOINER,  /* an addition or a pooling */
} ec2t_node_class;

/* What a node is by its operator alone. */
ec2t_node_class ec2t_class_of_node(const TfLiteRegistration *registration,
                                   const ec2t_delegate_options *options);

/* Builds the step of a node, if the delegate can execute it. On any result but EC2T_CLAIMED the
 * step holds nothing. */
ec2t_claim ec2t_step_create(TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason);

/* The two kinds of layer; `step` is zero, and may hold memory whatever the result. */
ec2t_claim ec2t_claim_own(const TfLiteContext *context, const TfLiteNode *node,
                          const ec2t_delegate_options *options, ec2t_step *step,
                          ec2t_reason *reason);
ec2t_claim ec2t_claim_plain(const TfLiteContext *context, const TfLiteNode *node,
                            const TfLiteRegistration *registration,
                            const ec2t_delegate_options *options, ec2t_step *step,
                            ec2t_reason *reason);

/* Keeps what a claimed step of an EC2T.Layer was expanded to, for the next step of this node. */
void ec2t_keep_expansion(const TfLiteContext *context, const TfLiteNode *node,
                         const ec2t_delegate_options *options, ec2t_step *step);

/* Keeps the reason, formatted, and returns `claim`. */
ec2t_claim ec2t_say(ec2t_reason *reason, ec2t_claim claim, const char *format, ...);

#endif
