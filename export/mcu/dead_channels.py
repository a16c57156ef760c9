"""Takes channels that can only be one number out of a graph; every output stays the same.

Training with batch normalisation and ReLU leaves such channels in most published nets. A channel is
constant where the least and the greatest sum round to the same output. Layers that read it fold it
into their biases: a convolution that meets no padding, or whose padding has the same value, and a
fully connected layer. Operators that work channel by channel pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Graph, Operator, Tensor
from ec2t_tf.export.graph.multipliers import multiplied

from .arithmetic import (
    Multiplier,
    activation_range,
    add_multipliers,
    added,
    mean_multiplier,
    quantised_multiplier,
    requantised,
)

Constants = dict[int, int]  # channel -> value
LARGEST = 0x7FFFFFFF  # of a sum
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def constant_outputs(
    weights: npt.NDArray[np.int8],
    biases: list[int],
    multipliers: list[Multiplier],
    zero_point: int,
    limits: tuple[int, int],
) -> Constants:
    """Channels whose output is one number whatever the int8 input, and that number.

    Args:
        weights: [channel, tap].
        biases: One a channel, the input's zero point folded in.
        multipliers: One a channel, of two roundings.
        zero_point: Of the output.
        limits: Least and greatest output.
    """
    wide = weights.astype(np.int64)
    bias = np.array(biases, np.int64)
    least = bias + np.where(wide > 0, -128 * wide, 127 * wide).sum(axis=1)
    most = bias + np.where(wide > 0, 127 * wide, -128 * wide).sum(axis=1)
    factors = np.array([m.multiplier for m in multipliers], np.int64)
    shifts = np.array([m.shift for m in multipliers], np.int64)
    fits = np.maximum(-least, most) <= LARGEST >> np.maximum(shifts, 0)
    first, last = (
        np.clip(multiplied(np.where(fits, sums, 0), factors, shifts) + zero_point, *limits)
        for sums in (least, most)
    )
    return {int(c): int(first[c]) for c in np.flatnonzero(fits & (first == last))}


def without_dead_channels(graph: Graph) -> Graph:
    """The same net with fewer channels; the graph itself where there is nothing to take out."""
    known: dict[int, Constants] = {}
    for op in graph.operators:
        if len(op.outputs) == 1 and _is_int8(graph, op):
            known[op.outputs[0]] = _outputs(graph, op, known)
    drop = _removable(graph, known)
    return _rewritten(graph, drop, known) if any(drop.values()) else graph


# --- what is constant ------------------------------------------------------------------------


def _is_int8(graph: Graph, op: Operator) -> bool:
    """Whether the operator goes from int8 activations to int8, each of one scale."""
    ends = [graph.tensors[i] for i in (*op.inputs[:1], *op.outputs) if i >= 0]
    return len(ends) == 2 and all(map(_is_activation, ends))


def _is_activation(t: Tensor) -> bool:
    one = len(t.scale) == len(t.zero_point) == 1 and t.scale[0] > 0
    return t.dtype == "int8" and one and len(t.shape) > 0 and 0 not in t.shape


def _range(graph: Graph, op: Operator) -> tuple[int, int] | None:
    """Least and greatest output; None where the activation is not known."""
    out = graph.tensors[op.outputs[0]]
    name = op.options.get("activation", "none")
    try:
        return activation_range(name, out.scale[0], int(out.zero_point[0]))
    except ValueError:
        return None


def _outputs(graph: Graph, op: Operator, known: dict[int, Constants]) -> Constants:
    """Output channels that are one number, `known` telling those of the inputs."""
    limits = _range(graph, op)
    if limits is None:
        return {}
    inputs = [known.get(i, {}) for i in op.inputs]
    if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _of_layer(graph, op, inputs[0], limits)
    if op.kind == "ADD" and len(inputs) == 2:
        return _of_add(graph, op, inputs, limits)
    if op.kind == "MEAN":
        return _of_mean(graph, op, inputs[0])
    if op.kind == "CONCATENATION":
        return _of_concatenation(graph, op, inputs)
    if op.kind == "PAD":
        fill = int(graph.tensors[op.outputs[0]].zero_point[0])
        return {c: v for c, v in inputs[0].items() if v == fill} if _links(graph, op, 0) else {}
    if op.kind in _POOLS or op.kind == "RESHAPE":
        passed = {c: min(max(v, limits[0]), limits[1]) for c, v in inputs[0].items()}
        return passed if _links(graph, op, 0) else {}
    return {}


@dataclass
class _Layer:
    """A layer's weights [channel, tap, input channel] and biases (0 where it has none)."""

    weights: npt.NDArray[np.int64]
    biases: npt.NDArray[np.int64]
    has_bias: bool

    @property
    def folds(self) -> bool:
        """Whether its biases have room for any constant inputs."""
        largest = int(np.abs(self.biases).max(initial=0))
        largest += 255 * int(np.abs(self.weights).sum(axis=(1, 2)).max(initial=0))
        return self.has_bias and largest <= LARGEST


