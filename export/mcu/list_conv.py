"""Ternary convolutions by lists of taps: how the lists are kept, and the kernel call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .channels import channel_table
from .code import Code, Names, array, struct
from .cores import Core
from .int8_conv import Int8Conv
from .lists import LARGEST_DISTANCE, Ternary, best_rice_parameter, distances, offsets, rice
from .tiling import tiling

SOURCES = ("list_conv.c", "gap_list.c")
# Below so many output pixels a decoded list is not used often enough to pay for its decoding.
RICE_PIXELS = 16
LARGEST_GAP = 0xFF  # taps from a weight to the next that a byte holds
MOST_GAP_TAPS = 0xF000  # the running sum of gaps has 16 bits
_DISTANCES, _RICE, _GAPS = (f"EC2T_MCU_ENCODING_{n}" for n in ("DISTANCES", "RICE", "GAPS"))


@dataclass(frozen=True)
class Lists:
    """The lists of all channels as a C array."""

    type_name: str
    values: npt.NDArray
    encoding: str
    note: str
    rice_k: int = 0
    bits: int = 0  # of the stream
    by_place: bool = False  # the taps in the order of their offsets' place in a word: list_places.h


def tiles_of(core: Core, conv: Int8Conv) -> int:
    """Tiles of a plane, before layouts are settled."""
    out = conv.out
    t = tiling(core, conv)
    if not conv.unit:
        return t.count * t.across
    # Perhaps as one row, with a border of one column.
    length = (out.height - 1) * (out.width + 1) + out.width
    return min(t.count * t.across, -(-length // (4 * core.group)))


def _taps(conv: Int8Conv) -> list[int]:
    """Byte offsets of one channel's kernel positions."""
    rows, columns = conv.kernel
    return [conv.offset(0, y, x) for y in range(rows) for x in range(columns)]


def _by_place(
    core: Core, conv: Int8Conv, symbols: npt.NDArray[np.int8], where: npt.NDArray[np.int64]
) -> bool:
    """Whether lists by place can be, and take fewer instructions (counts in QEMU): they save 13
    of a tap (17 at a stride of 2), on the average of all places, and cost 200 (50) of a tile."""
    stride = conv.strides[1]
    if not (core.by_place and tiling(core, conv).in_runs(stride)):
        return False
    if where.max(initial=0) > LARGEST_DISTANCE or len(np.unique(where % 4)) == 1:
        return False
    taps = int(np.count_nonzero(symbols)) / len(symbols)
    return taps * 17 > 50 if stride == 2 else taps * 13 > 200


def make_lists(core: Core, optimize: str, conv: Int8Conv, ternary: Ternary) -> Lists | None:
    """None where offsets do not fit."""
    symbols = ternary.symbols
    planes = np.arange(conv.weights.shape[1])[:, None] * conv.source.plane
    where = (planes + np.array(_taps(conv))[None]).reshape(-1)
    # Offsets must grow along the list: with a border narrower than the kernel they would not.
    if np.any(np.diff(where) < 0):
        return None
    by_place = _by_place(core, conv, symbols, where)
    if by_place:  # see tap_offsets of list_conv.c
        order = np.argsort(-where % 4, kind="stable")
        symbols, where = symbols[:, order], where[order]
    plain = offsets(symbols, where) if by_place else distances(symbols, where)
    if plain is None:
        return None
    few = conv.out.height * conv.out.width < RICE_PIXELS
    if optimize == "speed" or (optimize == "balanced" and few):
        if core.family == "helium":
            plain = _even(plain, symbols)
        note = "offsets" if by_place else "distances"
        return Lists("uint16_t", plain, _DISTANCES, note, by_place=by_place)
    if optimize == "balanced" and symbols[0].size < MOST_GAP_TAPS:
        places = [np.flatnonzero(r == v) for r in symbols for v in (-1, 1)]
        flat = np.concatenate([np.diff(p, prepend=0) for p in places])
        if flat.max(initial=0) <= LARGEST_GAP:
            if core.family == "helium":  # takes low bytes: see ec2t_mcu_gap_list
                flat = np.concatenate(places)
            stream = (flat & 0xFF).astype(np.uint8)
            return Lists("uint8_t", stream, _GAPS, "gaps", bits=8 * flat.size, by_place=by_place)
    k = best_rice_parameter(symbols)
    stream, bits = rice(symbols, k)
    return Lists("uint8_t", stream, _RICE, f"Rice k={k}", k, bits, by_place)


