"""Some rows of maps: what a net in strips (strips.py) has besides the operators of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import Operator

from .. import walks
from ..plan import Layout
from ..walks import Axis
from .movement import Move, add_moves

if TYPE_CHECKING:
    from ..lowering import Lowering


@dataclass
class Part(Operator):
    """What a strip has of an operator, or adds: those that belong together have one `layer`."""

    layer: int = -1


ROWS, STACK, PUT, ALIKE = "rows", "stack", "put", "alike"


def rows(net: Lowering, op: Operator) -> None:
    """ROWS: rows of a map where they lie, its border above and below among them."""
    source, first = net.layouts[net.activation(op, 0)], int(op.options["first"])
    part = net.define(op.outputs[0])
    source.require(max(-first, 0), max(first + part.height - source.height, 0), 0, 0)
    net.parts[id(part)] = source, first


def stack(net: Lowering, op: Operator) -> None:
    """STACK: the first input's rows above the second's, which are computed in their place."""
    (above, below), target = op.inputs, op.outputs[0]
    kept, window = net.layouts[above], net.define(target)
    net.filled.append((net.layouts[below], window, kept.height))
    add_moves(net, "rows kept", [above, below], target, lambda: [Move(0, _axes(kept, window))])


def put(net: Lowering, op: Operator) -> None:
    """PUT: the input as rows of a whole map, from one on."""
    source, target = op.inputs[0], op.outputs[0]
    strip, whole = net.layouts[source], net.define(target)
    first = int(op.options["first"])

    def moves() -> list[Move]:
        return [Move(0, _axes(strip, whole), target=first * whole.pitch)]

    add_moves(net, "rows put", [source], target, moves, frame=bool(op.options["frame"]))


def alike(net: Lowering, op: Operator) -> None:
    """ALIKE: one pitch and one plane for all inputs, so that what reads them has one table."""
    net.alike.append([net.layouts[t] for t in op.inputs])


def _axes(source: Layout, target: Layout) -> list[Axis]:
    """Of all elements of `source`."""
    shape = (1, source.height, source.width, source.channels)
    steps = (walks.steps(layout, shape) for layout in (source, target))
    return [Axis(n, tuple(pair)) for n, *pair in zip(shape, *steps, strict=True)]


OPERATORS = {ROWS: rows, STACK: stack, PUT: put, ALIKE: alike}
