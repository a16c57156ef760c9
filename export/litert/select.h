/* Which nodes of a graph the delegate takes: those whose time sparse, with the changes of layout
 * around them, is shorter than XNNPACK's; and `EC2T.*` operators that cannot be restored. */
#ifndef EC2T_SELECT_H
#define EC2T_SELECT_H

#include "claim.h"
#include "cost.h"

/* One node in execution order; its inputs and outputs are numbers of tensors. */
typedef struct {
    ec2t_node_class class;
    int inputs[2]; /* that are activations; -1: none */
    int output;
    float own, foreign;               /* what the node itself costs with us and elsewhere */
    float turn_input[2], turn_output; /* what changing the layout of its tensors costs */
    bool is_restorable;               /* an `EC2T.*` operator that XNNPACK can have back */
    bool taken;
} ec2t_choice;

/* Fills in a choice from a step and the tensors' extents. */
void ec2t_choice_from_step(ec2t_choice *choice, const ec2t_costs *costs, const ec2t_step *step,
                           const ec2t_extent inputs[2], const ec2t_extent *output);

/* Sets `taken` of each node. Foreign nodes stay out, own ones in unless they can be restored. False
 * without memory. */
bool ec2t_choose_nodes(const ec2t_costs *costs, ec2t_choice *choices, int count);

#endif
