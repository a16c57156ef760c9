"""Int8 convolutions in tiles: on SWAR cores, and on M55 where dot products do not fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .channels import channel_table
from .code import Code, Names, array, struct
from .cores import Core
from .int8_conv import Int8Conv
from .plan import Layout
from .tiling import tiling
from .weights import stored_biases

SOURCES = ("tiled_conv.c",)
GROUP = 4  # neighbouring pixels of a Helium tile
SINGLE_TAPS = 4  # taps by themselves come in fours


def tiled_code(core: Core, conv: Int8Conv, names: Names, entry: str) -> Code | None:
    """The kernel call; None where offsets do not fit, or the horizontal stride is over 2."""
    if conv.strides[1] > 2:
        return None
    n = names.index
    count = len(conv.weights)
    where, rows, tile, after = _tiles(core, conv)
    if max(where) > 0xFFFF:
        return None
    stored = stored_biases(core, conv.biases, conv.weights.reshape(count, -1))
    table = channel_table(n, stored, conv.multipliers)
    return Code(
        [
            array("uint16_t", f"taps_{n}", where),
            table.declaration,
            array("int8_t", f"weights_{n}", rows),
            struct(
                "tiled_conv",
                f"layer_{n}",
                {
                    "in": conv.source.c(),
                    "out": conv.out.c(),
                    "channels": table.member,
                    "weights": f"weights_{n}",
                    "taps": f"taps_{n}",
                    "tap_count": rows.shape[1],
                    "stride_x": conv.strides[1],
                    "depth_multiplier": conv.depth_multiplier,
                    "clamp": conv.clamp,
                    **after,
                },
            ),
        ],
        [f"ec2t_mcu_tiled_conv_run(&layer_{n}, {entry}, {names.output});"],
        2 * len(where) + rows.size + table.flash,
        "int8",
        tile,
    )


def _tiles(
    core: Core, conv: Int8Conv
) -> tuple[list[int], npt.NDArray[np.int8], str, dict[str, object]]:
    """Taps, weights, tile and members of an ec2t_mcu_tiled_conv that depend on the core."""
    grid, layout = conv.weights, conv.source
    strides, dilation = conv.strides, conv.dilation
    count, _, _, kernel_w = grid.shape
    if core.family == "helium":
        offsets = np.array(_offsets(grid.shape, dilation, layout))
        order = np.argsort(offsets, kind="stable")  # distances are not negative
        where = np.diff(offsets[order], prepend=0).tolist()
        rows = np.ascontiguousarray(grid.reshape(count, -1)[:, order])
        t = tiling(core, conv, GROUP)
        numbers = [*t.in_group[1:3], strides[1], *t.out_group[1:]]
        tile = "dense_tile_" + "_".join(map(str, numbers))
        groups = [f"{{{', '.join(map(str, g))}}}" for g in (t.in_group, t.out_group)]
        after: dict[str, object] = {
            "in_row_step": t.in_row_step,
            "in_tile_step": t.in_tile_step,
            "out_row_step": t.out_row_step,
            "out_tile_step": t.out_tile_step,
            "tile_count": t.count,
            "tiles_across": t.across,
            "in_group": groups[0],
            "out_group": groups[1],
            "tile": tile,
        }
    else:
        # Runs of up to five taps; longer rows in the pieces that waste least.
        run = kernel_w
        if dilation[1] > 1:
            run = 1
        elif kernel_w > 5:
            run = min((5, 4, 3), key=lambda r: kernel_w + -kernel_w % r)
        if run == 1:
            where = _offsets(grid.shape, dilation, layout)
            where += where[-1:] * (-len(where) % SINGLE_TAPS)
            rows = np.zeros((count, len(where)), np.int8)
            rows[:, : grid[0].size] = grid.reshape(count, -1)
        else:
            where, rows = _runs(grid, dilation[0], layout, run)
        pixels, (down, across) = _cover(core, conv, run)
        numbers = [pixels, run, strides[1]]
        tile = "dense_tile_" + "_".join(map(str, numbers))
        after = {
            "in_row_step": strides[0] * layout.pitch,
            "runs": len(where),
            "rows": down,
            "columns": across,
            "pixels": pixels,
            "sums": tile,
        }
    return where, rows, f"EC2T_MCU_DENSE_TILE({tile}, {', '.join(map(str, numbers))})", after


def _cover(core: Core, conv: Int8Conv, run: int) -> tuple[int, tuple[int, int]]:
    """Pixels of a tile, and the rows and columns of them that take the fewest instructions."""
    out, stride = conv.out, conv.strides[1]
    covers = [(out.height, out.width)]
    if conv.unit and conv.source.pitch == out.pitch:  # the plane as one row, borders included
        covers.append((1, (out.height - 1) * out.pitch + out.width))
    return min(
        (
            (n, cover)
            for n in core.pixels
            if run - 1 + (n - 1) * stride < core.reach
            for cover in covers
        ),
        key=lambda x: (x[1][0] * -(-x[1][1] // x[0]) * (core.tap_cost * x[0] + 2), x),
    )


def _offsets(shape: tuple[int, ...], dilation: tuple[int, int], layout: Layout) -> list[int]:
    """Byte offsets of the taps of weights [out, depth, rows, columns], in their order."""
    _, depth, kernel_h, kernel_w = shape
    return [
        c * layout.plane + y * dilation[0] * layout.pitch + x * dilation[1]
        for c in range(depth)
        for y in range(kernel_h)
        for x in range(kernel_w)
    ]


def _runs(
    grid: npt.NDArray[np.int8], dilation: int, layout: Layout, run: int
) -> tuple[list[int], npt.NDArray[np.int8]]:
    """Weights [out, depth, rows, columns] in runs of `run` neighbouring taps, some perhaps 0, and
    the runs' byte offsets."""
    count, depth, kernel_h, kernel_w = grid.shape
    wide = kernel_w + -kernel_w % run
    rows = np.zeros((count, depth, kernel_h, wide), np.int8)
    rows[..., :kernel_w] = grid
    offsets = [
        c * layout.plane + y * dilation * layout.pitch + x
        for c in range(depth)
        for y in range(kernel_h)
        for x in range(0, wide, run)
    ]
    return offsets, rows.reshape(count, -1)
