/* What every part of the library shares: status codes and the rules they follow.
 *
 * C11, freestanding: stdint, stddef and string only. No allocation: a function that needs scratch
 * takes it from the caller and has a twin `..._get_buffer_size`. Scratch starts on a 4-byte
 * boundary unless the twin says otherwise. Little-endian machines only. */
#ifndef EC2T_COMMON_H
#define EC2T_COMMON_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ec2t needs a little-endian machine"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EC2T_OK = 0,
    EC2T_ERROR_ARGUMENT,    /* a null pointer, or a size that does not fit the layer */
    EC2T_ERROR_UNALIGNED,   /* the blob or the scratch is not on its boundary */
    EC2T_ERROR_TRUNCATED,   /* the blob is shorter, or longer, than its header says */
    EC2T_ERROR_MAGIC,       /* not a blob */
    EC2T_ERROR_VERSION,     /* a blob of another version */
    EC2T_ERROR_CHECKSUM,    /* the blob has been damaged */
    EC2T_ERROR_HEADER,      /* a field of the header or of a section is not allowed */
    EC2T_ERROR_STREAM,      /* the weight stream does not decode to the promised weights */
    EC2T_ERROR_BUFFER,      /* the scratch is too small */
    EC2T_ERROR_UNSUPPORTED, /* valid, but not for this function or this processor */
} ec2t_status;

/* The status in words, without a final full stop. */
const char *ec2t_status_text(ec2t_status status);

#ifdef __cplusplus
}
#endif
#endif
