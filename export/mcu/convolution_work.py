"""How much each kernel call of a convolution does: see `work`."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from . import depthwise_helium, dot_conv, masked_conv, panels
from .code import Code
from .cores import Core
from .int8_conv import Int8Conv
from .lists import as_ternary
from .tiling import Tiling, tiling


def of_convolution(
    core: Core, kernel: str, conv: Int8Conv, code: Code
) -> tuple[str, dict[str, int]]:
    """Its name in the table of costs, and what it does beside what its maps ask for."""
    count = len(conv.weights)
    out, taps = conv.out, conv.weights[0].size
    rows, columns = out.height, out.width
    stride = conv.strides[1]
    limited = int(conv.limits != (-128, 127))
    if core.family == "swar":  # one limit after the other
        limited = (conv.limits[0] > -128) + (conv.limits[1] < 127)
    # Where the border is written afterwards, a plane is limited as one row.
    whole_plane = kernel not in ("dense_conv", "gather_conv") and rows * out.pitch <= 0xFFFF
    whole_plane &= core.family == "swar" or kernel != "list_conv"
    lines, line = (count, rows * out.pitch) if whole_plane else (count * rows, columns)
    pixels = {
        "limited words": limited * lines * (line // 4),
        "limited rest": limited * lines * (line % 4),
        "limited lines": limited * lines,
    }
    if core.family == "helium":  # sixteen at once, of a row or (dot products) of a plane
        dot = kernel in ("dot_conv", "masked_conv")
        line, lines = (rows * out.pitch, count) if dot else (columns, count * rows)
        pixels = {
            "limited": limited * lines * -(-line // 16),
            "limited lines": limited * lines,
        }
    rest = count * rows * (columns % 4)  # pixels of tiles that are not full
    if kernel == "list_conv":
        ternary = as_ternary(conv.weights.reshape(count, -1))
        listed = int((ternary.symbols != 0).sum()) if ternary is not None else 0
        t = tiling(core, conv)
        tiles = t.count * t.across
        how = next((w for w in ("gaps", "Rice") if w in code.note), "distances")
        # Cores that need aligned words have assembly for groups that are neighbours.
        g, step = t.in_group, 4 * stride
        whole = not core.aligned or g == [0, step, 2 * step, 3 * step]
        halves = not whole and g[1] == step and g[3] - g[2] == step
        parts = [0, g[2]] if halves else [0]  # that are loaded by themselves
        at = _places(conv, code, t, parts) if core.aligned else [0, 0, 0, 0]
        turns = count * (t.count if t.across > 1 else 1)
        if code.tile.startswith("EC2T_MCU_TILE_BY_PLACE"):  # one row for all ways to keep them
            of = "tiles" if whole else "halves"
            return f"list_conv by place {stride}", pixels | {
                **{f"{of} {place}": number for place, number in enumerate(at)},
                of: count * tiles,
                f"parts of {of}": _parts(conv) * tiles * len(parts),
                f"listed {how}": listed,
                f"channels {how}": count,
                "taps": 0 if how == "distances" else taps,
                "turns": turns,
            }
        aligned = sum(at[:stride])
        return f"list_conv {how} {stride}", pixels | {
            "tiles": count * tiles,
            "listed in tiles": listed * tiles - aligned if whole else 0,
            "listed in halves": 2 * listed * tiles - aligned if halves else 0,
            "listed in fours": 0 if whole or halves else listed * tiles,
            "aligned in tiles": aligned if whole else 0,
            "aligned in halves": aligned if halves else 0,
            "listed": listed,
            "taps": taps,
            "turns": turns,
        }
    if kernel == "panel_conv":
        of_taps = panels.taps_of(conv)
        steps = len(of_taps.steps)
        alike = columns - columns % 4 if columns % 4 else columns
        straight = rows * (alike // 4) if stride == 1 else 0
        total = -(-rows * columns // 4)
        entries = panels.entry_counts(conv)
        return kernel, pixels | {
            "panels": total,
            **{
                f"{what}{how}": panels_of * amount
                for how, panels_of in ((" straight", straight), ("", total - straight))
                for what, amount in (
                    ("runs", len(of_taps.runs)),
                    ("doubles", len(of_taps.threes) // 2),
                    ("pairs", len(of_taps.singles) // 2),
                )
            },
            "entries": total * sum(entries),
            "steps": total * sum(entries) * steps,
            "exact": total * entries[1],
        }
    if kernel.startswith("depthwise_helium"):
        lines, turns = depthwise_helium.turns(conv)
        return kernel, pixels | {
            "tiles": count * lines * turns,
            "rows of tiles": count * lines * turns * conv.kernel[0],
            "lines": count * lines,
            "weights": count * conv.kernel[0],
        }
    if kernel.startswith(("depthwise_five", "depthwise_seven")):
        turns, lines = -(-columns // 4), rows
        if conv.unit and conv.source.pitch == out.pitch:  # perhaps as one row
            flat = -(-((rows - 1) * out.pitch + columns) // 4)
            turns, lines = (flat, 1) if flat < rows * turns else (turns, lines)
        return kernel, pixels | {
            "tiles": count * lines * turns,
            "rows of tiles": count * lines * turns * conv.kernel[0],
            "lines": count * lines,
            "weights": count * conv.kernel[0],
        }
    if kernel.startswith("depthwise_conv"):
        turns, lines = -(-columns // (4 if stride == 1 else 2)), rows
        if conv.strides == (1, 1) and conv.source.pitch == out.pitch:  # perhaps as one row
            flat = -(-((rows - 1) * out.pitch + columns) // 4)
            turns, lines = (flat, 1) if 8 * flat < rows * (8 * turns + 1) else (turns, lines)
        return f"{kernel} {stride}", pixels | {
            "tiles": count * lines * turns,
            "lines": count * lines,
        }
    if kernel in ("dense_conv", "gather_conv"):
        tiles = count * rows * -(-columns // 4)
        width = -(-conv.kernel[1] // 4) * 4
        wide = conv.kernel[0] * width if kernel == "dense_conv" else -(-taps // 4) * 4
        return f"{kernel} {stride}", pixels | {
            "tiles": tiles,
            "taps": tiles * wide,
            "rest": rest,
            "not full": count * rows * (columns % 4 > 0),
        }
    if kernel == "whole_depthwise":
        return kernel, pixels | {"taps": count * taps, "chunks": count * -(-taps // 4)}
    if kernel == "whole_fours":
        slow = conv.depth_multiplier > 1 or taps > 16
        return kernel, {
            "fours": 0 if slow else count // 4,
            "apart": count if slow else count % 4,
            "chunks": count * -(-taps // 16) if slow else 0,
        }
    if kernel in ("dot_conv", "masked_conv"):
        return _dot(kernel, conv, code, pixels)
    return _tiled(core, kernel, conv, code, pixels)


def _places(conv: Int8Conv, code: Code, tiles: Tiling, parts: list[int]) -> list[int]:
    """Entries of lists times tiles, by the place of the first pixel in its word. At place 0, at a
    stride of 2 at 1 too, pixels are not split over words. `parts`: where pixels that are loaded
    together begin in a tile."""
    text = "\n".join(code.statements)
    place = re.search(r"&layer_\d+, \(arena \+ (\d+)\)(?: - (\d+))?", text)
    entry = int(place[1]) - int(place[2] or 0) if place else 0
    *_, offsets = _entries(conv)
    rows = np.arange(tiles.count) * tiles.in_row_step
    starts = np.bincount(np.add.outer(rows, parts).reshape(-1) % 4, minlength=4)
    taps = np.bincount((entry + offsets) % 4, minlength=4)
    return [
        tiles.across * sum(int(taps[a] * starts[(place - a) % 4]) for a in range(4))
        for place in range(4)
    ]


def _entries(conv: Int8Conv) -> tuple[npt.NDArray[np.int64], ...]:
    """Output channel, sign and byte offset of every weight that is not 0."""
    channel, depth, y, x = np.nonzero(conv.weights)
    sign = conv.weights[channel, depth, y, x] > 0
    if conv.depth_multiplier:
        depth = channel // conv.depth_multiplier
    row = depth * conv.source.plane + y * conv.dilation[0] * conv.source.pitch
    return channel, sign.astype(np.int64), row + x * conv.dilation[1]


def _parts(conv: Int8Conv) -> int:
    """Lists by place: loops that have an entry, of all channels and signs."""
    channel, sign, offsets = _entries(conv)
    return len(np.unique((channel * 2 + sign) * 4 + offsets % 4))


def _dot(
    kernel: str, conv: Int8Conv, code: Code, pixels: dict[str, int]
) -> tuple[str, dict[str, int]]:
    plan = dot_conv.plan(conv)
    assert plan is not None
    out = conv.out
    pairs = -(-len(conv.weights) // 2)
    masked = kernel == "masked_conv"
    parts = -(-len(conv.weights) // masked_conv.TOGETHER) if masked else 1  # each copies anew
    runs = plan.rows * plan.chunks if plan.windows else 1
    if plan.windows:
        tiles = out.height * -(-out.width // 4)
        copied_rows = ((out.height - 1) * conv.strides[0] + plan.rows) * plan.chunks
    else:
        strips = -(-out.height // plan.strip)
        tiles = strips * -(-plan.strip * out.width // 4)
        copied_rows = strips * plan.strip
    together = 16 if plan.step <= 17 and plan.columns > 8 else 8
    bytes_each = plan.step if plan.windows else conv.weights[0].size
    # Of the tile: blocks unrolled, turns of a loop over them, whether multipliers may be any.
    *_, turns, exact = (int(v) for v in re.findall(r"\d+", code.tile.partition(",")[2]))
    decoded = {
        "parts": parts,
        "masks": 2 * pairs * runs * plan.blocks,
        "signs": int(np.count_nonzero(conv.weights)),
    }
    return f"{kernel}{' any' if exact else ''}", pixels | (decoded if masked else {}) | {
        "turns": tiles * pairs * runs * turns if turns > 1 else 0,
        "tiles": parts * tiles,
        "runs of tiles": parts * tiles * runs,
        "pairs": tiles * pairs,
        "runs": tiles * pairs * runs,
        "blocks": tiles * pairs * runs * plan.blocks,
        "rows copied": parts * copied_rows,
        "pixels": 0 if plan.windows else parts * tiles,
        "copied": parts * copied_rows * -(-plan.columns // together) * bytes_each,
        "odd": tiles * (len(conv.weights) % 2),
    }


def _tiled(
    core: Core, kernel: str, conv: Int8Conv, code: Code, pixels: dict[str, int]
) -> tuple[str, dict[str, int]]:
    """Tiles of dense_tile.h; their shape stands in the tile's macro."""
    count = len(conv.weights)
    if core.family == "helium":
        t = tiling(core, conv, 4)
        tiles = count * t.count * t.across
        return f"{kernel} {conv.strides[1]}", pixels | {
            "tiles": tiles,
            "taps": tiles * conv.weights[0].size,
        }
    width, run, stride = (int(v) for v in re.findall(r"\d+", code.tile.partition(",")[2]))
    down, across = conv.out.height, conv.out.width
    if conv.unit and conv.source.pitch == conv.out.pitch:
        row = (conv.out.height - 1) * conv.out.pitch + conv.out.width
        if -(-row // width) < down * -(-across // width):
            down, across = 1, row
    tiles = count * down * -(-across // width)
    rows = conv.weights.shape[1] * conv.kernel[0]
    runs = tiles * rows * -(-conv.kernel[1] // run)
    if run == 1:
        runs = tiles * -(-conv.weights[0].size // 4) * 4
    return f"{kernel} {'single' if run == 1 else 'runs'}", pixels | {
        "tiles": tiles,
        "sums": count * down * across,
        "runs": runs,
        "taps of runs": runs * run,
        "loads": runs * (run + (width - 1) * stride),
        "products": runs * run * width,
    }
