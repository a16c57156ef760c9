#include "walk.h"

void ec2t_mcu_move_run(const ec2t_mcu_move *move, const uint8_t *input, uint8_t *output) {
    const uint32_t outer = move->count - 1u;
    const ec2t_mcu_axis *inner = &move->axes[outer];
    const int32_t step_from = inner->step[0], step_to = inner->step[1];
    ec2t_mcu_position at = {{0}, {move->from, move->to, 0}};
    do {
        const uint8_t *from = input + at.place[0];
        uint8_t *to = output + at.place[1];
        if (step_from == 1 && step_to == 1) {
            for (uint32_t i = 0; i < inner->size; ++i)
                to[i] = from[i];
        } else {
            int32_t f = 0, t = 0;
            for (uint32_t i = inner->size; i; --i, f += step_from, t += step_to)
                to[t] = from[f];
        }
    } while (ec2t_mcu_next(move->axes, outer, &at));
}

void ec2t_mcu_sample_run(const ec2t_mcu_sample *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    for (uint32_t c = 0; c < out->channels; ++c) {
        for (uint32_t y = 0; y < out->height; ++y) {
            const uint8_t *from = input + c * in->plane + (uint32_t)layer->rows[y] * in->pitch;
            uint8_t *to = output + c * out->plane + y * out->pitch;
            for (uint32_t x = 0; x < out->width; ++x)
                to[x] = from[layer->columns[x]];
        }
    }
    ec2t_mcu_frame(out, output);
}
