"""Operators that only move elements: walks that copy, and perhaps a fill before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..code import Code, Names, array
from ..limits import beyond
from ..step import Step
from ..walks import Axis
from .embedding import embed

if TYPE_CHECKING:
    from ..lowering import Lowering

MOST_MOVES = 256


@dataclass(frozen=True)
class Move:
    """Copies elements of one input; steps of the axes are those of input and output."""

    source: int  # which of the step's inputs
    axes: Sequence[Axis]
    origin: int = 0  # bytes to the first element
    target: int = 0


def add_moves(
    net: Lowering,
    name: str,
    sources: Sequence[int],
    target: int,
    moves: Callable[[], Sequence[Move]],
    *,
    fill: int | None = None,
) -> None:
    """Appends a step. `moves` is called when layouts are final; `fill` is what the output holds
    first, border aside."""
    out = net.layouts[target]

    def emit(names: Names) -> Code:
        n, code = names.index, Code()
        if fill is not None or not out.contiguous:
            code.declarations.append(f"static const ec2t_mcu_planar out_{n} = {out.c()};")
            code.flash += 16
        if fill is not None:
            code.statements.append(f"ec2t_mcu_fill(&out_{n}, {names.output}, {fill});")
        found = moves()
        if len(found) > MOST_MOVES:
            raise FileError(f"{name} needs {len(found)} copies; at most {MOST_MOVES}.")
        for i, move in enumerate(found):
            axes = walks.merged(move.axes)
            code.declarations += [
                walks.as_c(f"axes_{n}_{i}", axes),
                f"static const ec2t_mcu_move move_{n}_{i} = {{.axes = axes_{n}_{i}, "
                f".count = {len(axes)}, .from = {move.origin}, .to = {move.target}}};",
            ]
            code.statements.append(
                f"ec2t_mcu_move_run(&move_{n}_{i}, {names.inputs[move.source]}, {names.output});"
            )
            code.flash += 16 + 16 * len(axes)
        if not out.contiguous:
            code.statements.append(f"ec2t_mcu_frame(&out_{n}, {names.output});")
        return code

    net.steps.append(Step(name, ("move.c", "layout.c"), tuple(sources), target, emit))


def _sizes(net: Lowering, tensor: int) -> tuple[int, ...]:
    return net.graph.tensors[tensor].shape


def _steps(net: Lowering, tensor: int) -> list[int]:
    return walks.steps(net.layouts[tensor], _sizes(net, tensor))


def _axes(sizes: Sequence[int], origin: Sequence[int], target: Sequence[int]) -> list[Axis]:
    return [Axis(n, (a, b)) for n, a, b in zip(sizes, origin, target, strict=True)]


def _at(steps: Sequence[int], places: Sequence[int]) -> int:
    return sum(s * p for s, p in zip(steps, places, strict=True))


def _moved(net: Lowering, op: Operator, position: int = 0) -> int:
    """The input, unflattened; checks that the operator keeps the quantisation."""
    source = net.plain(net.activation(op, position))
    tensors = net.graph.tensors
    for target in op.outputs:
        if net.quantisation(tensors[source]) != net.quantisation(tensors[target]):
            raise FileError(f"{op.kind} must not change scale or zero point.")
    return source


def reshape(net: Lowering, op: Operator) -> None:
    source, target = net.activation(op, 0), op.outputs[0]
    tensors = net.graph.tensors
    layout = net.layouts[source]
    shape = tensors[target].shape
    if math.prod(shape) != layout.height * layout.width * layout.channels:
        raise FileError(f"{op.kind}: {tensors[source].shape} to {shape}.")
    if net.quantisation(tensors[source]) != net.quantisation(tensors[target]):
        raise FileError(f"{op.kind} must not change scale or zero point.")
    own = (layout.height, layout.width, layout.channels)
    vector = walks.is_map(shape) and math.prod(shape) == max(shape, default=1) == shape[-1]
    if (vector and len(shape) <= 2) or walks.dimensions(shape) == own:
        net.layouts[target] = layout  # the same bytes; a fully connected layer reorders its weights
        return
    rearrange(net, op.kind.lower(), source, target, own)


def rearrange(
    net: Lowering, name: str, source: int, target: int, own: tuple[int, int, int]
) -> None:
    """To another shape, elements in their order of rows, columns, channels `own`."""
    layout = net.layouts[source]
    shape = net.graph.tensors[target].shape
    net.define(target)
    sizes = walks.refined(own, shape)
    if sizes is not None:

        def moves() -> list[Move]:
            inside = [layout.pitch, 1, layout.plane]
            a = walks.spread_over(sizes, own, inside)
            b = walks.spread_over(sizes, shape, _steps(net, target))
            return [Move(0, _axes(sizes, a, b))]

        add_moves(net, name, [source], target, moves)
        return
    # Shapes that cut across each other: by way of a row.
    row = net.add_tensor(f"{name} row", (1, 1, 1, math.prod(own)), like=source)
    rearrange(net, f"{name} to a row", source, row, own)
    rearrange(net, name, row, target, (1, 1, math.prod(own)))


def add_constant(net: Lowering, target: int) -> None:
    """Appends a step that copies a constant activation from flash."""
    tensor = net.graph.tensors[target]
    out = net.define(target)
    assert tensor.data is not None
    values = net.stored(tensor.data)

    def emit(names: Names) -> Code:
        n = names.index
        code = Code([array("uint8_t", f"values_{n}", values)], [], values.size)
        axes = walks.merged(_axes(tensor.shape, values.strides, _steps(net, target)))
        code.declarations += [
            walks.as_c(f"axes_{n}", axes),
            f"static const ec2t_mcu_move move_{n} = {{.axes = axes_{n}, .count = {len(axes)}}};",
        ]
        code.statements.append(f"ec2t_mcu_move_run(&move_{n}, values_{n}, {names.output});")
        net.frame(code, out, names)
        return code

    net.steps.append(Step("constant", ("move.c", "layout.c"), (), target, emit))


def transpose(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    order = [int(v) for v in net.constant(op, 1).reshape(-1)]
    sizes = _sizes(net, target)
    shape = _sizes(net, source)
    if sorted(order) != list(range(len(shape))) or tuple(shape[i] for i in order) != sizes:
        raise FileError(f"TRANSPOSE {shape} to {sizes} does not follow from {order}.")
    net.define(target)

    def moves() -> list[Move]:
        a = _steps(net, source)
        return [Move(0, _axes(sizes, [a[i] for i in order], _steps(net, target)))]

    add_moves(net, "transpose", [source], target, moves)


def _slice(
    net: Lowering,
    name: str,
    source: int,
    target: int,
    begin: Sequence[int],
    stride: Sequence[int],
    count: Sequence[int],
) -> None:
    """Elements begin, begin + stride, ... of each dimension; the output's shape is that of `count`
    up to dimensions of one element."""
    shape, sizes = _sizes(net, source), _sizes(net, target)
    inside = all(
        0 <= b < n and 0 <= b + s * (c - 1) < n and c > 0
        for b, s, c, n in zip(begin, stride, count, shape, strict=True)
    )
    if not inside or [c for c in count if c > 1] != [n for n in sizes if n > 1]:
        raise FileError(f"{name}: output shape {sizes} does not follow from {shape}.")
    net.define(target)

    def moves() -> list[Move]:
        own = _steps(net, source)
        a = [x * s for x, s, c in zip(own, stride, count, strict=True) if c > 1]
        b = [x for x, n in zip(_steps(net, target), sizes, strict=True) if n > 1]
        kept = [n for n in sizes if n > 1]
        return [Move(0, _axes([*kept, 1], [*a, 1], [*b, 1]), origin=_at(own, begin))]

    add_moves(net, name, [source], target, moves)


def strided_slice(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    shape = _sizes(net, source)
    begin, end, stride = ([int(v) for v in net.constant(op, i).reshape(-1)] for i in range(1, 4))
    masks = op.options["masks"]

    def has(mask: int, i: int) -> bool:
        return bool(masks[mask] >> i & 1)

    entries = len(begin)
    new = sum(has(3, i) for i in range(entries))
    ranges: list[range] = []
    for entry in range(entries):
        i = len(ranges)
        if has(2, entry):  # the ellipsis
            covered = len(shape) - (entries - 1 - new)
            ranges += [range(n) for n in shape[i : i + covered]]
        elif not has(3, entry):
            if i >= len(shape) or not stride[entry]:
                raise FileError(f"STRIDED_SLICE of {shape}: {begin}, {end}, {stride}.")
            first = None if has(0, entry) else begin[entry]
            last = None if has(1, entry) else end[entry]
            if has(4, entry):
                place = begin[entry] + (shape[i] if begin[entry] < 0 else 0)
                ranges.append(range(place, place + 1))
            else:
                ranges.append(range(shape[i])[slice(first, last, stride[entry])])
    ranges += [range(n) for n in shape[len(ranges) :]]
    starts = [r[0] if len(r) else 0 for r in ranges]
    counts, strides = [len(r) for r in ranges], [r.step for r in ranges]
    _slice(net, "strided slice", source, target, starts, strides, counts)


def slice_(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    shape = _sizes(net, source)
    begin = [int(v) for v in net.constant(op, 1).reshape(-1)]
    size = [int(v) for v in net.constant(op, 2).reshape(-1)]
    if not len(begin) == len(size) == len(shape):
        raise FileError(f"SLICE of {shape}: {begin}, {size}.")
    counts = [n - b if s < 0 else s for n, b, s in zip(shape, begin, size, strict=True)]
    _slice(net, "slice", source, target, begin, [1] * len(shape), counts)


def split(net: Lowering, op: Operator) -> None:
    variable = op.kind == "SPLIT_V"
    source = _moved(net, op, 0 if variable else 1)
    shape = _sizes(net, source)
    axis = int(net.constant(op, 2 if variable else 0).reshape(-1)[0]) % max(len(shape), 1)
    place = 0
    for target in op.outputs:
        part = _sizes(net, target)[axis]
        begin, counts = [0] * len(shape), list(shape)
        begin[axis], counts[axis] = place, part
        _slice(net, "split", source, target, begin, [1] * len(shape), counts)
        place += part
    if place != shape[axis]:
        raise FileError(f"{op.kind}: the parts do not add up to {shape}.")


def unpack(net: Lowering, op: Operator) -> None:
    source = _moved(net, op)
    shape = _sizes(net, source)
    axis = int(op.options["axis"]) % max(len(shape), 1)
    if len(op.outputs) != shape[axis]:
        raise FileError(f"UNPACK of {shape} along {axis} into {len(op.outputs)}.")
    for i, target in enumerate(op.outputs):
        begin, counts = [0] * len(shape), list(shape)
        begin[axis], counts[axis] = i, 1
        _slice(net, "unpack", source, target, begin, [1] * len(shape), counts)


def _joined(net: Lowering, op: Operator, axis: int, *, new: bool) -> None:
    target = op.outputs[0]
    sizes = _sizes(net, target)
    axis %= max(len(sizes), 1)
    sources = [_moved(net, op, i) for i in range(len(op.inputs))]
    parts = []
    for source in sources:
        shape = list(_sizes(net, source))
        if new:
            shape.insert(axis, 1)
        parts.append(shape)
    rest = [s[:axis] + s[axis + 1 :] for s in [*parts, list(sizes)]]
    if any(r != rest[-1] for r in rest) or sum(p[axis] for p in parts) != sizes[axis]:
        raise FileError(f"{op.kind} along axis {axis}: shapes do not add up.")
    net.define(target)

    def moves() -> list[Move]:
        found, place = [], 0
        b = _steps(net, target)
        for i, (source, part) in enumerate(zip(sources, parts, strict=True)):
            a = _steps(net, source)
            if new:
                a.insert(axis, 0)
            found.append(Move(i, _axes(part, a, b), target=place * b[axis]))
            place += part[axis]
        return found

    add_moves(net, op.kind.lower(), sources, target, moves)


def concatenation(net: Lowering, op: Operator) -> None:
    _joined(net, op, int(op.options["axis"]), new=False)


def pack(net: Lowering, op: Operator) -> None:
    _joined(net, op, int(op.options["axis"]), new=True)


def gather(net: Lowering, op: Operator) -> None:
    if op.inputs[1] in net.words:
        embed(net, op)
        return
    source, target = _moved(net, op), op.outputs[0]
    shape, sizes = _sizes(net, source), _sizes(net, target)
    indices = net.constant(op, 1)
    axis = int(op.options["axis"]) % max(len(shape), 1)
    want = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    if indices.ndim > 1 or op.options.get("batch_dims", 0) or want != sizes:
        raise beyond(op.kind, f"{shape} to {sizes}, indices {indices.shape}")
    places = [int(v) for v in indices.reshape(-1)]
    if not all(0 <= p < shape[axis] for p in places):
        raise FileError(f"GATHER: indices {places} of {shape[axis]}.")
    net.define(target)

    def moves() -> list[Move]:
        a, b = _steps(net, source), _steps(net, target)
        along = b[axis] if indices.ndim else 0
        if not indices.ndim:
            b.insert(axis, 0)
        found = []
        for first, step, count in _progressions(places):
            counts = [*shape[:axis], count, *shape[axis + 1 :]]
            steps = [*a[:axis], step * a[axis], *a[axis + 1 :]]
            origin, to = places[first] * a[axis], first * along
            found.append(Move(0, _axes(counts, steps, b), origin, to))
        return found

    add_moves(net, "gather", [source], target, moves)


def _progressions(places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of equal steps in a list: first position, step, count."""
    found, i = [], 0
    while i < len(places):
        step = places[i + 1] - places[i] if i + 1 < len(places) else 0
        count = 1
        while i + count < len(places) and places[i + count] - places[i + count - 1] == step:
            count += 1
        found.append((i, step, count))
        i += count
    return found


