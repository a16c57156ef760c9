"""What only moves values: reshapes, slices, padding, joining. int8 stays as it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ec2t_tf.quantisation import graph

from ..calls import Call, kind_of
from ..net import Net
from ..pending import NoRuleError, Pending, TensorIndex, Value, rule
from .ranges import array

# -- operators ---------------------------------------------------------------------------------


def padded(
    net: Net, index: int, pads: Sequence[tuple[int, int]], name: str, *, lowest: bool = False
) -> int:
    """Zeros, or the lowest values that there are, before and after, along each axis."""
    if not any(before or after for before, after in pads):
        return index
    shape = [
        n + before + after for n, (before, after) in zip(net.tensor(index).shape, pads, strict=True)
    ]
    widths = net.constant(f"{name}/widths", np.array(pads))
    made = net.like(index, name, shape)
    if not lowest:
        return net.graph.call("PAD", (index, widths), made)
    tensor = net.tensor(index)
    fill = net.like(index, f"{name}/lowest", (1,))
    code = -np.inf if net.is_float(index) else np.iinfo(tensor.dtype).min
    net.tensor(fill).data = np.array([code], tensor.dtype)
    return net.graph.call("PADV2", (index, widths, fill), made)


def sliced(
    net: Net,
    index: int,
    begin: Sequence[int],
    end: Sequence[int],
    name: str,
    stride: Sequence[int] | None = None,
) -> int:
    """From `begin` to `end` along each axis."""
    shape = net.tensor(index).shape
    stride = stride or [1] * len(shape)
    if not any(begin) and tuple(end) == shape and all(s == 1 for s in stride):
        return index
    size = [len(range(b, e, s)) for b, e, s in zip(begin, end, stride, strict=True)]
    # The batch is all of it, whatever the runtime takes.
    ends = [
        net.constant(f"{name}/{key}", value)
        for key, value in (("begin", begin), ("end", end), ("stride", stride))
    ]
    made = net.like(index, name, size)
    return net.graph.call("STRIDED_SLICE", (index, *ends), made, masks=(0, 0, 0, 0, 0))


def gathered(net: Net, index: int, places: Sequence[int], axis: int, name: str) -> int:
    shape = list(net.tensor(index).shape)
    shape[axis] = len(places)
    order = net.constant(f"{name}/places", places)
    made = net.like(index, name, shape)
    return net.graph.call("GATHER", (index, order), made, axis=axis, batch_dims=0)


def concatenated(net: Net, given: Sequence[Value], axis: int, name: str) -> Value:
    """One range for all: that of the fake quantisation behind, or that which they share."""
    shape = list(net.shape(given[0]))
    shape[axis] = sum(net.shape(x)[axis] for x in given)
    options = {"axis": axis, "activation": "none"}
    made = Pending(name, "CONCATENATION", tuple(given), tuple(shape), options)
    if any(isinstance(x, Pending) for x in given):
        return made
    tensors = [net.tensor(x) for x in given if not isinstance(x, Pending)]
    first = tensors[0]
    alike = all(
        t.dtype == first.dtype
        and np.array_equal(t.scale, first.scale)
        and np.array_equal(t.zero_point, first.zero_point)
        for t in tensors
    )
    if not alike:
        return made
    return net.graph.call(
        "CONCATENATION", made.inputs, net.like(made.inputs[0], name, shape), **options
    )


def joined_at(net: Net, parts: Sequence[int], axis: int, name: str) -> int:
    """Tensors of one range, one behind the other along an axis."""
    if len(parts) == 1:
        return parts[0]
    return net.settled(concatenated(net, parts, axis, name))


def later(
    net: Net,
    p: Pending,
    shape: tuple[int, ...],
    move: Callable[[int], int],
    *,
    keeps_channels: bool = False,
) -> Pending:
    """A pending operator with a move of its values behind."""

    def in_int8(scale: float, zero: int) -> int:
        return move(net.with_range(p, scale, zero, p.name))

    made = Pending(p.name, "", (), shape, in_int8=in_int8, in_float=lambda: move(net.settled(p)))
    return dataclasses.replace(made, inside=p, move=move) if keeps_channels else made


# -- shapes ------------------------------------------------------------------------------------


@rule("Flatten", "Reshape", "Squeeze", "ExpandDims")
def _reshape(net: Net, call: Call, given: Value, *_: Any) -> Value:
    if getattr(call.operation, "data_format", "channels_last") != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    return net.reshaped(net.settled(given), call.shape)


@rule("Permute")
def _permute(net: Net, call: Call, given: Value, *_: Any) -> Value:
    order = (0, *call.operation.dims)
    return net.transposed(net.settled(given), order, call.key)


@rule("Transpose")
def _transpose(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    axes = call.operation.axes or reversed(range(len(call.shape)))
    return net.transposed(index, [a % len(call.shape) for a in axes], call.key)


@rule("Swapaxes", "Moveaxis")
def _swap(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index, operation = net.settled(given), call.operation
    numbered = np.empty(range(1, len(call.shape) + 1))  # an axis of size n is number n - 1
    if kind_of(operation) == "Swapaxes":
        moved: np.ndarray = np.swapaxes(numbered, operation.axis1, operation.axis2)
    else:
        moved = np.moveaxis(numbered, operation.source, operation.destination)
    return net.transposed(index, [size - 1 for size in moved.shape], call.key)


@rule("RepeatVector")
def _repeat_vector(net: Net, call: Call, given: Value, *_: Any) -> Value:
    steps, channels = call.shape[1:]
    index = net.reshaped(net.settled(given), (1, 1, channels))
    return repeated(net, index, steps, 1, call.key)


def repeated(net: Net, index: int, times: int, axis: int, name: str) -> int:
    """Each slice `times` times in a row."""
    places = np.repeat(np.arange(net.tensor(index).shape[axis]), times)
    return gathered(net, index, places.tolist(), axis, name)


@rule("Repeat")
def _repeat(net: Net, call: Call, given: Value, *_: Any) -> Value:
    operation, index = call.operation, net.settled(given)
    if operation.axis is None or not isinstance(operation.repeats, int):
        raise NoRuleError(f"'{call.name}': a repeat needs an axis and one number.")
    axis = operation.axis % len(call.shape)
    return repeated(net, index, operation.repeats, axis, call.key)


@rule("Tile")
def _tile(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index, repeats = net.settled(given), call.operation.repeats
    counts = [repeats] if isinstance(repeats, int) else [int(n) for n in repeats]
    shape = net.tensor(index).shape
    rank = max(len(shape), len(counts))
    counts = [1] * (rank - len(counts)) + counts
    index = net.reshaped(index, [1] * (rank - len(shape)) + list(shape))
    for axis, count in enumerate(counts):
        index = joined_at(net, [index] * count, axis, f"{call.key}/axis_{axis}")
    return index


@rule("BroadcastTo", "ForEach")
def _broadcast_to(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    shape = net.tensor(index).shape
    index = net.reshaped(index, [1] * (len(call.shape) - len(shape)) + list(shape))
    for axis, size in enumerate(call.shape):
        if net.tensor(index).shape[axis] != size:
            index = gathered(net, index, [0] * size, axis, f"{call.key}/axis_{axis}")
    return index


@rule("ZerosLike")
def _zeros_like(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """What a padding adds, without what it is added to."""
    index = net.settled(given)
    shape = net.tensor(index).shape
    if not shape:
        raise NoRuleError(f"'{call.name}': zeros need an axis.")
    rest = len(shape) - 1
    wide = padded(net, index, [(0, 0)] * rest + [(0, shape[-1])], f"{call.key}/padded")
    end = [*shape[:-1], 2 * shape[-1]]
    return sliced(net, wide, [0] * rest + [shape[-1]], end, call.key)


@rule("Roll")
def _roll(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """What leaves at one end comes in at the other; without an axis, of all values in a row."""
    operation, index = call.operation, net.settled(given)
    shape = net.tensor(index).shape
    shifts, axes = (np.atleast_1d(x).tolist() for x in (operation.shift, operation.axis))
    if operation.axis is None:
        index, axes = net.reshaped(index, (math.prod(shape),)), [0]
    for shift, axis in zip(np.broadcast_to(shifts, len(axes)).tolist(), axes, strict=True):
        sizes = net.tensor(index).shape
        at = -int(shift) % sizes[axis]
        if not at:
            continue
        begin, middle, end = [0] * len(sizes), [0] * len(sizes), list(sizes)
        middle[axis], stop = at, list(sizes)
        stop[axis] = at
        name = f"{call.key}/axis_{axis % len(sizes)}"
        parts = [
            sliced(net, index, middle, end, f"{name}/first"),
            sliced(net, index, begin, stop, f"{name}/last"),
        ]
        index = joined_at(net, parts, axis % len(sizes), name)
    return net.reshaped(index, call.shape)


@rule("Take")
def _take(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """Rows of a value at places that are known."""
    wanted = call.arguments[1] if len(call.arguments) > 1 else call.options["indices"]
    if any(isinstance(x, graph.Value) for x in keras.tree.flatten(wanted)):
        raise NoRuleError(
            f"'{call.name}': only places that are constants have a rule. A table that is read at "
            "places which the net is given is an Embedding: "
            "Embedding(rows, columns, weights=[table], trainable=False)."
        )
    index, axis = net.settled(given), call.operation.axis
    shape = list(net.tensor(index).shape)
    if axis is None:
        index, shape, axis = net.reshaped(index, (math.prod(shape),)), [math.prod(shape)], 0
    at = [int(p) % shape[axis] for p in array(np.asarray(wanted)).reshape(-1)]
    return net.reshaped(gathered(net, index, at, axis % len(shape), call.key), call.shape)


@rule("Slice")
def _slice(net: Net, call: Call, given: Value, *_: Any) -> Value:
    starts = call.arguments[1] if len(call.arguments) > 1 else call.options["start_indices"]
    if any(isinstance(x, Pending | TensorIndex) or not _is_number(x) for x in np.ravel(starts)):
        raise NoRuleError(f"'{call.name}': only starts that are constants have a rule.")
    begin = [int(n) for n in np.ravel(starts)]
    ends = [b + n for b, n in zip(begin, call.shape, strict=True)]
    return sliced(net, net.settled(given), begin, ends, call.key)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | np.integer)


@rule("Flip")
def _flip(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index, axes = net.settled(given), call.operation.axis
    shape = net.tensor(index).shape
    every = range(len(shape)) if axes is None else (axes,) if isinstance(axes, int) else axes
    for one in every:
        places = list(reversed(range(shape[one])))
        index = gathered(net, index, places, one % len(shape), f"{call.key}/flipped")
    return index


# -- joining and splitting ---------------------------------------------------------------------


@rule("Concatenate")
def _concatenate(net: Net, call: Call, *given: Any) -> Value:
    values = [x for x in given if isinstance(x, Pending | TensorIndex)]
    return concatenated(net, values, call.operation.axis % len(call.shape), call.key)


@rule("Stack")
def _stack(net: Net, call: Call, *given: Any) -> Value:
    axis = call.operation.axis % len(call.shape)
    values = [net.settled(x) for x in given if isinstance(x, Pending | TensorIndex)]
    shape = [*call.shape[:axis], 1, *call.shape[axis + 1 :]]
    return concatenated(net, [net.reshaped(x, shape) for x in values], axis, call.key)


@rule("Split", "ArraySplit")
def _split(net: Net, call: Call, given: Value, *_: Any) -> tuple[Value, ...]:
    index = net.settled(given)
    shape = net.tensor(index).shape
    axis, at, made = call.operation.axis % len(shape), 0, []
    for number, part in enumerate(call.shapes):
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = at, at + part[axis]
        made.append(sliced(net, index, begin, end, f"{call.key}/part_{number}"))
        at += part[axis]
    return tuple(made)


@rule("Unstack")
def _unstack(net: Net, call: Call, given: Value, *_: Any) -> tuple[Value, ...]:
    index = net.settled(given)
    shape = net.tensor(index).shape
    axis, made = call.operation.axis % len(shape), []
    for number, part in enumerate(call.shapes):
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = number, number + 1
        one = sliced(net, index, begin, end, f"{call.key}/part_{number}")
        made.append(net.reshaped(one, part))
    return tuple(made)


@rule("GetItem")
def _get_item(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    shape = net.tensor(index).shape
    key = call.arguments[1] if len(call.arguments) > 1 else call.options["key"]
    places = list(key) if isinstance(key, tuple | list) else [key]
    if any(not isinstance(p, slice | int | np.integer | type(Ellipsis) | None) for p in places):
        raise NoRuleError(f"'{call.name}': only slices and numbers have a rule.")
    wanted = sum(p is not None and p is not Ellipsis for p in places)
    if Ellipsis not in places:
        places.append(Ellipsis)
    at = places.index(Ellipsis)
    places[at : at + 1] = [slice(None)] * (len(shape) - wanted)
    ranges: list[range] = []
    for p in (p for p in places if p is not None):
        size = shape[len(ranges)]
        if isinstance(p, slice):
            ranges.append(range(*p.indices(size)))
        else:
            ranges.append(range(int(p) % size, int(p) % size + 1))
    if any(r.step < 0 for r in ranges):
        for axis, r in enumerate(ranges):
            if r.step < 0:
                index = gathered(net, index, list(r), axis, f"{call.key}/backwards")
                ranges[axis] = range(len(r))
    begin, end, stride = ([getattr(r, k) for r in ranges] for k in ("start", "stop", "step"))
    made = sliced(net, index, begin, end, call.key, stride)
    return net.reshaped(made, call.shape)


# -- borders -----------------------------------------------------------------------------------


@rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def _zero_padding(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return padded(net, net.settled(given), _borders(call, call.operation.padding), call.key)


@rule("Cropping1D", "Cropping2D", "Cropping3D")
def _cropping(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    borders = _borders(call, call.operation.cropping)
    begin = [before for before, _ in borders]
    ends = [n - after for n, (_, after) in zip(net.tensor(index).shape, borders, strict=True)]
    return sliced(net, index, begin, ends, call.key)


def _borders(call: Call, given: Any) -> list[tuple[int, int]]:
    if getattr(call.operation, "data_format", "channels_last") != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    inner = [given] if len(call.shape) == 3 and isinstance(given[0], int) else given
    return [(0, 0), *((int(a), int(b)) for a, b in inner), (0, 0)]


@rule("Pad")
def _pad(net: Net, call: Call, given: Value, *rest: Any) -> Value:
    operation, index = call.operation, net.settled(given)
    widths = operation.pad_width
    widths = array(widths).reshape(-1, 2) if np.ndim(widths) else np.full((1, 2), widths)
    widths = np.broadcast_to(widths, (len(call.shape), 2))
    if operation.mode == "constant":
        value = next((x for x in rest if isinstance(x, int | float)), 0)
        if value not in (0, -math.inf):
            raise NoRuleError(f"'{call.name}': only zeros are padded, or -inf.")
        pads = [(int(a), int(b)) for a, b in widths]
        return padded(net, index, pads, call.key, lowest=value != 0)
    if operation.mode not in ("reflect", "symmetric"):
        raise NoRuleError(f"'{call.name}': mode '{operation.mode}' has no rule.")
    sizes = net.constant(f"{call.key}/widths", widths)
    made = net.like(index, call.key, call.shape)
    mode = 0 if operation.mode == "reflect" else 1
    return net.graph.call("MIRROR_PAD", (index, sizes), made, mode=mode)


@rule("CenterCrop")
def _center_crop(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    shape = net.tensor(index).shape
    height, width = call.shape[-3:-1]
    if shape[-3] < height or shape[-2] < width:
        raise NoRuleError(f"'{call.name}' must crop, not enlarge.")
    begin = [0] * len(shape)
    begin[-3], begin[-2] = (shape[-3] - height) // 2, (shape[-2] - width) // 2
    end = [b + n for b, n in zip(begin, call.shape, strict=True)]
    return sliced(net, index, begin, end, call.key)


def moved(net: Net, call: Call, given: Value) -> Value:
    """A layer that says that it only moves values, and adds zeros: where each comes from is seen
    from numbers that it is called with."""
    index = net.settled(given)
    shape = net.tensor(index).shape
    size = math.prod(shape)
    if size >= 1 << 24:
        raise NoRuleError(f"'{call.name}' must have fewer than 2^24 values.")
    numbered = np.arange(1, size + 1, dtype=np.float32).reshape(shape)
    places = array(call.operation(keras.ops.convert_to_tensor(numbered)))
    whole = np.rint(places).astype(np.int64)
    if np.any(whole != places) or whole.min() < 0 or whole.max() > size:
        raise NoRuleError(f"'{call.name}' says that it only moves values, but changes them.")
    flat = net.reshaped(index, (size,))
    if whole.min() == 0:
        flat = padded(net, flat, [(1, 0)], f"{call.key}/zero")
    else:
        whole = whole - 1
    made = gathered(net, flat, whole.reshape(-1).tolist(), 0, call.key)
    return net.reshaped(made, call.shape)
