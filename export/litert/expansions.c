#include "expansions.h"

#include <stdlib.h>
#include <string.h>

struct ec2t_expansion {
    struct ec2t_expansion *next;
    const void *compact;
    ec2t_ends ends;
    void *blob;
    size_t size;
};

/* Bit for bit: a scale may be NaN. */
static bool same_ends(const ec2t_ends *one, const ec2t_ends *other) {
    return memcmp(&one->input_scale, &other->input_scale, sizeof one->input_scale) == 0 &&
           memcmp(&one->output_scale, &other->output_scale, sizeof one->output_scale) == 0 &&
           one->input_zero_point == other->input_zero_point &&
           one->output_zero_point == other->output_zero_point;
}

bool ec2t_expansions_keep(ec2t_expansions *list, const void *compact, const ec2t_ends *ends,
                          void *blob, size_t size) {
    struct ec2t_expansion *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        return false;
    }
    *entry = (struct ec2t_expansion){list->first, compact, *ends, blob, size};
    list->first = entry;
    return true;
}

void *ec2t_expansions_take(ec2t_expansions *list, const void *compact, const ec2t_ends *ends,
                           size_t *size) {
    for (struct ec2t_expansion **at = &list->first; *at != NULL; at = &(*at)->next) {
        struct ec2t_expansion *entry = *at;
        if (entry->compact == compact && same_ends(&entry->ends, ends)) {
            void *blob = entry->blob;
            *size = entry->size;
            *at = entry->next;
            free(entry);
            return blob;
        }
    }
    return NULL;
}

void ec2t_expansions_clear(ec2t_expansions *list) {
    while (list->first != NULL) {
        struct ec2t_expansion *entry = list->first;
        list->first = entry->next;
        free(entry->blob);
        free(entry);
    }
}
