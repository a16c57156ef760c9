/* Tiles of a list convolution. A generated model instantiates the shapes it needs:
 *   EC2T_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)
 * defines name_sums, and name_fast where the core has one. Groups start 0, second, third and fourth
 * bytes from the tile's first input byte, and 0, out_second, ... from its first output byte; `stride`
 * (1 or 2) is the distance of neighbouring pixels. All are literal numbers. */
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

#define EC2T_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)                                       \
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
/* The fast tile in assembly: the compiler runs out of registers. Sixteen pixels live in r4 to r11,
 * two 16-bit lanes each; r0 walks over the input, r1 over the list up to r2; r3 holds two distances.
 * The minus list comes first, its sums wait on the stack. Offsets of the stack: 0 pass, 8 minus sums,
 * 40 input, 44 channel, 48 output. */
#define EC2T_TAP_1(second, third, fourth)                                                     \
  "ldr r12,[r0]\n ldr lr,[r0,#" #second "]\n"                                                 \
  "sxtab16 r4,r4,r12\n sxtab16 r5,r5,r12,ror #8\n"                                            \
  "sxtab16 r6,r6,lr\n sxtab16 r7,r7,lr,ror #8\n"                                              \
  "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #fourth "]\n"                                     \
  "sxtab16 r8,r8,r12\n sxtab16 r9,r9,r12,ror #8\n"                                            \
  "sxtab16 r10,r10,lr\n sxtab16 r11,r11,lr,ror #8\n"
