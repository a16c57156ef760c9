"""Int8 convolutions by dot products on Helium: their layout, cost and constants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .code import Code, Names, array, initialiser, struct
from .int8_conv import Int8Conv, fits_any, fits_fast

REACH = 508  # bytes a word load reaches
MOST_RUNS = 32  # runs of taps a tile reads (EC2T_MCU_DOT_RUNS)
BLOCK = 16  # taps a dot product takes
# Instructions: of a tile of eight outputs, of a run of it, of a block of sixteen taps, of what
# surrounds the tiles of four pixels, of copying eight bytes.
TILE_COST, RUN_COST, BLOCK_COST, PIXELS_COST, COPY_COST = 23, 3, 14, 60, 6
# The same of the list kernel: of a weight and of a channel in a tile of 32 pixels, of a channel.
LIST_WEIGHT, LIST_TILE, LIST_CHANNEL = 9.5, 62, 220
GAP_COST = 2.5  # of decoding a weight from its gap


@dataclass(frozen=True)
class Plan:
    """How a layer is laid out in scratch; see ec2t_mcu_dot_conv.

    Attributes:
        windows: Whether a pixel is one input pixel, else all that an output pixel sees.
        rows: Kernel rows a tile reads.
        chunks: Into how many parts the channels of a pixel are cut.
        blocks: Blocks of sixteen taps of a run.
        step: Bytes of a pixel (of a chunk) in scratch.
        columns: Pixels of a row in scratch.
        strip: Output rows of patches kept at once.
        cost: Instructions, about.
    """

    windows: bool
    rows: int
    chunks: int
    blocks: int
    step: int
    columns: int
    strip: int
    cost: int

    @property
    def together(self) -> int:
        """Pixels copied at once."""
        return 16 if self.step <= 17 and self.columns > 8 else 8

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (of a chunk) in scratch."""
        if not self.windows:
            return self.columns * self.step
        return self._copied * self.step

    @property
    def _copied(self) -> int:
        """Pixels of a row with those that are copied together with its last."""
        return self.columns if self.columns < 8 else self.columns + -self.columns % self.together

    @property
    def scratch(self) -> int:
        """Bytes of scratch."""
        if self.windows:
            return self.rows * self.chunks * self.row_bytes + 16
        return ((self.strip - 1) * self.columns + self._copied) * self.step + 16


def plan(conv: Int8Conv) -> Plan | None:
    """The cheaper of windows and patches; None if neither fits."""
    fits = [fits_any(b, m) for b, m in zip(conv.bounds().tolist(), conv.multipliers, strict=True)]
    if conv.depth_multiplier or not all(fits):
        return None
    plans = [p for p in (_windows(conv), _patches(conv)) if p is not None]
    return min(plans, key=lambda p: p.cost, default=None)


