/* Log-mel features of one sound as int8 codes of a net's input, in whole numbers only.

   What they compute stands in log_mel_tables.h, which is written for one kind of features and one
   net (ec2t_tf.export.features). */
#ifndef EC2T_LOG_MEL_H
#define EC2T_LOG_MEL_H

#include <stdint.h>

#include "log_mel_tables.h"

enum { EC2T_LOG_MEL_OK = 0, EC2T_LOG_MEL_MISSING = 1 };

/* Bytes of scratch that ec2t_log_mel needs, aligned to 8. */
int32_t ec2t_log_mel_get_buffer_size(void);

/* The features of a sound, made as loud as every other.

   samples: EC2T_LOG_MEL_SAMPLES of them.
   codes: EC2T_LOG_MEL_BANDS rows of EC2T_LOG_MEL_FRAMES.
   scratch: ec2t_log_mel_get_buffer_size() bytes, aligned to 8; nothing is kept in it.
   Returns EC2T_LOG_MEL_MISSING for a null pointer, else EC2T_LOG_MEL_OK. */
int32_t ec2t_log_mel(const int16_t *samples, int8_t *codes, void *scratch);

#endif
