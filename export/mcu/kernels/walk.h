/* Walks over the elements of up to three tensors at once, in any order of their axes. */
#ifndef EC2T_MCU_WALK_H
#define EC2T_MCU_WALK_H
#include "planar.h"

/* Where a walk is, bytes from each tensor's start. */
typedef struct {
    uint32_t index[EC2T_MCU_AXES];
    int32_t place[3];
} ec2t_mcu_position;

/* On to the next element along the outermost `count` axes; 0 after the last. */
static inline int ec2t_mcu_next(const ec2t_mcu_axis *axes, uint32_t count, ec2t_mcu_position *at) {
    while (count--) {
        const ec2t_mcu_axis *axis = &axes[count];
        if (++at->index[count] < axis->size) {
            for (uint32_t i = 0; i < 3; ++i)
                at->place[i] += axis->step[i];
            return 1;
        }
        at->index[count] = 0;
        for (uint32_t i = 0; i < 3; ++i)
            at->place[i] -= (int32_t)(axis->size - 1u) * axis->step[i];
    }
    return 0;
}
#endif
