"""How the columns of an operator's output, one a moment in time, see those of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import FileError
from .graph import Graph, Operator
from .padding import same_padding
from .shapes import strided_slices


class CannotStream(FileError):
    """A net cannot be computed a step at a time; the message names the layer and what to do."""


@dataclass(frozen=True)
class Time:
    """The time axis of a tensor.

    Attributes:
      axis: of the tensor's shape.
      size: columns of the whole window.
      every: frames of the net's input from one column to the next.
      padded: columns at the start that see padding: they are not those of the window before.
      padding: the layer that pads, for messages.
    """

    axis: int
    size: int
    every: int
    padded: int = 0
    padding: str = ""


@dataclass(frozen=True)
class Reads:
    """Output column j sees `span` columns of the inputs, the first `j * stride + offset`.

    Attributes:
      axis: of time in the outputs; None where the outputs have none any more.
      columns: how many the outputs have in the whole window.
    """

    axis: int | None
    columns: int
    stride: int = 1
    offset: int = 0
    span: int = 1


# All that there is, as it is: the operator sees the whole window.
WHOLE = None
Rule = Callable[[Graph, Operator, Mapping[int, Time]], "Reads | None"]


def layer(graph: Graph, operator: Operator) -> str:
    """An operator by the name of its output, for messages."""
    name = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
    return f"{operator.kind} {name!r}"


def reads(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads | None:
    """How an operator of which at least one input is in `times` sees its columns; None where it
    takes the whole window at once.

    Raises:
      CannotStream: its output would have to be computed anew for the whole window.
    """
    rule = _RULES.get(operator.kind)
    if rule is None or operator.custom is not None:
        raise CannotStream(
            f"{layer(graph, operator)} cannot stream: it may mix moments in time in any order. In "
            "front of the last mean or dense layer use convolutions, poolings and element-wise "
            "layers, or export without stream."
        )
    return rule(graph, operator, times)


def _time(operator: Operator, times: Mapping[int, Time]) -> Time:
    """That of the first input that has one."""
    return next(times[index] for index in operator.inputs if index in times)


def _windows(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads | None:
    """Convolutions and poolings."""
    time = times[operator.inputs[0]]
    out = graph.tensors[operator.outputs[0]].shape
    if len(out) != 4 or time.axis not in (1, 2):
        raise CannotStream(f"{layer(graph, operator)} cannot stream: time must be rows or columns.")
    place = time.axis - 1
    options = operator.options
    stride = int(options["stride"][place])
    if "size" in options:
        span = int(options["size"][place])
    else:
        kernel = graph.tensors[operator.inputs[1]].shape
        span = (kernel[time.axis] - 1) * int(options["dilation"][place]) + 1
    columns = out[time.axis]
    padding = same_padding(time.size, columns, span, stride, 1)
    if options["padding"] == "same" and sum(padding):
        raise CannotStream(
            f"{layer(graph, operator)} cannot stream: padding='same' puts {sum(padding)} columns "
            "of zeros around the window in time, so that its last columns change with every step. "
            "Train it with padding='valid' (pad the other axis by a ZeroPadding2D), or 'causal' "
            "where what follows does not read the first columns."
        )
    if columns == 1:
        return WHOLE
    return Reads(time.axis, columns, stride, 0, span)


def _alike(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    """Element by element, of inputs of one shape or constants that do not change with time."""
    time = _time(operator, times)
    shape = graph.tensors[operator.outputs[0]].shape
    for index in operator.inputs:
        if index < 0 or index in times:
            continue
        tensor = graph.tensors[index]
        place = time.axis - len(shape) + len(tensor.shape)
        if tensor.data is None:
            raise CannotStream(
                f"{layer(graph, operator)} cannot stream: {tensor.name!r}, which follows from the "
                "whole window, changes every column at every step. Use it behind the last mean or "
                "dense layer, or export without stream."
            )
        if place >= 0 and tensor.shape[place] != 1:
            raise CannotStream(
                f"{layer(graph, operator)} cannot stream: its constant {tensor.name!r} differs "
                "from moment to moment. Give it size 1 along time."
            )
    for index in operator.inputs:
        other = times.get(index)
        same = other is not None and (other.size, other.every) == (time.size, time.every)
        rank = len(graph.tensors[index].shape) if index >= 0 else 0
        if other is not None and not (same and other.axis - rank == time.axis - len(shape)):
            raise CannotStream(
                f"{layer(graph, operator)} cannot stream: its inputs have different times."
            )
    behind = len(graph.tensors[_first(operator, times)].shape) - time.axis
    return Reads(len(shape) - behind, time.size)


def _first(operator: Operator, times: Mapping[int, Time]) -> int:
    return next(index for index in operator.inputs if index in times)


def _across_channels(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    """What mixes the last axis."""
    time = _time(operator, times)
    if time.axis == len(graph.tensors[operator.inputs[0]].shape) - 1:
        raise CannotStream(f"{layer(graph, operator)} cannot stream: it runs along time.")
    return _alike(graph, operator, times)


def _joined(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    time = _time(operator, times)
    rank = len(graph.tensors[operator.outputs[0]].shape)
    if int(operator.options["axis"]) % rank == time.axis:
        raise CannotStream(
            f"{layer(graph, operator)} cannot stream: it joins along time. Join along channels."
        )
    return _alike(graph, operator, times)


def _split(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    place = 0 if operator.kind == "SPLIT" else 2
    source = _first(operator, times)
    time, rank = times[source], len(graph.tensors[source].shape)
    if _numbers(graph, operator, place)[0] % rank == time.axis:
        raise CannotStream(f"{layer(graph, operator)} cannot stream: it splits time.")
    return Reads(time.axis, time.size)


def _pad(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    time = times[operator.inputs[0]]
    numbers = _numbers(graph, operator, 1)
    before, after = numbers[2 * time.axis : 2 * time.axis + 2]
    if after:
        raise CannotStream(
            f"{layer(graph, operator)} cannot stream: it puts {after} columns behind the newest "
            "frame, so that the last columns change with every step. Pad in front only (causal), "
            "or not at all."
        )
    return Reads(time.axis, time.size + before, 1, -before, 1)


def _slice(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    time = times[operator.inputs[0]]
    taken = sliced(graph, operator)[time.axis]
    if not taken or taken.step < 1:
        raise CannotStream(f"{layer(graph, operator)} cannot stream: it turns time around.")
    dropped = _shrunk(operator)
    axis = None if time.axis in dropped else time.axis - sum(i < time.axis for i in dropped)
    return Reads(axis, len(taken), taken.step, taken[0], 1)


def _shrunk(operator: Operator) -> set[int]:
    """Axes that a slice takes away."""
    mask = operator.options["masks"][4] if operator.kind == "STRIDED_SLICE" else 0
    return {axis for axis in range(mask.bit_length()) if mask >> axis & 1}


def sliced(graph: Graph, operator: Operator) -> list[range]:
    """Which elements of each axis a SLICE or STRIDED_SLICE takes."""
    shape = graph.tensors[operator.inputs[0]].shape
    if operator.kind == "SLICE":
        begin, size = (_numbers(graph, operator, place) for place in (1, 2))
        return [range(b, n if s < 0 else b + s) for n, b, s in zip(shape, begin, size, strict=True)]
    begin, end, step = (_numbers(graph, operator, place) for place in (1, 2, 3))
    try:
        places = strided_slices(begin, end, step, operator.options["masks"])
    except ValueError as error:
        raise CannotStream(f"{layer(graph, operator)} cannot stream: {error}.") from error
    found = []
    for n, place in zip(shape, places, strict=False):
        if isinstance(place, slice):
            found.append(range(n)[place])
        else:
            one = (place or 0) % n
            found.append(range(one, one + 1))
    return found + [range(n) for n in shape[len(found) :]]


def _reshaped(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads | None:
    """Time stays an axis, or it is flattened into the features of a dense layer."""
    source = operator.inputs[0]
    time, shape = times[source], graph.tensors[source].shape
    out = graph.tensors[operator.outputs[0]].shape
    before = math.prod(shape[: time.axis])
    for axis, size in enumerate(out):
        if size == time.size and math.prod(out[:axis]) == before:
            return Reads(axis, size)
    return WHOLE


def _transposed(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads:
    time = times[operator.inputs[0]]
    rank = len(graph.tensors[operator.inputs[0]].shape)
    order = [place % rank for place in _numbers(graph, operator, 1)]
    return Reads(order.index(time.axis), time.size)


def _reduced(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads | None:
    source = operator.inputs[0]
    time, rank = times[source], len(graph.tensors[source].shape)
    axes = {place % rank for place in _numbers(graph, operator, 1)}
    if time.axis in axes:
        return WHOLE
    keep = bool(operator.options.get("keep_dims"))
    return Reads(time.axis - (0 if keep else sum(a < time.axis for a in axes)), time.size)


def _dense(graph: Graph, operator: Operator, times: Mapping[int, Time]) -> Reads | None:
    """A dense layer on every moment by itself; or on the whole window, flattened."""
    source = operator.inputs[0]
    time, shape = times[source], graph.tensors[source].shape
    depth = graph.tensors[operator.inputs[1]].shape[-1]
    if depth != shape[-1] or time.axis == len(shape) - 1:
        return WHOLE
    out = graph.tensors[operator.outputs[0]].shape
    for axis, size in enumerate(out[:-1]):
        if size == time.size and math.prod(out[:axis]) == math.prod(shape[: time.axis]):
            return Reads(axis, size)
    return WHOLE


def _numbers(graph: Graph, operator: Operator, place: int) -> list[int]:
    data = graph.tensors[operator.inputs[place]].data
    if data is None:
        raise CannotStream(
            f"{layer(graph, operator)} cannot stream: its input {place} must be a constant."
        )
    return [int(value) for value in data.reshape(-1)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"), _windows),
    **dict.fromkeys(
        (
            *("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE", "PRELU"),
            *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "GELU"),
            *("HARD_SWISH", "LOGISTIC", "TANH", "QUANTIZE", "DEQUANTIZE", "ABS", "NEG", "EXP"),
            *("LOG", "SQRT", "RSQRT"),
        ),
        _alike,
    ),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"), _across_channels),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduced),
    **dict.fromkeys(("RESHAPE", "EXPAND_DIMS", "SQUEEZE"), _reshaped),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), _split),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _slice),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    "CONCATENATION": _joined,
    "TRANSPOSE": _transposed,
    "FULLY_CONNECTED": _dense,
}
