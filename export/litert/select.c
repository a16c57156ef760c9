#include "select.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 8 };
static const float OUT_OF_QUESTION = 1e9f;

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
        } else if (step->layer.encoding == EC2T_ENCODING_INT8) {
            choice->own = OUT_OF_QUESTION; /* our dense convolution is the reference kernel */
        }
    } else {
        choice->own = costs->byte_added * bytes_of_extent(output);
        choice->foreign = costs->dense_node + costs->byte_added_dense * bytes_of_extent(output);
    }
}

/* What the choices have to do with each other, once for all of them: a change of one is then judged
 * by its neighbours alone, however large the graph. */
typedef struct {
    int writers[2];     /* choices that write the inputs; -1: none of ours does */
    int first, readers; /* choices that read the output: a run of ec2t_links.readers */
    int taken_readers;  /* how many of those are taken */
} ec2t_link;

typedef struct {
    const ec2t_costs *costs;
    ec2t_choice *choices;
    int count;
    ec2t_link *links;
    int *readers;
} ec2t_links;

static int largest_tensor(const ec2t_choice *choices, int count) {
    int largest = -1;
    for (int n = 0; n < count; n++) {
        largest = choices[n].output > largest ? choices[n].output : largest;
    }
    return largest;
}

/* Every tensor has one writer, which comes before its readers: ec2t_check_order. */
static bool link_choices(ec2t_links *all) {
    const int tensors = largest_tensor(all->choices, all->count) + 1;
    int *writers = malloc(((size_t)tensors + 1) * sizeof *writers);
    all->links = calloc((size_t)all->count + 1, sizeof *all->links);
    all->readers = malloc((2 * (size_t)all->count + 1) * sizeof *all->readers);
    const bool has_memory = writers != NULL && all->links != NULL && all->readers != NULL;
    for (int t = 0; t < tensors && has_memory; t++) {
        writers[t] = -1;
    }
    for (int n = 0; n < all->count && has_memory; n++) {
        const ec2t_choice *choice = &all->choices[n];
        ec2t_link *link = &all->links[n];
        for (int place = 0; place < 2; place++) {
            const int tensor = choice->inputs[place];
            link->writers[place] = tensor >= 0 && tensor < tensors ? writers[tensor] : -1;
            if (link->writers[place] >= 0 && (place == 0 || link->writers[1] != link->writers[0])) {
                all->links[link->writers[place]].readers++;
            }
        }
        if (choice->class != EC2T_NODE_FOREIGN && choice->output >= 0) {
            writers[choice->output] = n;
        }
    }
    free(writers);
    int first = 0;
    for (int n = 0; n < all->count && has_memory; n++) {
        all->links[n].first = first;
        first += all->links[n].readers;
        all->links[n].readers = 0;
    }
    for (int n = 0; n < all->count && has_memory; n++) {
        for (int place = 0; place < 2; place++) {
            const int writer = all->links[n].writers[place];
            if (writer >= 0 && (place == 0 || writer != all->links[n].writers[0])) {
                ec2t_link *link = &all->links[writer];
                all->readers[link->first + link->readers++] = n;
            }
        }
    }
    return has_memory;
}

/* What changing the layout of node `n`'s output costs: once if it goes to any node elsewhere or out
 * of the graph when taken, once if any taken node reads it when not. */
static float output_crossing(const ec2t_links *all, int n) {
    const ec2t_choice *writer = &all->choices[n];
    const ec2t_link *link = &all->links[n];
    const bool crosses = writer->taken ? link->readers == 0 || link->taken_readers < link->readers
                                       : link->taken_readers > 0;
    return crosses ? writer->turn_output : 0.0f;
}

/* What the partition that node `n` starts costs. */
static float partition_cost(const ec2t_links *all, int n) {
    bool joined = !all->choices[n].taken;
    for (int place = 0; place < 2; place++) {
        const int writer = all->links[n].writers[place];
        joined = joined || (writer >= 0 && all->choices[writer].taken);
    }
    return joined ? 0.0f : all->costs->partition;
}

