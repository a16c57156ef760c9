"""Operators that move values and compute nothing."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .node import INTEGERS, Node, Step, rule, zero_of

ANY = (*INTEGERS, "float32")
MICRO = ("int8", "int16", "int32", "float32")


@rule("RESHAPE", "SQUEEZE", "EXPAND_DIMS", types=ANY)
def reshape(node: Node) -> Step:
    xp, shape = node.xp, node.output.shape
    return lambda x, *_: xp.reshape(x, (-1, *shape))


@rule("SHAPE", types=("int32", "int64"))
def shape(node: Node) -> Step:
    value = node.xp.constant(np.array([node.input(0).shape], np.int32))
    return lambda *_: value


@rule("TRANSPOSE", types=ANY, micro=MICRO)
def transpose(node: Node) -> Step:
    xp, rank = node.xp, len(node.output.shape)
    order = (0, *(int(axis) % rank + 1 for axis in node.constant(1)))
    return lambda x, *_: xp.transpose(x, order)


@rule("REVERSE_V2", types=ANY, micro=())
def reverse(node: Node) -> Step:
    xp, rank = node.xp, len(node.output.shape)
    axes = tuple(int(axis) % rank + 1 for axis in node.constant(1).reshape(-1))
    return lambda x, *_: xp.flip(x, axis=axes)


# -- parts -------------------------------------------------------------------------------------


@rule("STRIDED_SLICE", types=ANY, micro=MICRO)
def strided_slice(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    begins, ends, strides = (node.constant(place).reshape(-1).tolist() for place in (1, 2, 3))
    begin_mask, end_mask, ellipsis, new, shrink = node.option("masks", (0,) * 5)
    if ellipsis or new:
        raise node.refused("its ellipsis and new-axis masks are not known")
    place: list[Any] = [slice(None)]
    turned = []
    for axis, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        size = entry.shape[axis]
        if shrink >> axis & 1:
            first = begin + size if begin < 0 else begin
            place.append(slice(first, first + 1))
            continue
        first = None if begin_mask >> axis & 1 else int(begin)
        last = None if end_mask >> axis & 1 else int(end)
        places = range(*slice(first, last, int(stride)).indices(size))
        if stride < 0:
            turned.append(axis + 1)
            places = places[::-1]
        place.append(slice(places.start, places.stop, places.step))
    where, over = tuple(place), tuple(turned)

    def run(x: Any, *_: Any) -> Any:
        x = x[where]
        return xp.reshape(xp.flip(x, axis=over) if over else x, (-1, *out.shape))

    return run


@rule("SLICE", types=ANY, micro=MICRO)
def plain_slice(node: Node) -> Step:
    begins, sizes = (node.constant(place).reshape(-1).tolist() for place in (1, 2))
    place = [slice(None)]
    for begin, size in zip(begins, sizes, strict=True):
        place.append(slice(int(begin), None if size == -1 else int(begin + size)))
    where = tuple(place)
    return lambda x, *_: x[where]


@rule("SPLIT", types=ANY, micro=MICRO)
def split(node: Node) -> Step:
    xp, count = node.xp, len(node.outputs)
    axis = int(node.constant(0).reshape(-1)[0]) % len(node.input(1).shape) + 1
    return lambda _, x: tuple(xp.split(x, count, axis=axis))


@rule("SPLIT_V", types=ANY, micro=MICRO)
def split_v(node: Node) -> Step:
    axis = int(node.constant(2).reshape(-1)[0]) % len(node.input(0).shape)
    sizes = [tensor.shape[axis] for tensor in node.outputs]
    ends = np.cumsum(sizes).tolist()
    places = [
        (*[slice(None)] * (axis + 1), slice(end - size, end))
        for size, end in zip(sizes, ends, strict=True)
    ]
    return lambda x, *_: tuple(x[place] for place in places)


@rule("UNPACK", types=ANY, micro=MICRO)
def unpack(node: Node) -> Step:
    xp, outputs = node.xp, node.outputs
    axis = node.option("axis", 0) % len(node.input(0).shape) + 1

    def run(x: Any) -> Any:
        places = [(*[slice(None)] * axis, slice(i, i + 1)) for i in range(len(outputs))]
        return tuple(
            xp.reshape(x[place], (-1, *tensor.shape))
            for place, tensor in zip(places, outputs, strict=True)
        )

    return run


@rule("GATHER", types=ANY, micro=("int8", "float32"))
def gather(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    axis = node.option("axis", 0) % len(entry.shape) + 1
    if node.option("batch_dims", 0) != 0:
        raise node.refused("its batch_dims are not 0")
    if node.input(1).data is not None and entry.data is None:
        places = xp.constant(node.constant(1).reshape(-1))
        return lambda x, _: xp.reshape(xp.take(x, places, axis=axis), (-1, *out.shape))
    if entry.data is None or axis != 1:
        raise node.refused("neither its values nor its places are constants")
    values = xp.constant(entry.data)  # an embedding
    return lambda _, x: xp.reshape(xp.take(values, x, axis=0), (-1, *out.shape))


# -- joining -----------------------------------------------------------------------------------


@rule("CONCATENATION", types=ANY, micro=MICRO)
def concatenation(node: Node) -> Step:
    xp, out = node.xp, node.output
    axis = node.options["axis"] % len(out.shape) + 1
    if node.option("activation", "none") != "none":
        raise node.refused("it has a fused activation")
    for tensor in node.inputs:
        if tensor is None or (out.scale.size and (tensor.scale != out.scale).any()):
            raise node.refused("its inputs must have the scale of the output")
    return lambda *given: xp.concatenate(node.alike(given), axis=axis)


@rule("PACK", types=ANY, micro=MICRO)
def pack(node: Node) -> Step:
    xp, out = node.xp, node.output
    axis = node.option("axis", 0) % len(out.shape) + 1

    def run(*given: Any) -> Any:
        return xp.concatenate([xp.expand_dims(x, axis) for x in node.alike(given)], axis=axis)

    return run


@rule("TILE", types=ANY, micro=())
def tile(node: Node) -> Step:
    counts = (1, *node.constant(1).reshape(-1).tolist())
    return lambda x, *_: node.xp.tile(x, counts)


@rule("BROADCAST_TO", types=ANY, micro=MICRO)
def broadcast_to(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    shape = (1,) * (len(out.shape) - len(entry.shape)) + entry.shape
    counts = (1, *(wide // size for wide, size in zip(out.shape, shape, strict=True)))
    return lambda x, *_: xp.tile(xp.reshape(x, (-1, *shape)), counts)


# -- borders -----------------------------------------------------------------------------------


@rule("FILL", types=ANY, micro=("int8", "int32", "float32"))
def fill(node: Node) -> Step:
    value = np.broadcast_to(node.constant(1).reshape(-1)[0], node.output.shape)
    whole = node.xp.constant(np.ascontiguousarray(value)[None])
    return lambda *_: node.xp.broadcast_to(whole, (node.state.samples, *node.output.shape))


@rule("PAD", "PADV2", types=ANY, micro=MICRO)
def pad(node: Node) -> Step:
    xp = node.xp
    border = [(0, 0), *((int(a), int(b)) for a, b in node.constant(1))]
    fill = node.constant(2).reshape(-1)[0].item() if node.kind == "PADV2" else zero_of(node.output)
    return lambda x, *_: xp.pad(x, border, constant_values=fill)


def _mirrored(
    size: int, before: int, after: int, mode: Literal["reflect", "symmetric"]
) -> npt.NDArray[np.int64]:
    """Which element each place along a padded axis takes."""
    return np.pad(np.arange(size), (before, after), mode=mode)


@rule("MIRROR_PAD", types=ANY, micro=MICRO)
def mirror_pad(node: Node) -> Step:
    xp, reflect = node.xp, node.option("mode", 0) in (0, "reflect")
    places = [
        xp.constant(_mirrored(size, int(before), int(after), "reflect" if reflect else "symmetric"))
        for size, (before, after) in zip(node.input(0).shape, node.constant(1), strict=True)
    ]

    def run(x: Any, _: Any) -> Any:
        for axis, place in enumerate(places, 1):
            x = xp.take(x, place, axis=axis)
        return x

    return run


# -- depth and space ---------------------------------------------------------------------------


@rule("SPACE_TO_DEPTH", types=ANY, micro=MICRO)
def space_to_depth(node: Node) -> Step:
    xp, out, block = node.xp, node.output, node.options["block_size"]
    n, rows, columns, channels = node.input(0).shape
    shape = (-1, n, rows // block, block, columns // block, block, channels)

    def run(x: Any) -> Any:
        x = xp.transpose(xp.reshape(x, shape), (0, 1, 2, 4, 3, 5, 6))
        return xp.reshape(x, (-1, *out.shape))

    return run


@rule("DEPTH_TO_SPACE", types=ANY, micro=MICRO)
def depth_to_space(node: Node) -> Step:
    xp, out, block = node.xp, node.output, node.options["block_size"]
    n, rows, columns, channels = node.input(0).shape
    shape = (-1, n, rows, columns, block, block, channels // block**2)

    def run(x: Any) -> Any:
        x = xp.transpose(xp.reshape(x, shape), (0, 1, 2, 4, 3, 5, 6))
        return xp.reshape(x, (-1, *out.shape))

    return run


@rule("SPACE_TO_BATCH_ND", types=ANY, micro=MICRO)
def space_to_batch(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    block = node.constant(1).reshape(-1).tolist()
    border = [(0, 0)] * 2 + [(int(a), int(b)) for a, b in node.constant(2)]
    border += [(0, 0)] * (len(entry.shape) + 1 - len(border))
    wide = [s + a + b for s, (a, b) in zip(entry.shape, border[1:], strict=True)]
    axes = len(block)
    shape = [-1, wide[0]]
    for size, b in zip(wide[1:], block, strict=False):
        shape += [size // b, b]
    shape += [math.prod(wide[1 + axes :])]
    inner = [3 + 2 * a for a in range(axes)]
    order = [0, *inner, 1, *(2 + 2 * a for a in range(axes)), 2 + 2 * axes]
    fill = zero_of(entry)
    if node.rounding == "micro" and any(map(any, border)):
        raise node.refused("it fills its border with whatever the memory holds")

    def run(x: Any, *_: Any) -> Any:
        x = xp.reshape(xp.pad(x, border, constant_values=fill), shape)
        return xp.reshape(xp.transpose(x, order), (-1, *out.shape))

    return run


@rule("BATCH_TO_SPACE_ND", types=ANY, micro=MICRO)
def batch_to_space(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    block = node.constant(1).reshape(-1).tolist()
    crops = [(int(a), int(b)) for a, b in node.constant(2)]
    axes = len(block)
    n = entry.shape[0] // math.prod(block)
    rest = math.prod(entry.shape[1 + axes :])
    order = [0, 1 + axes]
    for a in range(axes):
        order += [2 + axes + a, 1 + a]
    order += [2 + 2 * axes]
    sizes = [s * b for s, b in zip(entry.shape[1:], block, strict=False)]
    where = (slice(None),) * 2 + tuple(
        slice(a, size - b) for size, (a, b) in zip(sizes, crops, strict=True)
    )

    def run(x: Any, *_: Any) -> Any:
        x = xp.reshape(x, (-1, *block, n, *entry.shape[1 : 1 + axes], rest))
        x = xp.reshape(xp.transpose(x, order), (-1, n, *sizes, rest))
        return xp.reshape(x[where], (-1, *out.shape))

    return run