def _layer(graph: Graph, op: Operator) -> _Layer | None:
    """None where its constants are not as they should be."""
    filters = graph.tensors[op.inputs[1]] if len(op.inputs) > 1 and op.inputs[1] >= 0 else None
    if filters is None or filters.data is None or filters.dtype != "int8":
        return None
    ranks = {"FULLY_CONNECTED": 2}
    if len(filters.shape) != ranks.get(op.kind, 4) or not filters.data.size:
        return None
    if np.any(filters.zero_point != 0) or not _is_int8(graph, op):
        return None
    channels, outputs = (graph.tensors[i].shape[-1] for i in (op.inputs[0], op.outputs[0]))
    wide = filters.data.astype(np.int64)
    if op.kind == "DEPTHWISE_CONV_2D":
        weights = wide[0].reshape(-1, wide.shape[-1]).T[:, :, None]
        fits = len(wide) == 1 and outputs % channels == 0
    else:
        weights = wide.reshape(wide.shape[0], -1, wide.shape[-1])
        fits = wide.shape[-1] == channels
    if not fits or len(weights) != outputs:
        return None
    biases = np.zeros(len(weights), np.int64)
    has_bias = len(op.inputs) > 2 and op.inputs[2] >= 0
    if has_bias:
        data = graph.tensors[op.inputs[2]].data
        if data is None or data.dtype != np.int32 or data.size != len(weights):
            return None
        biases = data.reshape(-1).astype(np.int64)
    if len(filters.scale) not in (1, len(weights)):
        return None
    return _Layer(weights, biases, has_bias)


def _folded(graph: Graph, op: Operator, layer: _Layer, known: Constants) -> _Layer:
    """The layer without constant inputs: their weights 0, their products in the biases."""
    weights, biases = layer.weights.copy(), layer.biases.copy()
    zero_point = int(graph.tensors[op.inputs[0]].zero_point[0])
    for channel, value in known.items():
        if value != zero_point and not _unpadded(graph, op):
            continue
        if op.kind == "DEPTHWISE_CONV_2D":
            each = slice(*_images(graph, op, channel))
            biases[each] += (value - zero_point) * weights[each].sum(axis=(1, 2))
            weights[each] = 0
        else:
            biases += (value - zero_point) * weights[:, :, channel].sum(axis=1)
            weights[:, :, channel] = 0
    return _Layer(weights, biases, layer.has_bias)


def _unpadded(graph: Graph, op: Operator) -> bool:
    """Whether a layer never reads beyond its input."""
    shape = graph.tensors[op.inputs[1]].shape
    return (
        op.kind == "FULLY_CONNECTED" or op.options.get("padding") == "valid" or shape[1:3] == (1, 1)
    )


def _of_layer(graph: Graph, op: Operator, known: Constants, limits: tuple[int, int]) -> Constants:
    layer = _layer(graph, op)
    if layer is None:
        return {}
    layer = _folded(graph, op, layer, known)
    source, filters = (graph.tensors[i] for i in op.inputs[:2])
    out = graph.tensors[op.outputs[0]]
    count = len(layer.weights)
    sums = layer.weights.reshape(count, -1)
    biases = layer.biases - int(source.zero_point[0]) * sums.sum(axis=1)
    scales = np.broadcast_to(filters.scale, (count,)).astype(np.float64)
    real = np.float64(source.scale[0]) * scales / np.float64(out.scale[0])
    multipliers = [Multiplier(*quantised_multiplier(v)) for v in real.tolist()]
    zero_out = int(out.zero_point[0])
    return constant_outputs(sums.astype(np.int8), biases.tolist(), multipliers, zero_out, limits)


def _of_add(
    graph: Graph, op: Operator, inputs: list[Constants], limits: tuple[int, int]
) -> Constants:
    a, b, out = (graph.tensors[i] for i in (*op.inputs, *op.outputs))
    if not (_links(graph, op, 0) and _links(graph, op, 1)):
        return {}
    terms, last = add_multipliers(float(a.scale[0]), float(b.scale[0]), float(out.scale[0]))
    zeros = int(a.zero_point[0]), int(b.zero_point[0])
    found: Constants = {}
    for channel in inputs[0].keys() & inputs[1].keys():
        values = [known[channel] - zero for known, zero in zip(inputs, zeros, strict=True)]
        value = added(values[0], values[1], terms, last) + int(out.zero_point[0])
        found[channel] = min(max(value, limits[0]), limits[1])
    return found