def pad(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    amounts = net.constant(op, 1)
    shape, sizes = _sizes(net, source), _sizes(net, target)
    out = net.define(target)
    fill = out.zero_point
    if op.kind == "PADV2":
        fill = int(net.constant(op, 2, "int8").reshape(-1)[0])
    pads = amounts.reshape(-1, 2).tolist() if amounts.size == 2 * len(shape) else []
    if (
        not pads
        or min(map(min, pads)) < 0
        or [a + s + b for (a, b), s in zip(pads, shape, strict=True)] != list(sizes)
    ):
        raise FileError(f"{op.kind}: output shape {sizes} does not follow from {shape}, {pads}.")

    def moves() -> list[Move]:
        b = _steps(net, target)
        to = _at(b, [first for first, _ in pads])
        return [Move(0, _axes(shape, _steps(net, source), b), target=to)]

    add_moves(net, "pad", [source], target, moves, fill=fill)


def space_to_depth(net: Lowering, op: Operator) -> None:
    _blocks(net, op, deep=True)


def depth_to_space(net: Lowering, op: Operator) -> None:
    _blocks(net, op, deep=False)


def _blocks(net: Lowering, op: Operator, *, deep: bool) -> None:
    source, target = _moved(net, op), op.outputs[0]
    block = int(op.options["block_size"])
    wide, thick = (source, target) if deep else (target, source)
    sizes, small = _sizes(net, wide), _sizes(net, thick)
    if len(sizes) != 4 or len(small) != 4 or block < 1:
        raise beyond(op.kind, _sizes(net, source))
    n, h, w, c = small
    if sizes != (n, h * block, w * block, c // block**2) or c % block**2:
        raise FileError(f"{op.kind}: {_sizes(net, source)} to {_sizes(net, target)}.")
    net.define(target)

    def moves() -> list[Move]:
        _, row, column, channel = _steps(net, wide)
        _, y, x, deepest = _steps(net, thick)
        inner = c // block**2
        counts = [h, block, w, block, inner]
        a = [row * block, row, column * block, column, channel]
        b = [y, block * inner * deepest, x, inner * deepest, deepest]
        return [Move(0, _axes(counts, *((a, b) if deep else (b, a))))]

    add_moves(net, op.kind.lower().replace("_", " "), [source], target, moves)


def broadcast_to(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    sizes = _sizes(net, target)
    shape = (1,) * (len(sizes) - len(_sizes(net, source))) + _sizes(net, source)
    if len(shape) != len(sizes) or any(a not in (1, b) for a, b in zip(shape, sizes, strict=True)):
        raise FileError(f"BROADCAST_TO: {_sizes(net, source)} to {sizes}.")
    net.define(target)

    def moves() -> list[Move]:
        own = _steps(net, source)
        own = [0] * (len(sizes) - len(own)) + own
        a = [0 if n == 1 else s for n, s in zip(shape, own, strict=True)]
        return [Move(0, _axes(sizes, a, _steps(net, target)))]

    add_moves(net, "broadcast", [source], target, moves)


def tile(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    times = [int(v) for v in net.constant(op, 1).reshape(-1)]
    shape, sizes = _sizes(net, source), _sizes(net, target)
    if len(times) != len(shape) or tuple(np.multiply(times, shape)) != sizes or min(times) < 1:
        raise FileError(f"TILE: {shape} to {sizes} by {times}.")
    net.define(target)

    def moves() -> list[Move]:
        a, b = _steps(net, source), _steps(net, target)
        counts = [n for pair in zip(times, shape, strict=True) for n in pair]
        origin = [s for one in a for s in (0, one)]
        to = [s for one, n in zip(b, shape, strict=True) for s in (n * one, one)]
        return [Move(0, _axes(counts, origin, to))]

    add_moves(net, "tile", [source], target, moves)


def reverse(net: Lowering, op: Operator) -> None:
    source, target = _moved(net, op), op.outputs[0]
    shape = _sizes(net, source)
    turned = {int(v) % len(shape) for v in net.constant(op, 1).reshape(-1)}
    begin = [n - 1 if i in turned else 0 for i, n in enumerate(shape)]
    stride = [-1 if i in turned else 1 for i in range(len(shape))]
    _slice(net, "reverse", source, target, begin, stride, shape)


def fill(net: Lowering, op: Operator) -> None:
    """A constant: whoever reads it copies it from flash."""
    target, tensor = op.outputs[0], net.graph.tensors[op.outputs[0]]
    value = net.constant(op, 1, tensor.dtype)
    net.graph.tensors[target] = replace(tensor, data=np.full(tensor.shape, value.reshape(-1)[0]))


OPERATORS = {
    "FILL": fill,
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split,
    "UNPACK": unpack,
    "PACK": pack,
    "CONCATENATION": concatenation,
    "GATHER": gather,
    "PAD": pad,
    "PADV2": pad,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": depth_to_space,
    "BROADCAST_TO": broadcast_to,
    "TILE": tile,
    "REVERSE_V2": reverse,
}
