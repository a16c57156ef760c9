"""How much each kernel call of a net does, in the amounts that its instructions are proportional
to: what the table of costs is fitted to, and what an estimate multiplies by it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .code import Code
from .convolution_work import of_convolution
from .cores import Core
from .int8_conv import Int8Conv
from .plan import Layout
from .row_copy import RowCopy


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
        kernel, more = of_convolution(core, kernel, facts, code)
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
