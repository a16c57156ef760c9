"""Int8 depthwise convolutions on M55 by planes: sixteen neighbouring pixels a turn."""

from __future__ import annotations

import numpy as np

from .channels import channel_table
from .code import Code, Names, array, struct
from .cores import Core
from .int8_conv import Int8Conv, fits_fast
from .tiled_conv import GROUP
from .tiling import tiling

SOURCES = ("depthwise_helium.c",)
WIDE = {2: 3, 3: 3, 4: 5, 5: 5, 6: 7, 7: 7}  # taps of a row that its kernel computes
# Instructions: of a tap, of a row of taps, of what surrounds them in a turn; of a tap and a tile of
# the kernel that takes any taps.
TAP_COST, ROW_COST, TURN_COST = 8, 3, 45
TILED_TAP_COST, TILE_COST = 12, 62


def turns(conv: Int8Conv) -> tuple[int, int]:
    """Rows of a plane, perhaps one long one, and turns of a row."""
    out = conv.out
    rows, across = out.height, -(-out.width // 16)
    if conv.strides[0] == 1 and conv.source.pitch == out.pitch:
        flat = -(-((rows - 1) * out.pitch + out.width) // 16)
        if flat < rows * across:
            return 1, flat
    return rows, across


def fits(core: Core, conv: Int8Conv) -> bool:
    """Whether the kernel computes it, in fewer instructions than the one that takes any taps."""
    rows, columns = conv.kernel
    if not conv.depth_multiplier or columns not in WIDE or conv.dilation[1] > 1:
        return False
    if conv.strides[1] > 1 or rows > 0xFF or conv.dilation[0] * conv.source.pitch > 0xFFFF:
        return False
    bounds = conv.bounds().tolist()
    if not all(fits_fast(b, m) for b, m in zip(bounds, conv.multipliers, strict=True)):
        return False
    down, across = turns(conv)
    t = tiling(core, conv, GROUP)
    turn = rows * (WIDE[columns] * TAP_COST + ROW_COST) + TURN_COST
    tile = rows * columns * TILED_TAP_COST + TILE_COST
    return down * across * turn < t.count * t.across * tile


def scratch(core: Core, conv: Int8Conv) -> int:
    """Bytes of scratch."""
    return 4 * conv.kernel[0] * WIDE[conv.kernel[1]] if fits(core, conv) else 0


def extent(conv: Int8Conv) -> int:
    """Bytes from a plane's first that the kernel may write."""
    out = conv.out
    return (out.height - 1) * out.pitch + out.width + 15


def code(conv: Int8Conv, names: Names, entry: str) -> Code:
    """The kernel call; `entry` is the address of the first tap under the first output pixel."""
    n = names.index
    table = channel_table(n, conv.biases, conv.multipliers)
    rows, columns = conv.kernel
    wide = WIDE[columns]
    weights = np.pad(conv.weights[:, 0], ((0, 0), (0, 0), (0, wide - columns))).reshape(-1)
    members = {
        "in": conv.source.c(),
        "out": conv.out.c(),
        "channels": table.member,
        "weights": f"weights_{n}",
        "row_step": conv.dilation[0] * conv.source.pitch,
        "stride_y": conv.strides[0],
        "depth_multiplier": conv.depth_multiplier,
        "tap_rows": rows,
        "clamp": conv.clamp,
    }
    declarations = [
        table.declaration,
        array("int8_t", f"weights_{n}", weights),
        struct("depthwise_wide", f"layer_{n}", members),
    ]
    call = (
        f"ec2t_mcu_depthwise_helium_{wide}_run(&layer_{n}, {entry}, {names.output}, "
        f"(uint32_t *)(void *){names.scratch});"
    )
    return Code(declarations, [call], table.flash + weights.size, "int8")
