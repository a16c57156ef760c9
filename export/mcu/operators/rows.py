"""Some rows of maps: what a net in strips (strips.py) has besides the operators of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import Operator

from ..row_copy import RowCopy
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering


@dataclass
class Part(Operator):
    """What a strip has of an operator, or adds: those that belong together have one `layer`."""

    layer: int = -1


ROWS, KEEP, STACK, PUT, ALIKE = "rows", "keep", "stack", "put", "alike"


def rows(net: Lowering, op: Operator) -> None:
    """ROWS: rows of a map where they lie, its border above and below among them."""
    source, first = net.layouts[net.activation(op, 0)], int(op.options["first"])
    part = net.define(op.outputs[0])
    source.require(max(-first, 0), max(first + part.height - source.height, 0), 0, 0)
    net.parts[id(part)] = source, first


def keep(net: Lowering, op: Operator) -> None:
    """KEEP: a copy of the rows of a map from one on."""
    source, target = net.activation(op, 0), op.outputs[0]
    kept = net.define(target)
    copy = RowCopy(net.layouts[source], kept, kept.height, first=int(op.options["first"]))
    _append(net, "rows kept", (source,), target, copy)


def stack(net: Lowering, op: Operator) -> None:
    """STACK: the first input's rows above the second's, which are computed in their place."""
    (above, below), target = op.inputs, op.outputs[0]
    kept, window = net.layouts[above], net.define(target)
    net.filled.append((net.layouts[below], window, kept.height))
    _append(net, "rows stacked", (above, below), target, RowCopy(kept, window, kept.height))


def put(net: Lowering, op: Operator) -> None:
    """PUT: the input as rows of a whole map, from one on."""
    source, target = op.inputs[0], op.outputs[0]
    strip, whole = net.layouts[source], net.define(target)
    place, framed = int(op.options["first"]), bool(op.options["frame"])
    copy = RowCopy(strip, whole, strip.height, place=place, framed=framed)
    _append(net, "rows put", (source,), target, copy)


def _append(net: Lowering, name: str, sources: tuple[int, ...], target: int, copy: RowCopy) -> None:
    net.steps.append(Step(name, ("rows.c", "layout.c"), sources, target, copy.code, facts=copy))


def alike(net: Lowering, op: Operator) -> None:
    """ALIKE: one pitch and one plane for all inputs, so that what reads them has one table."""
    net.alike.append([net.layouts[t] for t in op.inputs])


OPERATORS = {ROWS: rows, KEEP: keep, STACK: stack, PUT: put, ALIKE: alike}
