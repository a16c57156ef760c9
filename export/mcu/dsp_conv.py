"""Int8 convolutions on M4, M7 and M33: which kernel, and its constants."""

from __future__ import annotations

import numpy as np

from .channels import ChannelTable, channel_table
from .code import Code, Names, array, struct
from .int8_conv import Int8Conv, fits_any, fits_fast
from .panels import panel_code, taps_of

SOURCES = (
    "panel_conv.c",
    "depthwise_conv.c",
    "depthwise_wide.c",
    "dense_conv.c",
    "gather_conv.c",
)
WIDE = {4: 5, 5: 5, 6: 7, 7: 7}  # taps of a row that its kernel computes


def by_panels(conv: Int8Conv) -> bool:
    """Whether a panel's patches are worth their packing: a depthwise convolution of one channel is
    an ordinary one."""
    return not conv.depth_multiplier or conv.source.channels == 1


def by_planes(conv: Int8Conv) -> bool:
    """Whether a depthwise kernel by planes fits."""
    fits = [fits_any(b, m) for b, m in zip(conv.bounds().tolist(), conv.multipliers, strict=True)]
    shape = conv.kernel == (3, 3) and conv.dilation == (1, 1) and conv.strides[1] <= 2
    return bool(conv.depth_multiplier) and (shape or is_wide(conv)) and all(fits)


def is_wide(conv: Int8Conv) -> bool:
    """Whether rows of four to seven taps are what the kernel of wide rows takes."""
    rows, columns = conv.kernel
    row_step = conv.dilation[0] * conv.source.pitch
    return (
        columns in WIDE
        and conv.dilation[1] == 1
        and conv.strides[1] == 1
        and rows <= 0xFF
        and row_step <= 0xFFFF
    )


def scratch(conv: Int8Conv) -> int:
    """Bytes of scratch."""
    if by_panels(conv):
        return taps_of(conv).scratch
    if is_wide(conv) and by_planes(conv):
        return 4 * conv.kernel[0] * (WIDE[conv.kernel[1]] + 1) // 2
    return 0


def extent(conv: Int8Conv) -> int:
    """Bytes from a plane's first that a kernel may write."""
    if by_panels(conv) or not by_planes(conv):
        return 0
    pixels = 4 if conv.strides[1] == 1 else 2
    return (conv.out.height - 1) * conv.out.pitch + conv.out.width + -conv.out.width % pixels + 3


def code(conv: Int8Conv, names: Names, entry: str) -> Code | None:
    """The kernel call; None where no kernel can. `entry` is the address of the first tap under the
    first output pixel."""
    if by_panels(conv):
        return panel_code(conv, names, entry)
    if conv.strides[1] > 2:
        return None
    return _planes(conv, names, entry) if by_planes(conv) else _four_pixels(conv, names, entry)


def _members(conv: Int8Conv, n: int, table: ChannelTable) -> dict[str, object]:
    """What both kinds of kernels ask for."""
    return {
        "in": conv.source.c(),
        "out": conv.out.c(),
        "channels": table.member,
        "weights": f"weights_{n}",
        "stride_y": conv.strides[0],
        "stride_x": conv.strides[1],
        "depth_multiplier": conv.depth_multiplier,
        "clamp": conv.clamp,
    }


def _planes(conv: Int8Conv, names: Names, entry: str) -> Code:
    n = names.index
    bounds = conv.bounds().tolist()
    fast = all(fits_fast(b, m) for b, m in zip(bounds, conv.multipliers, strict=True))
    table = channel_table(n, conv.biases, conv.multipliers)
    members, after = _members(conv, n, table), ""
    if is_wide(conv):
        rows, columns = conv.kernel
        wide = WIDE[columns]
        weights = np.pad(conv.weights[:, 0], ((0, 0), (0, 0), (0, wide - columns))).reshape(-1)
        del members["stride_x"]
        members |= {"row_step": conv.dilation[0] * conv.source.pitch, "tap_rows": rows}
        kernel, kind = "five" if wide == 5 else "seven", "depthwise_wide"
        after = f", (uint32_t *)(void *){names.scratch}"
    else:
        weights = np.append(conv.weights.reshape(-1), 0)  # the kernel reads words
        kernel = "conv"
        kind = "depthwise_conv"
    declarations = [
        table.declaration,
        array("int8_t", f"weights_{n}", weights),
        struct(kind, f"layer_{n}", members),
    ]
    function = f"ec2t_mcu_depthwise_{kernel}_run{'' if fast else '_any'}"
    call = f"{function}(&layer_{n}, {entry}, {names.output}{after});"
    return Code(declarations, [call], table.flash + weights.size, "int8")


def _four_pixels(conv: Int8Conv, names: Names, entry: str) -> Code | None:
    """Four neighbouring pixels at a time, taps in runs of four neighbours or anywhere."""
    n = names.index
    count, _, rows, columns = conv.weights.shape
    if columns > 1 and conv.dilation[1] == 1:
        function = "ec2t_mcu_dense_conv_run"
        wide = columns + -columns % 4
        weights = np.zeros((count, rows, wide), np.int8)
        weights[..., :columns] = conv.weights[:, 0]
        where = [conv.offset(0, y, x) for y in range(rows) for x in range(0, wide, 4)]
        weights = weights.reshape(count, -1)
    else:
        function = "ec2t_mcu_gather_conv_run"
        where = [conv.offset(0, y, x) for y in range(rows) for x in range(columns)]
        where += [where[-1]] * (-len(where) % 4)
        weights = np.zeros((count, len(where)), np.int8)
        weights[:, : rows * columns] = conv.weights.reshape(count, -1)
    if max(where) > 0xFFFF:
        return None
    table = channel_table(n, conv.biases, conv.multipliers)
    declarations = [
        array("uint16_t", f"taps_{n}", where),
        table.declaration,
        array("int8_t", f"weights_{n}", weights),
        struct(
            "dense_conv",
            f"layer_{n}",
            {
                **_members(conv, n, table),
                "taps": f"taps_{n}",
                "tap_count": weights.shape[1],
            },
        ),
    ]
    call = f"{function}(&layer_{n}, {entry}, {names.output});"
    flash = 2 * len(where) + weights.size + table.flash
    return Code(declarations, [call], flash, "int8")
