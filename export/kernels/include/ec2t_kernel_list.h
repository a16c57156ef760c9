/* The list of optimised kernels. It drives declarations, dispatch, tests and benchmarks: a kernel
 * that is not here does not exist. X(how, element): `how` ends the function's name, `element` is
 * the type its lowered activations have. Slowest first. */
#ifndef EC2T_KERNEL_LIST_H
#define EC2T_KERNEL_LIST_H

#include <stdint.h>

#if defined(__x86_64__)
#define EC2T_CONV2D_PLANAR_KERNELS(X)                                                              \
    X(portable, int8_t)                                                                            \
    X(avx2, int16_t)                                                                               \
    X(avx512bw, int16_t)
#elif defined(__aarch64__)
#define EC2T_CONV2D_PLANAR_KERNELS(X)                                                              \
    X(portable, int8_t)                                                                            \
    X(neon, int8_t)
#else
#define EC2T_CONV2D_PLANAR_KERNELS(X) X(portable, int8_t)
#endif

#endif
