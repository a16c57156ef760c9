/* The list of optimised kernels. It drives declarations, dispatch, tests and benchmarks: a kernel
 * that is not here does not exist. X(how, element, whole): `how` ends the function's name,
 * `element` is the type its lowered activations have, `whole` is 1 if it requantises with
 * ec2t_whole_multiplier. Slowest first. */
#ifndef EC2T_KERNEL_LIST_H
#define EC2T_KERNEL_LIST_H

#include <stdint.h>

#if defined(__x86_64__)
#define EC2T_CONV2D_PLANAR_KERNELS(X)                                                              \
    X(portable, int8_t, 0)                                                                         \
    X(avx2, int16_t, 0)                                                                            \
    X(avx512bw, int16_t, 0)
#elif defined(__aarch64__)
#define EC2T_CONV2D_PLANAR_KERNELS(X)                                                              \
    X(portable, int8_t, 0)                                                                         \
    X(neon, int8_t, 1)
#else
#define EC2T_CONV2D_PLANAR_KERNELS(X) X(portable, int8_t, 0)
#endif

#endif
