#include "requantise.h"

void ec2t_mcu_lookup_run(const int8_t *table, const ec2t_mcu_planar *layout_in,
                         const uint8_t *input, const ec2t_mcu_planar *layout_out, uint8_t *output) {
    const int8_t *middle = table + 128;
    ec2t_mcu_lead(layout_out, output);
    for (uint32_t c = 0; c < layout_in->channels; ++c) {
        for (uint32_t y = 0; y < layout_in->height; ++y) {
            const uint8_t *from = input + c * layout_in->plane + y * layout_in->pitch;
            uint8_t *to = output + c * layout_out->plane + y * layout_out->pitch;
            for (uint32_t x = 0; x < layout_in->width; ++x)
                to[x] = ec2t_mcu_byte(middle[ec2t_mcu_value(from[x])]);
        }
        ec2t_mcu_border(layout_out, output, c);
    }
}

/* One input's term for each stored byte: (value - zero point) * 2^20, requantised by a factor of at
 * most 1/2 (shift <= 0), times 2^left. */
static void fill_table(int32_t *table, int32_t zero_point, int32_t multiplier, int32_t shift,
                       int32_t left) {
    const int32_t half = shift < 0 ? 1 << (-shift - 1) : 0, away = shift < 0 ? -1 : 0;
    for (uint32_t byte = 0; byte < 256; ++byte) {
        const int32_t value = (ec2t_mcu_value((uint8_t)byte) - zero_point) * (1 << 21);
        const int32_t high = ec2t_mcu_high(value, multiplier, half) + ((value >> 31) & away);
        table[byte] = (int32_t)((uint32_t)(high >> -shift) << left);
    }
}

void ec2t_mcu_add_run(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b,
                      uint8_t *output, int32_t *tables) {
    const ec2t_mcu_planar *la = &layer->a, *lb = &layer->b, *lo = &layer->out;
    /* A term is at most 255 * 2^20 * 1/2. */
    const ec2t_mcu_constants c =
        ec2t_mcu_constants_of(layer->multiplier_out, layer->shift_out, 255u << 20, &layer->clamp);
    /* The shift that comes before the multiplication is in the tables. */
    const int32_t left = c.exact ? c.left : 0;
    fill_table(tables, layer->zero_point_a, layer->multiplier_a, layer->shift_a, left);
    fill_table(tables + 256, layer->zero_point_b, layer->multiplier_b, layer->shift_b, left);
    const int32_t *table_b = tables + 256;
    /* Rows of one length: the plane is one long row, its borders are written afterwards. */
    const int flat = la->pitch == lo->pitch && lb->pitch == lo->pitch;
    const uint32_t rows = flat ? 1u : lo->height;
    const uint32_t width = flat ? (lo->height - 1u) * lo->pitch + lo->width : lo->width;
    ec2t_mcu_lead(lo, output);
    for (uint32_t channel = 0; channel < lo->channels; ++channel) {
        for (uint32_t y = 0; y < rows; ++y) {
            const uint8_t *pa = a + channel * la->plane + y * la->pitch;
            const uint8_t *pb = b + channel * lb->plane + y * lb->pitch;
            uint8_t *po = output + channel * lo->plane + y * lo->pitch;
            uint8_t *const end = po + width;
            if (c.exact) {
                for (; end - po >= 4; pa += 4, pb += 4, po += 4) {
#pragma GCC unroll 4
                    for (uint32_t i = 0; i < 4; ++i)
                        po[i] = ec2t_mcu_shifted_to_byte(tables[pa[i]] + table_b[pb[i]], &c);
                }
                while (po != end)
                    *po++ = ec2t_mcu_shifted_to_byte(tables[*pa++] + table_b[*pb++], &c);
            } else {
                while (po != end) {
                    const int32_t value = ec2t_mcu_requantise(
                        tables[*pa++] + table_b[*pb++], layer->multiplier_out, layer->shift_out);
                    *po++ = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
                }
            }
        }
        ec2t_mcu_limit(lo, output + channel * lo->plane, &layer->clamp);
        ec2t_mcu_border(lo, output, channel);
    }
}