def _even(
    distances: npt.NDArray[np.uint16], symbols: npt.NDArray[np.int8]
) -> npt.NDArray[np.uint16]:
    """With a halfword before each list of odd length: Helium loads four distances at once."""
    counts = np.array([[(r == v).sum() for v in (-1, 1)] for r in symbols]).reshape(-1)
    starts = np.cumsum(counts) - counts
    return np.insert(distances, starts[counts % 2 == 1], 0)


def scratch(core: Core, lists: Lists, ternary: Ternary) -> int:
    """Bytes of scratch."""
    if lists.encoding == _DISTANCES:
        return 0
    most = int(np.count_nonzero(ternary.symbols, axis=1).max(initial=0))
    taps = 2 * ternary.symbols.shape[1]
    if lists.encoding == _GAPS:  # both lists are written eight at a time
        return 2 * (most + 14) + taps
    return 4 * most + taps + (4 if core.family == "helium" else 0)


def list_code(
    core: Core, conv: Int8Conv, ternary: Ternary, lists: Lists, names: Names, entry: str
) -> Code:
    """The kernel call; `entry` is the address of the first tap under the first output pixel."""
    n = names.index
    taps = _taps(conv)
    minus_count = (ternary.symbols == -1).sum(axis=1)
    plus_count = (ternary.symbols == 1).sum(axis=1)
    t = tiling(core, conv)
    numbers = [*t.in_group[1:], conv.strides[1], *t.out_group[1:]]
    tile = ("places_" if lists.by_place else "tile_") + "_".join(map(str, numbers))
    macro = "EC2T_MCU_TILE_BY_PLACE" if lists.by_place else "EC2T_MCU_TILE"
    groups = ", ".join(map(str, t.out_group))
    zeros = float((ternary.symbols == 0).mean())
    zero_point = conv.source.zero_point
    table = channel_table(n, conv.biases, conv.multipliers, ternary=ternary, zero_point=zero_point)
    decoder = "ec2t_mcu_gap_offsets" if lists.by_place else "ec2t_mcu_gap_list"
    more = {"by_place": 1} if lists.by_place else {}
    return Code(
        [
            array("uint16_t", f"taps_{n}", taps),
            table.declaration,
            array(
                lists.type_name,
                f"weights_{n}",
                lists.values,
                aligned=4 if core.family == "helium" and lists.encoding == _DISTANCES else 0,
            ),
            struct(
                "list_conv",
                f"layer_{n}",
                {
                    "in": conv.source.c(),
                    "out": conv.out.c(),
                    "channels": table.member,
                    "weights": f"weights_{n}",
                    "taps": f"taps_{n}",
                    "tap_count": len(taps),
                    "most": int((minus_count + plus_count).max(initial=0)),
                    "encoding": lists.encoding,
                    "rice_k": lists.rice_k,
                    "depthwise": conv.depth_multiplier,
                    "stream_bits": lists.bits,
                    "tile_count": t.count,
                    "tiles_across": t.across,
                    "in_row_step": t.in_row_step,
                    "in_tile_step": t.in_tile_step,
                    "out_row_step": t.out_row_step,
                    "out_tile_step": t.out_tile_step,
                    "clamp": conv.clamp,
                    "out_group": f"{{{groups}}}",
                    "sums": f"{tile}_sums",
                    "fast": f"EC2T_MCU_TILE_FAST({tile})",
                    "gap_list": decoder if lists.encoding == _GAPS else "0",
                }
                | more,
            ),
        ],
        [
            f"status = ec2t_mcu_list_conv_run(&layer_{n}, {entry}, {names.output}, "
            f"{names.scratch});",
            "if (status != EC2T_MCU_OK) return status;",
        ],
        2 * len(taps) + table.flash + lists.values.nbytes,
        f"ternary, {100 * zeros:.0f} % zeros, {lists.note}",
        f"{macro}({tile}, {', '.join(map(str, numbers))})",
    )
