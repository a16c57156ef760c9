#ifndef EC2T_MCU_ROWS_H
#define EC2T_MCU_ROWS_H

/* Copies rows of every plane to a memory that does not overlap. */
typedef struct {
    uint16_t channels, rows;
    uint32_t width; /* bytes of a row */
    uint32_t in_pitch, out_pitch, in_plane, out_plane;
} ec2t_mcu_rows;
void ec2t_mcu_rows_run(const ec2t_mcu_rows *layer, const uint8_t *input, uint8_t *output);

#endif