def _cost(conv: Int8Conv, tiles: int, runs: int, blocks: int, copied: int) -> int:
    pairs = -(-len(conv.weights) // 2)
    run = RUN_COST + BLOCK_COST * blocks + (3 if blocks > 6 else 0)
    return tiles * (pairs * (TILE_COST + runs * run) + PIXELS_COST) + COPY_COST * copied


def _windows(conv: Int8Conv) -> Plan | None:
    _, depth, high, wide = conv.weights.shape
    out, (down, across) = conv.out, conv.strides
    if conv.dilation != (1, 1) or out.width < 4:
        return None
    # The third pixel's distance from the first must be within reach.
    for chunks in range(1, MOST_RUNS // high + 1):
        step = -(-depth // chunks)
        step += -step % 4
        if 3 * across * step - BLOCK <= REACH:
            break
    else:
        return None
    if high * chunks == 1:
        return None  # patches are the same
    columns = (out.width - 1) * across + wide
    blocks = -(-wide * step // BLOCK)
    shape = Plan(True, high, chunks, blocks, step, columns, 1, 0)
    rows = (out.height - 1) * down + high
    copied = rows * -(-columns // shape.together) * step * chunks
    tiles = out.height * -(-out.width // 4)
    cost = _cost(conv, tiles, high * chunks, blocks, copied)
    return Plan(True, high, chunks, blocks, step, columns, 1, cost)


def _patches(conv: Int8Conv) -> Plan | None:
    taps = conv.weights[0].size
    out = conv.out
    step = taps + -taps % 4
    if step - BLOCK > REACH or out.height * out.width < 4:
        return None
    strip = next((s for s in (1, 2, 4) if s * out.width % 4 == 0), 4)
    strip = min(strip, out.height)
    if strip * out.width < 4:
        return None
    strips = -(-out.height // strip)
    copied = strips * strip * -(-out.width // 8) * taps
    blocks = -(-taps // BLOCK)
    cost = _cost(conv, strips * -(-strip * out.width // 4), 1, blocks, copied)
    return Plan(False, 1, 1, blocks, step, out.width, strip, cost)


def list_cost(symbols: npt.NDArray[np.int8], tiles: int, *, gaps: bool) -> int:
    """Instructions, about, of the list kernel of a ternary layer whose planes take `tiles` tiles of
    32 pixels."""
    count, weights = len(symbols), int(np.count_nonzero(symbols))
    cost = tiles * (LIST_WEIGHT * weights + LIST_TILE * count) + LIST_CHANNEL * count
    return round(cost + (GAP_COST * weights if gaps else 0))


def runs(conv: Int8Conv, p: Plan) -> tuple[list[int], npt.NDArray[np.int8]]:
    """Byte offsets of a pixel's bytes, chunk by chunk, and weights [channel, run, tap] in the same
    order; bytes that pad a chunk are copies without weight."""
    count, depth, high, wide = conv.weights.shape
    if not p.windows:
        where = [
            conv.offset(c, y, x) for c in range(depth) for y in range(high) for x in range(wide)
        ]
        order = np.argsort(where, kind="stable")  # distances are not negative
        rows = conv.weights.reshape(count, 1, -1)[:, :, order]
        return [where[i] for i in order], rows
    planes = p.step * p.chunks
    where = [min(c, depth - 1) * conv.source.plane for c in range(planes)]
    grid = np.zeros((count, planes, high, wide), np.int8)
    grid[:, :depth] = conv.weights
    grid = grid.reshape(count, p.chunks, p.step, high, wide).transpose(0, 3, 1, 4, 2)
    return where, grid.reshape(count, high * p.chunks, wide * p.step)


def _pairs(conv: Int8Conv) -> list[str]:
    """Initialisers of ec2t_mcu_dot_pair."""
    lines = []
    for i in range(0, len(conv.biases), 2):
        both = (i, min(i + 1, len(conv.biases) - 1))
        sums = ", ".join(str(conv.biases[c]) for c in both for _ in range(4))
        factors = [conv.multipliers[c] for c in both]
        scales = ", ".join(
            initialiser({"multiplier": m.multiplier, "shift": m.shift}) for m in factors
        )
        members: dict[str, object] = {"sums": f"{{{sums}}}", "scale": f"{{{scales}}}"}
        lines.append(f"    {initialiser(members)},")
    return lines


def in_pairs(rows: npt.NDArray[np.int8], p: Plan) -> npt.NDArray[np.int8]:
    """Weights [channel, run, tap] as the tile reads them, [pair, run, block, channel of the pair,
    16]; runs padded with zeros, the last of an odd number of channels twice."""
    count = len(rows)
    wide = np.zeros((count + count % 2, rows.shape[1], p.blocks * BLOCK), np.int8)
    wide[:count, :, : rows.shape[2]] = rows
    wide[count:] = wide[count - 1]
    pairs = wide.reshape(-1, 2, rows.shape[1], p.blocks, BLOCK).transpose(0, 2, 3, 1, 4)
    return np.ascontiguousarray(pairs)


def tile_of(conv: Int8Conv, p: Plan) -> tuple[str, str]:
    """Name and macro of the tile."""
    unroll = max(u for u in range(1, 7) if p.blocks % u == 0)
    fits = zip(conv.bounds().tolist(), conv.multipliers, strict=True)
    numbers = [
        p.step * (conv.strides[1] if p.windows else 1),
        2 if p.rows * p.chunks > 1 else 1,
        unroll,
        p.blocks // unroll,
        int(not all(fits_fast(b, m) for b, m in fits)),
    ]
    tile = "dot_tile_" + "_".join(map(str, numbers))
    return tile, f"EC2T_MCU_DOT_TILE({tile}, {', '.join(map(str, numbers))})"


def members(conv: Int8Conv, p: Plan, *, size: int, pair_bytes: int) -> dict[str, object]:
    """Of an ec2t_mcu_dot_conv but pairs, weights and distances; `size`: bytes of a pixel (of a
    chunk) that are copied."""
    return {
        "in": conv.source.c(),
        "out": conv.out.c(),
        "pair_bytes": pair_bytes,
        "row_bytes": p.row_bytes,
        "bytes": size,
        "step": p.step,
        "columns": p.columns,
        "row_step": conv.source.pitch * (1 if p.windows else conv.strides[0]),
        "windows": int(p.windows),
        "rows": p.rows,
        "chunks": p.chunks,
        "strip": p.strip,
        "copy_stride": 1 if p.windows else conv.strides[1],
        "stride_y": conv.strides[0],
        "stride_x": conv.strides[1],
        "clamp": conv.clamp,
        "tile": tile_of(conv, p)[0],
    }


def too_far(conv: Int8Conv, p: Plan) -> bool:
    """Whether an output pixel lies beyond 16 bits."""
    return conv.out.plane + p.strip * conv.out.pitch > 0xFFFF or p.step > 0xFFFF


def dot_code(conv: Int8Conv, p: Plan, names: Names, entry: str) -> Code | None:
    """The kernel call; None where an input byte, or an output pixel, lies too far. `entry` is the
    address of the first tap under the first output pixel."""
    n = names.index
    where, rows = runs(conv, p)
    if max(where) > 0xFFFF or too_far(conv, p):
        return None
    size = len(where) // p.chunks
    distances: list[int] = []
    for first in range(0, len(where), size):
        chunk = where[first : first + size]
        distances += [chunk[0], *(b - a for a, b in pairwise(chunk))]
    packed = in_pairs(rows, p)
    declarations = [
        array("uint16_t", f"distances_{n}", distances),
        f"static const ec2t_mcu_dot_pair pairs_{n}[] = {{",
        *_pairs(conv),
        "};",
        array("int8_t", f"weights_{n}", packed),
        struct(
            "dot_conv",
            f"layer_{n}",
            {
                **members(conv, p, size=size, pair_bytes=packed[0].size),
                "pairs": f"pairs_{n}",
                "weights": f"weights_{n}",
                "distances": f"distances_{n}",
            },
        ),
    ]
    call = (
        f"ec2t_mcu_dot_conv_run(&layer_{n}, {entry}, {names.output}, (uint8_t *){names.scratch});"
    )
    flash = 2 * len(distances) + 48 * len(packed) + packed.size
    return Code(declarations, [call], flash, "int8, dot products", tile_of(conv, p)[1])
