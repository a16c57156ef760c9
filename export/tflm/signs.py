"""Mirrored channels made alike, so that a tensor's weights take three values instead of five.

A negative batch normalisation gain turns the weights {-n, 0, +p} of a channel into {-p, 0, +n}. A
Huffman code of such a tensor spends three bits on a non-zero weight, not two. Negating such a
channel's weights, bias and weight scale changes neither the product of its sum and its multiplier
nor, hence, any bit of its output.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from ..graph import Graph
from ..graph.ternary import channels_of

STREAM_COST = 240  # bytes of a stream's operator, tensors and table in the file
_KINDS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}  # and the axis of their output channels


def mirrored_channels(rows: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Which channels [channel, tap] take the values of most others only when negated."""
    pairs = Counter((int(row.min()), int(row.max())) for row in rows if row.min() < 0 < row.max())
    if not pairs:
        return np.zeros(len(rows), bool)
    low, high = pairs.most_common(1)[0][0]
    usual = (low, 0, high)
    return np.array(
        [
            bool(row.min() >= -127 and not np.isin(row, usual).all() and np.isin(-row, usual).all())
            for row in rows
        ]
    )


def negate_mirrored(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """The same int8 net with mirrored channels negated, and how many, by weight tensor."""
    uses = Counter(index for operator in graph.operators for index in operator.inputs)
    graph = dataclasses.replace(graph, tensors=list(graph.tensors))
    negated: dict[int, int] = {}
    for operator in graph.operators:
        if operator.kind not in _KINDS or len(operator.inputs) != 3 or min(operator.inputs) < 0:
            continue
        source, weights, bias = operator.inputs
        if uses[weights] > 1 or uses[bias] > 1:
            continue
        filters, offsets = graph.tensors[weights], graph.tensors[bias]
        axis, count = _KINDS[operator.kind], len(filters.scale)
        if filters.data is None or offsets.data is None or filters.storage != "dense":
            continue
        whole = filters.dtype == "int8" and offsets.dtype == "int32"
        if not whole or count < 2 or filters.shape[axis] != count or offsets.data.size != count:
            continue
        rows = channels_of(filters.data, axis)
        change = mirrored_channels(rows) & (offsets.data.reshape(-1) != np.iinfo(np.int32).min)
        ends = [graph.tensors[i].scale for i in (source, operator.outputs[0])]
        if any(len(scale) != 1 or not scale[0] > 0 for scale in ends):
            continue
        ratio = float(ends[0][0]) / float(ends[1][0])
        change &= [_symmetric(float(scale) * ratio) for scale in filters.scale]
        gain = rows.size - (2.0 - float((rows == 0).mean())) * rows.size / 8
        if not change.any() or gain < STREAM_COST:
            continue
        sign = np.where(change, -1, 1)
        shape = [1, 1, 1, 1]
        shape[axis] = count
        for index, values in (
            (weights, (filters.data * sign.reshape(shape)).astype(np.int8)),
            (bias, (offsets.data * sign.reshape(offsets.shape)).astype(np.int32)),
        ):
            old = graph.tensors[index]
            scale = old.scale * sign.astype(np.float32) if len(old.scale) == count else old.scale
            graph.tensors[index] = dataclasses.replace(old, data=values, scale=scale)
        negated[weights] = int(change.sum())
    return graph, negated


def _symmetric(real: float) -> bool:
    """Whether the multiplier of -real is minus that of real: not where its 31 bits round up to the
    next power of two, which only the positive one is corrected for."""
    return math.floor(math.frexp(real)[0] * (1 << 31) + 0.5) < 1 << 31
