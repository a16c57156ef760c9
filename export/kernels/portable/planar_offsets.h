/* Private: lists of offsets, as the planar kernels of int16 sums walk them. The includer defines
 * ALWAYS_INLINE, which for some machines names a target. */
#include <stddef.h>
#include <stdint.h>

enum { CHUNK = 255 }; /* activations that an int16 sum holds for certain */

/* Offsets take 4 bytes if `wide`, else 2; a list is the address of its first one. */
ALWAYS_INLINE const void *list_at(const void *offsets, size_t index, int wide) {
    return (const uint8_t *)offsets + index * (wide ? 4 : 2);
}

ALWAYS_INLINE size_t offset_at(const void *list, size_t index, int wide) {
    return wide ? ((const uint32_t *)list)[index] : ((const uint16_t *)list)[index];
}
