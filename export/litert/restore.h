/* Turns an `EC2T.*` operator back into the int8 operator it was written from, where that is faster
 * dense: XNNPACK, which comes after us, then takes it. Should nobody take it, it runs in our
 * reference kernel. */
#ifndef EC2T_RESTORE_H
#define EC2T_RESTORE_H

#include "claim.h"

/* What a restored operator's tensors point into; a list. */
typedef struct ec2t_restored ec2t_restored;

/* Whether a step, made of an `EC2T.*` operator, can be restored: TensorFlow Lite must have words
 * for its padding, its groups and the range of its outputs. */
bool ec2t_is_restorable(const TfLiteContext *context, const ec2t_step *step);

/* Restores the operator of `node`, once and for all, and prepends what it needs to `list`, which
 * must live as long as the interpreter. */
TfLiteStatus ec2t_restore(TfLiteContext *context, int node, const ec2t_delegate_options *options,
                          ec2t_restored **list);

void ec2t_restored_destroy(ec2t_restored *list);

#endif
