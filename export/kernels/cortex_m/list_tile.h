/* Tiles of a list convolution. A generated model instantiates the shapes it needs:
 *   EC2T_TILE(name, second, third, fourth, stride)
 * defines name_sums and name_fast for groups that start 0, second, third and fourth bytes from the
 * tile's first input byte; `stride` (1 or 2) is the distance of neighbouring pixels. */
#ifndef EC2T_LIST_TILE_H
#define EC2T_LIST_TILE_H
#include "planar.h"

#if defined(EC2T_SWAR)

#define EC2T_BYTES 0x00ff00ffu

static inline uint32_t ec2t_word(const uint8_t *p) {
#if defined(__ARM_ARCH) && __ARM_ARCH == 6
  const uint32_t *aligned = (const uint32_t *)((uintptr_t)p & ~(uintptr_t)3);
  const uint32_t shift = ((uint32_t)(uintptr_t)p & 3u) * 8u;
  if (!shift) return aligned[0];
  return aligned[0] >> shift | aligned[1] << (32u - shift);
#else
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
#endif
}

/* Two 16-bit lanes that were added as one 32-bit number; `bias` takes the 128 of every tap back. */
static inline void ec2t_lanes(uint32_t pair, int32_t bias, int32_t value, int32_t *low,
                              int32_t *high) {
  *low += value * ((int32_t)(pair & 0xffffu) - bias);
  *high += value * ((int32_t)(pair >> 16) - bias);
}

/* Eight pixels, neighbours: each word is added whole and its odd bytes once more; the even bytes are
 * the difference. */
static inline __attribute__((always_inline)) void ec2t_half_1(const uint8_t *p,
                                                              const uint16_t *list, uint32_t count,
                                                              int32_t value, int32_t *sums,
                                                              uint32_t second) {
  uint32_t all_0 = 0, all_1 = 0, odd_0 = 0, odd_1 = 0;
  for (const uint16_t *end = list + count; list != end;) {
    p += *list++;
    const uint32_t u = ec2t_word(p), v = ec2t_word(p + second);
    all_0 += u;
    odd_0 += (u >> 8) & EC2T_BYTES;
    all_1 += v;
    odd_1 += (v >> 8) & EC2T_BYTES;
  }
  const int32_t bias = (int32_t)(count * EC2T_FLIP);
  ec2t_lanes(all_0 - (odd_0 << 8), bias, value, &sums[0], &sums[2]);
  ec2t_lanes(odd_0, bias, value, &sums[1], &sums[3]);
  ec2t_lanes(all_1 - (odd_1 << 8), bias, value, &sums[4], &sums[6]);
  ec2t_lanes(odd_1, bias, value, &sums[5], &sums[7]);
}

/* Eight pixels, every second byte. */
static inline __attribute__((always_inline)) void ec2t_half_2(const uint8_t *p,
                                                              const uint16_t *list, uint32_t count,
                                                              int32_t value, int32_t *sums,
                                                              uint32_t second) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  for (const uint16_t *end = list + count; list != end;) {
    p += *list++;
    a += ec2t_word(p) & EC2T_BYTES;
    b += ec2t_word(p + 4) & EC2T_BYTES;
    c += ec2t_word(p + second) & EC2T_BYTES;
    d += ec2t_word(p + second + 4) & EC2T_BYTES;
  }
  const int32_t bias = (int32_t)(count * EC2T_FLIP);
  ec2t_lanes(a, bias, value, &sums[0], &sums[1]);
  ec2t_lanes(b, bias, value, &sums[2], &sums[3]);
  ec2t_lanes(c, bias, value, &sums[4], &sums[5]);
  ec2t_lanes(d, bias, value, &sums[6], &sums[7]);
}

#define EC2T_TILE(name, second, third, fourth, stride)                                        \
  static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,         \
                          int32_t value, int32_t *sums) {                                     \
    ec2t_half_##stride(input, list, count, value, sums, second);                              \
    ec2t_half_##stride(input + (third), list, count, value, sums + 8, (fourth) - (third));    \
  }
#define EC2T_TILE_FAST(name) 0

#elif defined(EC2T_DSP)