def _of_mean(graph: Graph, op: Operator, known: Constants) -> Constants:
    source, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if not _links(graph, op, 0):
        return {}
    elements = source.shape[1] * source.shape[2]
    real = float(source.scale[0]) / float(out.scale[0])
    multiplier = Multiplier(*mean_multiplier(real, elements))
    found: Constants = {}
    for channel, value in known.items():
        total = (value - int(source.zero_point[0])) * elements
        mean = requantised(total, multiplier) + int(out.zero_point[0])
        found[channel] = min(max(mean, -128), 127)
    return found


def _of_concatenation(graph: Graph, op: Operator, inputs: list[Constants]) -> Constants:
    if not all(_links(graph, op, i) for i in range(len(op.inputs))):
        return {}
    if _joins_channels(graph, op):
        return {
            _images(graph, op, c, i)[0]: v
            for i, known in enumerate(inputs)
            for c, v in known.items()
        }
    alike = set(inputs[0].items())
    for known in inputs[1:]:
        alike &= known.items()
    return dict(alike)


def _joins_channels(graph: Graph, op: Operator) -> bool:
    rank = len(graph.tensors[op.outputs[0]].shape)
    return int(op.options.get("axis", 0)) % max(rank, 1) == rank - 1


# --- what can go -----------------------------------------------------------------------------


