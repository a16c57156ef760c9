"""How much each kernel call of a net does, in the amounts that its instructions are proportional
to: what the table of costs is fitted to, and what an estimate multiplies by it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import depthwise_helium, dot_conv, masked_conv, panels
from .code import Code
from .cores import Core
from .int8_conv import Int8Conv
from .lists import as_ternary
from .plan import Layout
from .row_copy import RowCopy
from .tiling import Tiling, tiling


@dataclass(frozen=True)
class Dense:
    """A layer whose outputs each see all inputs.

    Attributes:
        inputs, outputs: How many.
        listed: Weights in lists.
        rows: Times that it runs.
        once: Whether it rounds once.
    """

    inputs: int
    outputs: int
    listed: int
    rows: int
    once: bool


@dataclass(frozen=True)
class Window:
    """A pooling: rows and columns that an output sees, columns to the next, and what of them."""

    size: tuple[int, int]
    stride: int
    maximum: bool


_BORDERS = ("border", "bordered rows", "wide border", "border eights", "border planes")
_OF_PAIRS = ("sum", "difference", "product", "squared_difference", "maximum", "minimum", "prelu")
_MOST_SCATTERED = 17  # channels that Helium copies from and to NHWC by vectors
Facts = Int8Conv | Dense | Window | RowCopy | None


@dataclass(frozen=True)
class Work:
    """One kernel call.

    Attributes:
        kernel: Its name in the table of costs.
        amounts: What it does, by name; those of one kernel have the same names.
        macs: Multiply-accumulates, zeros counted too.
    """

    kernel: str
    amounts: dict[str, int]
    macs: int = 0


def work_of(core: Core, facts: Facts, code: Code, inputs: list[Layout], out: Layout) -> Work:
    """That of a step with these layouts."""
    text = "\n".join(code.statements)
    calls = re.findall(r"ec2t_mcu_(\w+?)(?:_run(_any)?)?\(&?(?:layer|move|table)", text)
    kernel = "".join(calls[0]) if calls else "none"
    amounts = _of_maps(inputs, out)
    macs = 0
    if isinstance(facts, Int8Conv):
        macs = out.height * out.width * facts.weights.size
        kernel, more = _convolution(core, kernel, facts, code)
        amounts = {k: amounts[k] for k in (*_BORDERS, "call", "channels", "rows")} | more
    elif isinstance(facts, Dense):
        macs = facts.rows * facts.outputs * facts.inputs
        moved = 0 if inputs[0].contiguous else amounts["inputs"]
        kernel, amounts = _dense(kernel, facts, amounts, moved)
    elif isinstance(facts, Window):
        kernel, amounts = _pool(kernel, facts, amounts, out)
    elif isinstance(facts, RowCopy):
        kernel += " framed" if facts.writes_border else ""
        kept = ("call", *(_BORDERS if facts.writes_border else ()))
        amounts = {k: amounts[k] for k in kept} | {
            "channels": facts.source.channels,
            "runs": facts.runs,
            "words": facts.runs * (facts.width // 4),
            "bytes": facts.runs * (facts.width % 4),
            "chunks": facts.runs * -(-facts.width // 16),
        }
    elif kernel == "move":
        more = _moves(code)
        amounts = {k: amounts[k] for k in (*_BORDERS, "call", "channels", "rows")} | more
        if more.pop("filled"):
            kernel, amounts["bytes"] = "fill and move", out.channels * out.plane
    elif kernel in _OF_PAIRS:
        more = _moves(code)
        amounts = {k: amounts[k] for k in (*_BORDERS, "call", "channels", "rows")}
        amounts |= {"loops": more["loops"], "elements": more["strided"] + more["alike"]}
    elif kernel in ("normalise", "matmul"):
        amounts = {k: amounts[k] for k in (*_BORDERS, "call")} | _rows(kernel, code)
    elif kernel == "slide":
        by_rows = ".rows = 0," not in "".join(code.declarations)
        at_once = out.plane == out.height * out.pitch and (by_rows or out.height == 1)
        kernel += " at once" if at_once else " by rows" if by_rows else " by columns"
        if at_once:
            amounts = _slides(inputs[0], out, by_rows=by_rows)
    if "binary" in kernel or "add" in kernel:
        kernel += f" {len(inputs)}"
    return Work(kernel, amounts, macs)


def borders(core: Core, which: str, layout: Layout) -> Work:
    """The copy of an input of the net to its layout, or of an output from there."""
    planes, rows, width, step = layout.channels, layout.height, layout.width, layout.channels
    if layout.plane == 1:
        planes, width, step = 1, layout.channels, 1
    elif layout.pitch == layout.width:
        rows, width = 1, layout.height * layout.width
    runs, of_maps = planes * rows, _of_maps([layout], layout)
    amounts = {k: of_maps[k] for k in _BORDERS} | {"call": 1, "planes": planes, "runs": runs}
    if core.family == "helium" and step <= _MOST_SCATTERED:
        more = {"vectors": runs * (width // 16), "long": runs * (width >= 16)}
        return Work(f"{which} by vectors", amounts | more)
    more = {"fours": runs * (width // 4), "long": runs * (width >= 4)}
    more |= {"single": runs * (width % 4), "some": runs * bool(width % 4)}
    return Work(which, amounts | more)


def _of_maps(inputs: list[Layout], out: Layout) -> dict[str, int]:
    """Amounts of any kernel."""
    behind = out.channels * (out.plane - out.height * out.width) + out.lead
    return {
        "call": 1,
        "channels": out.channels,
        "rows": out.channels * out.height,
        "words": out.channels * out.height * -(-out.width // 4),
        "elements": out.channels * out.height * out.width,
        "inputs": sum(x.channels * x.height * x.width for x in inputs),
        "input rows": sum(x.channels * x.height for x in inputs),
        "border": 0 if out.contiguous else behind,
        "wide border": (
            out.channels * out.height * (out.pitch - out.width) if out.pitch > out.width + 1 else 0
        ),
        # Helium writes borders down the columns, eight rows at once, then whole rows.
        "border eights": out.channels * -(-out.height // 8) * (out.pitch - out.width),
        "border planes": 0 if out.contiguous else out.channels,
        "sixteens": out.channels * out.height * -(-out.width // 16),
        "bordered rows": out.channels * out.height if out.pitch > out.width else 0,
    }


def _slides(new: Layout, window: Layout, *, by_rows: bool) -> dict[str, int]:
    """Of a window that moves in one piece and takes `new` values."""
    by = new.height * window.pitch if by_rows else new.width
    moved = window.channels * window.plane - by
    pixel = (new.height, new.width, new.plane) == (1, 1, 1)
    return {
        "call": 1,
        "moved": moved,
        "sixty-fours": moved // 64,
        "sixteens": moved % 64 // 16,
        "thirty-twos": moved // 32,
        "words": moved % 32 // 4,
        "bytes": moved % 4,
        "scattered": new.channels // 8 if pixel else 0,
        "fours": new.channels // 4 if pixel else 0,
        "ones": new.channels % 4 if pixel else 0,
        "new channels": 0 if pixel else new.channels,
        "new rows": 0 if pixel else new.channels * new.height,
        "new": 0 if pixel else new.channels * new.height * new.width,
    }


def _convolution(core: Core, kernel: str, conv: Int8Conv, code: Code) -> tuple[str, dict[str, int]]:
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


def _pool(
    kernel: str, facts: Window, amounts: dict[str, int], out: Layout
) -> tuple[str, dict[str, int]]:
    high, wide = facts.size
    if kernel != "pool" and "helium" not in kernel:
        amounts = {k: amounts[k] for k in (*_BORDERS, "call", "channels", "rows", "elements")}
    if kernel in ("pool_maxima", "pool_means"):
        groups = amounts["rows"] * -(-out.width * facts.stride // 4)
        loads = wide if facts.stride == 1 else -(-wide // 2)
        two = " of two columns" if facts.stride == wide == 2 else ""
        return f"{kernel} {facts.stride}{two}", amounts | {
            "groups": groups,
            "group rows": groups * high,
            "loads": groups * high * loads,
            "rest": amounts["rows"] * (out.width % (4 // facts.stride)),
        }
    if kernel == "pool_inside":
        amounts["window rows"] = amounts["elements"] * high
    amounts["seen"] = amounts["elements"] * high * wide
    return f"{kernel} {'max' if facts.maximum else 'average'}", amounts


def _dense(
    kernel: str, facts: Dense, maps: dict[str, int], moved: int
) -> tuple[str, dict[str, int]]:
    kernel += " once" if facts.once else ""
    amounts = {
        "call": 1,
        "outputs": facts.rows * facts.outputs,
        "border": maps["border"],
        "moved": moved,
    }
    if facts.listed:
        return f"{kernel} lists", amounts | {"listed": facts.rows * facts.listed}
    eights, pairs = facts.outputs // 8, -(-(facts.outputs % 8) // 2)
    words = -(-facts.inputs // 8)
    return kernel, amounts | {
        "eights": facts.rows * eights,
        "words of eights": facts.rows * eights * words,
        "pairs": facts.rows * pairs,
        "words of pairs": facts.rows * pairs * words,
        "fours": facts.rows * -(-facts.outputs // 4),
        "products": facts.rows * -(-facts.outputs // 4) * facts.inputs,
        "chunks": facts.rows * -(-facts.outputs // 4) * -(-facts.inputs // 16),
        "halves": facts.rows * -(-facts.outputs // 2),
        "products of halves": facts.rows * -(-facts.outputs // 2) * facts.inputs,
    }


def _moves(code: Code) -> dict[str, int]:
    """Innermost loops and elements of walks that copy, from their tables of axes."""
    loops = elements = alike = moves = 0
    for table in re.findall(
        r"ec2t_mcu_axis axes_\w+\[\] = \{(.*?)\};", "\n".join(code.declarations)
    ):
        sizes = [int(n) for n in re.findall(r"\.size = (\d+)u", table)]
        last = re.findall(r"\.step = \{([^}]*)\}", table)[-1]
        total = math.prod(sizes)
        moves += 1
        loops += total // sizes[-1]
        if [v.strip() for v in last.split(",")] == ["1", "1"]:
            alike += total
        else:
            elements += total
    filled = any("ec2t_mcu_fill(" in line for line in code.statements)
    return {"moves": moves, "loops": loops, "strided": elements, "alike": alike, "filled": filled}


def _rows(kernel: str, code: Code) -> dict[str, int]:
    """Rows, loops and elements of a normalisation or a product of two tensors, from what C has."""
    text = "\n".join(code.declarations)
    sizes = {
        name: [int(n) for n in re.findall(r"\.size = (\d+)u", table)]
        for name, table in re.findall(r"ec2t_mcu_axis ([a-z]+)_\w+\[\] = \{(.*?)\};", text)
    }
    if kernel == "matmul":
        outputs, (depth,) = math.prod(sizes["axes"]), re.findall(r"\.depth = (\d+)", text)
        return {"outputs": outputs, "products": outputs * int(depth)}
    rows, elements = math.prod(sizes["outer"]), math.prod(sizes["inner"])
    return {
        "rows": rows,
        "loops": rows * elements // sizes["inner"][-1],
        "elements": rows * elements,
        "centred": rows * elements if ".mean = " in text else 0,
        "scaled": rows * elements if ".gamma = " in text else 0,
        "moved": rows * elements if ".beta = " in text else 0,
    }
