#include "select.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 8 };

static float bytes_of_extent(const ec2t_extent *extent) {
    return (float)extent->batch * (float)extent->height * (float)extent->width *
           (float)extent->channels;
}

static float cost_of_turning(const ec2t_costs *costs, const ec2t_extent *extent) {
    const bool one_layout = extent->height * extent->width == 1 || extent->channels == 1;
    const bool in_blocks = extent->height * extent->width >= 16 && extent->channels >= 16;
    return one_layout ? 0.0f
                      : (in_blocks ? costs->byte_turned : costs->byte_turned_alone) *
                            bytes_of_extent(extent);
}

void ec2t_choice_from_step(ec2t_choice *choice, const ec2t_costs *costs, const ec2t_step *step,
                           const ec2t_extent inputs[2], const ec2t_extent *output) {
    memcpy(choice->inputs, step->inputs, sizeof choice->inputs);
    choice->output = step->output;
    choice->turn_output = cost_of_turning(costs, output);
    for (int place = 0; place < 2; place++) {
        choice->turn_input[place] =
            step->inputs[place] < 0 ? 0.0f : cost_of_turning(costs, &inputs[place]);
    }
    if (step->kind == EC2T_STEP_LAYER) {
        choice->own = ec2t_cost_sparse(costs, &step->layer, &inputs[0], output);
        choice->foreign = ec2t_cost_dense(costs, &step->layer, output);
        if (step->layer.op == EC2T_FULLY_CONNECTED) {
            choice->own = choice->foreign; /* dense with us too: no reason to take it */
        }
    } else {
        choice->own = costs->byte_added * bytes_of_extent(output);
        choice->foreign = costs->dense_node + costs->byte_added_dense * bytes_of_extent(output);
    }
}

static bool reads(const ec2t_choice *reader, int tensor) {
    return reader->inputs[0] == tensor || reader->inputs[1] == tensor;
}

/* What changing the layout of node `n`'s output costs: once if it goes to any node elsewhere or out
 * of the graph when taken, once if any taken node reads it when not. */
static float output_crossing(const ec2t_choice *choices, int count, int n) {
    const ec2t_choice *writer = &choices[n];
    bool read = false, crosses = false;
    for (int i = n + 1; i < count; i++) {
        if (reads(&choices[i], writer->output)) {
            read = true;
            crosses = crosses || choices[i].taken != writer->taken;
        }
    }
    return crosses || (!read && writer->taken) ? writer->turn_output : 0.0f;
}

/* The cost of the whole graph as it is chosen now. Inputs from foreign nodes and from outside count
 * where they are read. */
static float total_cost(const ec2t_costs *costs, const ec2t_choice *choices, int count) {
    float total = 0.0f;
    for (int n = 0; n < count; n++) {
        const ec2t_choice *node = &choices[n];
        if (node->class == EC2T_NODE_FOREIGN) {
            continue;
        }
        total += node->taken ? node->own : node->foreign;
        total += output_crossing(choices, count, n);
        bool joined = false;
        for (int place = 0; place < 2 && node->taken; place++) {
            bool inside = node->inputs[place] < 0;
            for (int i = 0; i < n && !inside; i++) {
                if (choices[i].class != EC2T_NODE_FOREIGN &&
                    choices[i].output == node->inputs[place]) {
                    inside = true; /* counted at its writer */
                    joined = joined || choices[i].taken;
                }
            }
            total += inside ? 0.0f : node->turn_input[place];
        }
        total += node->taken && !joined ? costs->partition : 0.0f;
    }
    return total;
}

static bool is_free(const ec2t_choice *choice) {
    return choice->class == EC2T_NODE_PLAIN || choice->class == EC2T_NODE_JOINER ||
           choice->is_restorable;
}

/* Changes one node at a time while that helps; the total at the end. */
static float descend(const ec2t_costs *costs, ec2t_choice *choices, int count) {
    float best = total_cost(costs, choices, count);
    bool changed = true;
    for (int round = 0; changed && round < MOST_ROUNDS; round++) {
        changed = false;
        for (int n = 0; n < count; n++) {
            if (!is_free(&choices[n])) {
                continue;
            }
            choices[n].taken = !choices[n].taken;
            const float total = total_cost(costs, choices, count);
            if (total < best) {
                best = total;
                changed = true;
            } else {
                choices[n].taken = !choices[n].taken;
            }
        }
    }
    return best;
}

void ec2t_choose_nodes(const ec2t_costs *costs, ec2t_choice *choices, int count) {
    bool *from_all = malloc((size_t)count + 1);
    for (int n = 0; n < count; n++) {
        choices[n].taken = choices[n].class != EC2T_NODE_FOREIGN;
    }
    const float all = descend(costs, choices, count);
    for (int n = 0; n < count && from_all != NULL; n++) {
        from_all[n] = choices[n].taken;
    }
    for (int n = 0; n < count; n++) {
        choices[n].taken = choices[n].class == EC2T_NODE_OWN && !choices[n].is_restorable;
    }
    const float none = descend(costs, choices, count);
    if (from_all != NULL && all < none) {
        for (int n = 0; n < count; n++) {
            choices[n].taken = from_all[n];
        }
    }
    free(from_all);
}
