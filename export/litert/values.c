#include "values.h"

#include "tensor.h"

enum { ARENA_ALIGNMENT = 64 };

static bool live_together(const ec2t_value *left, const ec2t_value *right) {
    return left->first <= right->last && right->first <= left->last;
}

uint64_t ec2t_place_values(ec2t_value *values, int value_count, ec2t_value **placed) {
    uint64_t total = 0;
    int count = 0;
    for (int i = 0; i < value_count; i++) {
        ec2t_value *value = &values[i];
        if (!value->in_arena) {
            continue;
        }
        const uint64_t size = ec2t_extent_size(&value->extent);
        uint64_t offset = 0;
        for (int j = 0; j < count; j++) { /* by rising offset */
            const ec2t_value *other = placed[j];
            const uint64_t end = other->offset + ec2t_extent_size(&other->extent);
            if (live_together(value, other) && other->offset < offset + size && end > offset) {
                offset = (end + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
            }
        }
        value->offset = offset;
        total = offset + size > total ? offset + size : total;
        int at = count++;
        for (; at > 0 && placed[at - 1]->offset > offset; at--) {
            placed[at] = placed[at - 1];
        }
        placed[at] = value;
    }
    return total + ARENA_ALIGNMENT;
}