static inline uint32_t ec2t_word(const uint8_t *p) {
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}
static inline uint32_t ec2t_add_even(uint32_t sums, uint32_t bytes) {
  uint32_t result;
  __asm("sxtab16 %0,%1,%2" : "=r"(result) : "r"(sums), "r"(bytes));
  return result;
}
static inline uint32_t ec2t_add_odd(uint32_t sums, uint32_t bytes) {
  uint32_t result;
  __asm("sxtab16 %0,%1,%2,ror #8" : "=r"(result) : "r"(sums), "r"(bytes));
  return result;
}
static inline void ec2t_lanes(uint32_t pair, int32_t value, int32_t *low, int32_t *high) {
  *low += value * (int16_t)(uint16_t)pair;
  *high += value * ((int32_t)pair >> 16);
}
static inline __attribute__((always_inline)) void ec2t_half_1(const uint8_t *p,
                                                              const uint16_t *list, uint32_t count,
                                                              int32_t value, int32_t *sums,
                                                              uint32_t second) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  for (const uint16_t *end = list + count; list != end;) {
    p += *list++;
    const uint32_t u = ec2t_word(p), v = ec2t_word(p + second);
    a = ec2t_add_even(a, u), b = ec2t_add_odd(b, u);
    c = ec2t_add_even(c, v), d = ec2t_add_odd(d, v);
  }
  ec2t_lanes(a, value, &sums[0], &sums[2]);
  ec2t_lanes(b, value, &sums[1], &sums[3]);
  ec2t_lanes(c, value, &sums[4], &sums[6]);
  ec2t_lanes(d, value, &sums[5], &sums[7]);
}
static inline __attribute__((always_inline)) void ec2t_half_2(const uint8_t *p,
                                                              const uint16_t *list, uint32_t count,
                                                              int32_t value, int32_t *sums,
                                                              uint32_t second) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  for (const uint16_t *end = list + count; list != end;) {
    p += *list++;
    a = ec2t_add_even(a, ec2t_word(p)), b = ec2t_add_even(b, ec2t_word(p + 4));
    c = ec2t_add_even(c, ec2t_word(p + second)), d = ec2t_add_even(d, ec2t_word(p + second + 4));
  }
  ec2t_lanes(a, value, &sums[0], &sums[1]);
  ec2t_lanes(b, value, &sums[2], &sums[3]);
  ec2t_lanes(c, value, &sums[4], &sums[5]);
  ec2t_lanes(d, value, &sums[6], &sums[7]);
}
#define EC2T_TILE(name, second, third, fourth, stride)                                        \
  static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,         \
                          int32_t value, int32_t *sums) {                                     \
    ec2t_half_##stride(input, list, count, value, sums, second);                              \
    ec2t_half_##stride(input + (third), list, count, value, sums + 8, (fourth) - (third));    \
  }
#define EC2T_TILE_FAST(name) 0

#else /* Helium */

#include <arm_mve.h>

#define EC2T_LOAD_1(p) vldrbq_s16((const int8_t *)(p))
#define EC2T_LOAD_2(p) vmovlbq_s8(vldrbq_s8((const int8_t *)(p)))

static inline void ec2t_lanes(int16x8_t lanes, int32_t value, int32_t *sums) {
  int16_t values[8];
  vst1q_s16(values, lanes);
  for (int i = 0; i < 8; ++i) sums[i] += value * values[i];
}

#define EC2T_TILE(name, second, third, fourth, stride)                                        \
  static inline __attribute__((always_inline)) void name##_lanes(                             \
      const uint8_t *p, const uint16_t *list, uint32_t count, int16x8_t *lanes) {             \
    int16x8_t a = vdupq_n_s16(0), b = a, c = a, d = a;                                        \
    for (; count; --count) {                                                                  \
      p += *list++;                                                                           \
      a = vaddq_s16(a, EC2T_LOAD_##stride(p));                                                \
      b = vaddq_s16(b, EC2T_LOAD_##stride(p + (second)));                                     \
      c = vaddq_s16(c, EC2T_LOAD_##stride(p + (third)));                                      \
      d = vaddq_s16(d, EC2T_LOAD_##stride(p + (fourth)));                                     \
    }                                                                                         \
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;                                   \
  }                                                                                           \
  static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,         \
                          int32_t value, int32_t *sums) {                                     \
    int16x8_t lanes[4];                                                                       \
    name##_lanes(input, list, count, lanes);                                                  \
    for (int i = 0; i < 4; ++i) ec2t_lanes(lanes[i], value, sums + 8 * i);                    \
  }
#define EC2T_TILE_FAST(name) 0

#endif
#endif