#define EC2T_TAP_2(second, third, fourth)                                                     \
  "ldr r12,[r0]\n ldr lr,[r0,#4]\n sxtab16 r4,r4,r12\n sxtab16 r5,r5,lr\n"                    \
  "ldr r12,[r0,#" #second "]\n ldr lr,[r0,#" #second "+4]\n"                                  \
  "sxtab16 r6,r6,r12\n sxtab16 r7,r7,lr\n"                                                    \
  "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #third "+4]\n"                                    \
  "sxtab16 r8,r8,r12\n sxtab16 r9,r9,lr\n"                                                    \
  "ldr r12,[r0,#" #fourth "]\n ldr lr,[r0,#" #fourth "+4]\n"                                  \
  "sxtab16 r10,r10,r12\n sxtab16 r11,r11,lr\n"
/* Four pixels from the registers `even` and `odd` and the minus sums at `place` of the stack;
 * x1, x2 and y1, y2 name the registers of the pixels 0, 2 and 1, 3 after the multiplications. */
#define EC2T_REQUANTISE(even, odd, place, x2, y1, free, out)                                  \
  "ldrd r8,r9,[sp,#" place "]\n"                                                              \
  "smlabb r10,r8,r1,r0\n smlatb r8,r8,r1,r0\n smlabb r11,r9,r1,r0\n smlatb r9,r9,r1,r0\n"     \
  "smlabt r10," even ",r2,r10\n smlatt r8," even ",r2,r8\n"                                   \
  "smlabt r11," odd ",r2,r11\n smlatt r9," odd ",r2,r9\n"                                     \
  "smmlar " even ",r10,r3,r12\n add " even "," even ",r10,asr #31\n"                          \
  "smmlar " odd "," x2 ",r3,r12\n add " odd "," odd "," x2 ",asr #31\n"                       \
  "asr " even "," even ",r2\n asr " odd "," odd ",r2\n"                                       \
  "pkhbt " even "," even "," odd ",lsl #16\n"                                                 \
  "smmlar r10," y1 ",r3,r12\n add r10,r10," y1 ",asr #31\n"                                   \
  "smmlar " free ",r9,r3,r12\n add " free "," free ",r9,asr #31\n"                            \
  "asr r10,r10,r2\n asr " free "," free ",r2\n pkhbt r10,r10," free ",lsl #16\n"              \
  "ssat16 " even ",#8," even "\n ssat16 r10,#8,r10\n"                                         \
  "uxtb16 " even "," even "\n uxtb16 r10,r10\n orr " even "," even ",r10,lsl #8\n"            \
  "str " even ",[lr,#" out "]\n"
#define EC2T_REQUANTISE_1(even, odd, place, out)                                              \
  EC2T_REQUANTISE(even, odd, place, "r8", "r11", "r8", out)
#define EC2T_REQUANTISE_2(even, odd, place, out)                                              \
  EC2T_REQUANTISE(even, odd, place, "r11", "r8", "r11", out)

#define EC2T_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)     \
  static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,         \
                          int32_t value, int32_t *sums) {                                     \
    ec2t_half_##stride(input, list, count, value, sums, second);                              \
    ec2t_half_##stride(input + (third), list, count, value, sums + 8, (fourth) - (third));    \
  }                                                                                           \
  static __attribute__((naked, noinline)) void name##_fast(                                   \
      const uint8_t *input __attribute__((unused)),                                           \
      const ec2t_fast *channel __attribute__((unused)),                                       \
      uint8_t *output __attribute__((unused))) {                                              \
    __asm volatile(                                                                           \
        "push {r0-r2,r4-r11,lr}\n sub sp,#40\n"                                               \
        "ldr r2,[r1,#8]\n ldr r1,[r1]\n movs r3,#0\n str r3,[sp]\n"                           \
        "1: movs r4,#0\n movs r5,#0\n movs r6,#0\n movs r7,#0\n"                              \
        "mov r8,r4\n mov r9,r4\n mov r10,r4\n mov r11,r4\n"                                   \
        "lsls r3,r2,#31\n add r2,r1,r2,lsl #1\n bpl 2f\n"                                     \
        "ldrh r3,[r1],#2\n add r0,r3\n" EC2T_TAP_##stride(second, third, fourth)              \
        "2: sub r3,r2,r1\n lsls r3,r3,#29\n bpl 3f\n"                                         \
        "ldr r3,[r1],#4\n"                                                               \
        "uxtah r0,r0,r3\n" EC2T_TAP_##stride(second, third, fourth)                           \
        "uxtah r0,r0,r3,ror #16\n" EC2T_TAP_##stride(second, third, fourth)                   \
        "3: cmp r1,r2\n beq 5f\n"                                                             \
        "4: ldr r3,[r1],#4\n"                                                               \
        "uxtah r0,r0,r3\n" EC2T_TAP_##stride(second, third, fourth)                           \
        "uxtah r0,r0,r3,ror #16\n" EC2T_TAP_##stride(second, third, fourth)                   \
        "ldr r3,[r1],#4\n"                                                               \
        "uxtah r0,r0,r3\n" EC2T_TAP_##stride(second, third, fourth)                           \
        "uxtah r0,r0,r3,ror #16\n" EC2T_TAP_##stride(second, third, fourth)                   \
        "cmp r1,r2\n bne 4b\n"                                                               \
        "5: ldr r3,[sp]\n cbnz r3,6f\n"                                                       \
        "add r12,sp,#8\n stm r12,{r4-r11}\n str sp,[sp]\n"                                    \
        "ldrd r0,r1,[sp,#40]\n ldr r2,[r1,#12]\n ldr r1,[r1,#4]\n b 1b\n"                     \
        "6: ldrd r0,lr,[sp,#44]\n push {r8-r11}\n"                                            \
        "add r0,#16\n ldm r0,{r0-r3,r12}\n"                                                   \
        EC2T_REQUANTISE_##stride("r4", "r5", "24", "0")                                       \
        EC2T_REQUANTISE_##stride("r6", "r7", "32", #out_second)                               \
        "pop {r4-r7}\n"                                                                       \
        EC2T_REQUANTISE_##stride("r4", "r5", "24", #out_third)                                \
        EC2T_REQUANTISE_##stride("r6", "r7", "32", #out_fourth)                               \
        "add sp,#52\n pop {r4-r11,pc}\n");                                                    \
  }
#define EC2T_TILE_FAST(name) name##_fast

#else /* Helium */

#include <arm_mve.h>

#define EC2T_LOAD_1(p) vldrbq_s16((const int8_t *)(p))
#define EC2T_LOAD_2(p) vmovlbq_s8(vldrbq_s8((const int8_t *)(p)))

static inline void ec2t_lanes(int16x8_t lanes, int32_t value, int32_t *sums) {
  int16_t values[8];
  vst1q_s16(values, lanes);
  for (int i = 0; i < 8; ++i) sums[i] += value * values[i];
}

#define EC2T_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)                                       \
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
