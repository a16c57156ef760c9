/* Private: the range decoder behind ec2t_decode_channel. */
#ifndef EC2T_RANGE_DECODER_H
#define EC2T_RANGE_DECODER_H

#include "ec2t_layer.h"

size_t ec2t_range_get_buffer_size(const ec2t_layer *layer);
ec2t_status ec2t_range_init(ec2t_decoder *decoder, void *scratch);

/* The symbols of the next channel, -1, 0, +1 in the order of the taps. Cannot fail: any bytes
 * decode to some symbols, which the count of non-zeros then judges. */
const int8_t *ec2t_range_decode_channel(ec2t_decoder *decoder);

/* Whether every byte of the stream has been read. */
int ec2t_range_has_ended(const ec2t_decoder *decoder);

#endif