/* What node `n` costs as it is chosen now. Inputs from foreign nodes and from outside count where
 * they are read, others at their writer. */
static float node_cost(const ec2t_links *all, int n) {
    const ec2t_choice *node = &all->choices[n];
    if (node->class == EC2T_NODE_FOREIGN) {
        return 0.0f;
    }
    float cost = output_crossing(all, n) + partition_cost(all, n);
    if (!node->taken) {
        return cost + node->foreign;
    }
    for (int place = 0; place < 2; place++) {
        if (node->inputs[place] >= 0 && all->links[n].writers[place] < 0) {
            cost += node->turn_input[place];
        }
    }
    return cost + node->own;
}

/* The costs that a change of node `n` changes: its own, its writers' and its readers'. */
static float cost_around(const ec2t_links *all, int n) {
    const ec2t_link *link = &all->links[n];
    float cost = node_cost(all, n);
    for (int place = 0; place < 2; place++) {
        if (link->writers[place] >= 0 && (place == 0 || link->writers[1] != link->writers[0])) {
            cost += output_crossing(all, link->writers[place]);
        }
    }
    for (int i = 0; i < link->readers; i++) {
        cost += partition_cost(all, all->readers[link->first + i]);
    }
    return cost;
}

static void set_taken(ec2t_links *all, int n, bool taken) {
    ec2t_choice *choice = &all->choices[n];
    const ec2t_link *link = &all->links[n];
    if (choice->taken == taken) {
        return;
    }
    choice->taken = taken;
    for (int place = 0; place < 2; place++) {
        if (link->writers[place] >= 0 && (place == 0 || link->writers[1] != link->writers[0])) {
            all->links[link->writers[place]].taken_readers += taken ? 1 : -1;
        }
    }
}

static bool is_free(const ec2t_choice *choice) {
    return choice->class == EC2T_NODE_PLAIN || choice->class == EC2T_NODE_JOINER ||
           choice->is_restorable;
}

/* Changes one node at a time while that helps; the cost of the whole graph at the end. */
static double descend(ec2t_links *all) {
    bool changed = true;
    for (int round = 0; changed && round < MOST_ROUNDS; round++) {
        changed = false;
        for (int n = 0; n < all->count; n++) {
            if (!is_free(&all->choices[n])) {
                continue;
            }
            const float before = cost_around(all, n);
            set_taken(all, n, !all->choices[n].taken);
            if (cost_around(all, n) < before) {
                changed = true;
            } else {
                set_taken(all, n, !all->choices[n].taken);
            }
        }
    }
    double total = 0.0;
    for (int n = 0; n < all->count; n++) {
        total += (double)node_cost(all, n);
    }
    return total;
}

bool ec2t_choose_nodes(const ec2t_costs *costs, ec2t_choice *choices, int count) {
    ec2t_links all = {.costs = costs, .choices = choices, .count = count};
    bool *from_all = malloc((size_t)count + 1);
    const bool has_memory = link_choices(&all) && from_all != NULL;
    if (has_memory) {
        for (int n = 0; n < count; n++) {
            set_taken(&all, n, choices[n].class != EC2T_NODE_FOREIGN);
        }
        const double cost_from_all = descend(&all);
        for (int n = 0; n < count; n++) {
            from_all[n] = choices[n].taken;
        }
        for (int n = 0; n < count; n++) {
            set_taken(&all, n, choices[n].class == EC2T_NODE_OWN && !choices[n].is_restorable);
        }
        const double cost_from_none = descend(&all);
        for (int n = 0; n < count && cost_from_all < cost_from_none; n++) {
            choices[n].taken = from_all[n];
        }
    }
    free(from_all);
    free(all.links);
    free(all.readers);
    return has_memory;
}