def _links(graph: Graph, op: Operator, position: int) -> bool:
    """Whether channels of an input go to channels of the output one by one (see _images)."""
    if not 0 <= position < len(op.inputs) or op.inputs[position] < 0 or not _is_int8(graph, op):
        return False
    source, out = graph.tensors[op.inputs[position]], graph.tensors[op.outputs[0]]
    if op.kind == "DEPTHWISE_CONV_2D":
        return position == 0 and out.shape[-1] % source.shape[-1] == 0
    if op.kind == "ADD":
        return source.shape == out.shape and _is_activation(source)
    if op.kind in _POOLS:
        return position == 0 and _same_numbers(source, out)
    if op.kind == "MEAN":
        return position == 0 and _over_pixels(graph, op)
    if op.kind == "RESHAPE":
        both = (source, out)
        vectors = all(t.shape[-1] == int(np.prod(t.shape)) for t in both)
        return position == 0 and vectors and _same_numbers(source, out)
    if op.kind == "PAD":
        amounts = graph.tensors[op.inputs[1]].data if len(op.inputs) > 1 else None
        inside = amounts is not None and amounts.size == 2 * len(source.shape)
        kept = inside and not np.any(amounts.reshape(-1, 2)[-1])  # type: ignore[union-attr]
        return position == 0 and bool(kept) and _same_numbers(source, out)
    if op.kind == "CONCATENATION":
        if min(op.inputs) < 0:
            return False
        parts = [graph.tensors[i] for i in op.inputs]
        return all(_same_numbers(t, out) and len(t.shape) == len(out.shape) for t in parts)
    return False


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether the same int8 value means the same in both."""
    if not (_is_activation(a) and _is_activation(b)):
        return False
    return a.scale[0] == b.scale[0] and int(a.zero_point[0]) == int(b.zero_point[0])


def _over_pixels(graph: Graph, op: Operator) -> bool:
    axes = graph.tensors[op.inputs[1]].data if len(op.inputs) > 1 else None
    source = graph.tensors[op.inputs[0]]
    if axes is None or len(source.shape) != 4:
        return False
    return sorted(int(v) % 4 for v in axes.reshape(-1)) == [1, 2]


def _images(graph: Graph, op: Operator, channel: int, position: int = 0) -> tuple[int, int]:
    """First and one past the last output channel that one input channel goes to."""
    if op.kind == "DEPTHWISE_CONV_2D":
        channels = graph.tensors[op.inputs[0]].shape[-1]
        each = graph.tensors[op.outputs[0]].shape[-1] // channels
        return channel * each, (channel + 1) * each
    if op.kind == "CONCATENATION" and _joins_channels(graph, op):
        channel += sum(graph.tensors[i].shape[-1] for i in op.inputs[:position])
    return channel, channel + 1


def _removable(graph: Graph, known: dict[int, Constants]) -> dict[int, set[int]]:
    """Channels to take out of each tensor, the most there can be."""
    drop = {t: set(found) for t, found in known.items() if t not in graph.outputs}
    produced = {op.outputs[0]: op for op in graph.operators if len(op.outputs) == 1}
    layers = {id(op): _layer(graph, op) for op in graph.operators if op.kind in _WEIGHTED}
    changed = True

    def keep(tensor: int, channels: set[int]) -> None:
        nonlocal changed
        if channels:
            drop[tensor] -= channels
            changed = True

    while changed:
        changed = False
        for op in graph.operators:
            for position, tensor in enumerate(op.inputs):
                found = known.get(tensor, {})
                stay = {
                    c
                    for c in drop.get(tensor, ())
                    if not _spares(graph, op, position, c, found, drop, layers)
                }
                keep(tensor, stay)
        for tensor, gone in drop.items():
            op = produced[tensor]
            if op.kind != "CONV_2D":  # what comes from another tensor goes with it
                stay = {c for c in gone if not _goes_with(graph, op, c, drop)}
                keep(tensor, stay)
            if gone and len(gone) == graph.tensors[tensor].shape[-1]:
                keep(tensor, {min(gone)})  # a tensor keeps a channel
    return drop


def _spares(
    graph: Graph,
    op: Operator,
    position: int,
    channel: int,
    known: Constants,
    drop: dict[int, set[int]],
    layers: dict[int, _Layer | None],
) -> bool:
    """Whether an operator can do without one constant channel of an input."""
    if len(op.outputs) != 1:
        return False
    if op.kind in _WEIGHTED and position == 0:
        layer = layers[id(op)]
        if layer is None:
            return False
        if op.kind != "DEPTHWISE_CONV_2D":
            clean = known[channel] == int(graph.tensors[op.inputs[0]].zero_point[0])
            return clean or (layer.folds and _unpadded(graph, op))
    if not _links(graph, op, position):
        return False
    gone = drop.get(op.outputs[0], set())
    return all(c in gone for c in range(*_images(graph, op, channel, position)))


def _goes_with(graph: Graph, op: Operator, channel: int, drop: dict[int, set[int]]) -> bool:
    """Whether every input channel that makes an output channel goes too."""
    return all(
        _links(graph, op, position) and c in drop.get(op.inputs[position], ())
        for position, c in _origins(graph, op, channel)
    )


def _origins(graph: Graph, op: Operator, channel: int) -> list[tuple[int, int]]:
    """Positions and channels of the inputs that one output channel comes from."""
    if op.kind == "ADD":
        return [(0, channel), (1, channel)]
    if op.kind == "DEPTHWISE_CONV_2D":
        channels, outputs = (graph.tensors[i].shape[-1] for i in (op.inputs[0], op.outputs[0]))
        return [(0, channel // max(outputs // channels, 1))]
    if op.kind != "CONCATENATION":
        return [(0, channel)]
    found = []
    for position in range(len(op.inputs)):
        first = _images(graph, op, 0, position)[0]
        depth = graph.tensors[op.inputs[position]].shape[-1]
        if first <= channel < first + depth:
            found.append((position, channel - first))
    return found


# --- the graph without them ------------------------------------------------------------------


def _rewritten(graph: Graph, drop: dict[int, set[int]], known: dict[int, Constants]) -> Graph:
    tensors = list(graph.tensors)

    def kept(index: int) -> npt.NDArray[np.int64]:
        channels = graph.tensors[index].shape[-1]
        return np.array([c for c in range(channels) if c not in drop.get(index, ())], np.int64)

    for index, channels in drop.items():
        if channels:
            shape = tensors[index].shape
            tensors[index] = replace(tensors[index], shape=(*shape[:-1], len(kept(index))))

    def changed(op: Operator) -> Iterator[tuple[int, Tensor]]:
        """Positions and constants of a layer that loses channels."""
        gone = drop.get(op.inputs[0], set())
        layer = _layer(graph, op)
        if layer is None or not (gone or drop.get(op.outputs[0])):
            return
        before, after = kept(op.inputs[0]), kept(op.outputs[0])
        filters = graph.tensors[op.inputs[1]]
        assert filters.data is not None
        if op.kind == "DEPTHWISE_CONV_2D":
            data = filters.data[..., after]
        else:
            data = filters.data[after][..., before]
        yield 1, _part(filters, np.ascontiguousarray(data), after)
        if layer.has_bias:
            values = {c: known[op.inputs[0]][c] for c in gone}
            biases = _folded(graph, op, layer, values).biases[after]
            yield 2, _part(graph.tensors[op.inputs[2]], biases.astype(np.int32), after)

    operators = []
    for op in graph.operators:
        inputs = list(op.inputs)
        for position, tensor in changed(op) if op.kind in _WEIGHTED else ():
            inputs[position] = len(tensors)  # another operator may read the old one
            tensors.append(tensor)
        operators.append(replace(op, inputs=tuple(inputs)))
    return replace(graph, tensors=tensors, operators=operators)


def _part(tensor: Tensor, data: npt.NDArray, kept: npt.NDArray[np.int64]) -> Tensor:
    """A constant with `data` for the channels kept."""
    several = len(tensor.scale) > 1
    return replace(
        tensor,
        shape=data.shape,
        data=data,
        scale=tensor.scale[kept] if several else tensor.scale,
        zero_point=tensor.zero_point[kept] if len(tensor.zero_point) > 1 else tensor.zero_point,
    )
