/* Convolutions that add and subtract only what is non-zero, on planar activations.
 *
 * Planar means [channel][y][x], int8, nothing between the planes. A layer is prepared once, for one
 * input size and one kernel: its weights become, per output channel, a list of places to add and a
 * list of places to subtract. To run, the kernel copies a band of input rows into scratch, once per
 * kernel column and shifted, padding filled in ("lowering"), so that every tap reads the same run
 * of consecutive bytes as the outputs have, whatever the stride, dilation and padding. */
#ifndef EC2T_PLANAR_H
#define EC2T_PLANAR_H

#include "ec2t_kernel_list.h"
#include "ec2t_reference.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EC2T_PLANAR_LARGEST_KERNEL = 32, /* rows and columns; larger ones are for the reference */
};

/* One output channel. */
typedef struct {
    uint32_t first; /* of its offsets: first those of symbol +1, then those of -1 */
    uint32_t plus_count, minus_count;
    int32_t value_plus, value_minus;
    int32_t bias;       /* the input's zero point folded in */
    int32_t multiplier; /* FP32: ec2t_whole_multiplier, if the kernel asks for it */
    int32_t fits_int16; /* FP32: every scaled sum does, before the output's zero point is added;
                         * with a multiplier: its fraction bits included */
} ec2t_planar_channel;

/* Rows of a lowered plane that come from input rows of the same remainder by the stride. */
typedef struct {
    int32_t phase, first_row, halo_rows;
} ec2t_planar_rows;

struct ec2t_planar_kernel;

/* A prepared layer. Read only once initialised; threads share it. */
typedef struct {
    const struct ec2t_planar_kernel *kernel;
    ec2t_conv2d_shape shape;
    ec2t_requant requant;
    const ec2t_planar_channel *channels;
    const void *offsets;  /* into a lowered group, in elements */
    uint32_t offset_size; /* 2 or 4 */
    int32_t band_rows;    /* output rows lowered at a time, at most */
    uint32_t plane_size;  /* elements of one lowered input channel and kernel column */
    ec2t_planar_rows rows[EC2T_PLANAR_LARGEST_KERNEL];
    int32_t row_groups;
} ec2t_planar_conv2d;

/* What one call computes: a part of the output rows and channels, for one image. */
typedef struct {
    int32_t row_begin, row_end, channel_begin, channel_end;
} ec2t_planar_part;

typedef struct ec2t_planar_kernel {
    const char *name;
    size_t element_size;
    int wants_multiplier;
    int (*is_supported)(void); /* by this processor */
    void (*run)(const ec2t_planar_conv2d *conv, const ec2t_planar_part *part, const int8_t *input,
                int8_t *output, void *scratch);
} ec2t_planar_kernel;

/* All kernels compiled in, slowest first, and the fastest one this processor can run. */
const ec2t_planar_kernel *ec2t_planar_kernels(size_t *count);
const ec2t_planar_kernel *ec2t_planar_best_kernel(void);

/* Bytes of memory the prepared layer keeps (channels and offsets; 0 if it is not supported), and of
 * scratch to prepare it. */
size_t ec2t_planar_conv2d_get_memory_size(const ec2t_planar_kernel *kernel, const ec2t_layer *layer,
                                          const ec2t_conv2d_shape *shape);
size_t ec2t_planar_conv2d_get_init_buffer_size(const ec2t_layer *layer);

/* Prepare a layer (not EC2T_ENCODING_INT8). `requant`'s arrays and `memory` must live as long as
 * `conv`; the blob need not. EC2T_ERROR_UNSUPPORTED for kernels beyond the largest and for
 * EC2T_REQUANT_REAL. */
ec2t_status ec2t_planar_conv2d_init(ec2t_planar_conv2d *conv, const ec2t_planar_kernel *kernel,
                                    const ec2t_layer *layer, const ec2t_conv2d_shape *shape,
                                    const ec2t_requant *requant, void *memory, size_t memory_size,
                                    void *scratch, size_t scratch_size);

/* Bytes of scratch one call of ec2t_planar_conv2d_run needs; each thread has its own. */
size_t ec2t_planar_conv2d_get_buffer_size(const ec2t_planar_conv2d *conv);

/* One image: planar input and output. `part` NULL computes all of it. */
ec2t_status ec2t_planar_conv2d_run(const ec2t_planar_conv2d *conv, const ec2t_planar_part *part,
                                   const int8_t *input, int8_t *output, void *scratch,
                                   size_t scratch_size);

/* [height * width][channels] to [channels][height * width] and back; not in place. */
void ec2t_nhwc_to_planar(int32_t pixels, int32_t channels, const int8_t *input, int8_t *output);
void ec2t_planar_to_nhwc(int32_t pixels, int32_t channels, const int8_t *input, int8_t *output);

#define EC2T_DECLARE_PLANAR_KERNEL(how, element, whole)                                            \
    int ec2t_has__##how(void);                                                                     \
    void ec2t_conv2d_s8_planar__##how(const ec2t_planar_conv2d *conv,                              \
                                      const ec2t_planar_part *part, const int8_t *input,           \
                                      int8_t *output, void *scratch);
EC2T_CONV2D_PLANAR_KERNELS(EC2T_DECLARE_PLANAR_KERNEL)
#undef EC2T_DECLARE_PLANAR_KERNEL

#ifdef __cplusplus
}
#endif
#endif
