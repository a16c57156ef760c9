"""Mirrored channels made alike, so that a tensor's weights take three values instead of five.

A negative batch normalisation gain turns the weights {-n, 0, +p} of a channel into {-p, 0, +n}. A
Huffman code of such a tensor spends three bits on a non-zero weight, not two. Negating such a
channel's weights, bias and weight scale changes neither the product of its sum and its multiplier
nor, hence, any bit of its output.
"""

from __future__ import annotations

import math
import struct
from collections import Counter

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ..c import graph as graph_module

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


def negate_mirrored(model: bytes) -> tuple[bytes, dict[str, int]]:
    """The same int8 net with mirrored channels negated, and how many, by weight tensor's name.

    Raises:
        ModelError: The file is damaged.
    """
    checked = graph_module.read(model)
    try:
        parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise graph_module.ModelError(f"the .tflite file is damaged ({error}).") from error
    tensors = parsed.subgraphs[0].tensors
    uses = Counter(i for op in checked.operators for i in op.inputs)
    buffers = Counter(t.buffer for t in tensors)
    negated: dict[str, int] = {}
    for op in checked.operators:
        if op.kind not in _KINDS or len(op.inputs) != 3:
            continue
        source, weights, bias = op.inputs
        constants = [checked.tensors[i] for i in (weights, bias) if i >= 0]
        shared = any(uses[i] > 1 or buffers[tensors[i].buffer] > 1 for i in (weights, bias))
        if len(constants) != 2 or shared or any(t.data is None for t in constants):
            continue
        filters, offsets = constants
        axis, count = _KINDS[op.kind], len(filters.scale)
        assert filters.data is not None
        assert offsets.data is not None
        whole = filters.dtype == np.int8 and offsets.dtype == np.int32 and len(filters.shape) == 4
        if not whole or count < 2 or filters.shape[axis] != count or offsets.data.size != count:
            continue
        rows = np.moveaxis(filters.data, axis, 0).reshape(count, -1)
        change = mirrored_channels(rows) & (offsets.data.reshape(-1) != np.iinfo(np.int32).min)
        ends = [checked.tensors[i].scale for i in (source, op.outputs[0])]
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
        data = (filters.data * sign.reshape(shape)).astype(np.int8)
        moved = (offsets.data * sign).astype("<i4")
        for index, values in ((weights, data), (bias, moved)):
            tensor = tensors[index]
            parsed.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
            scale = tensor.quantization.scale if tensor.quantization is not None else None
            if scale is not None and len(scale) == count:
                tensor.quantization.scale = (np.asarray(scale, np.float32) * sign).tolist()
        negated[filters.name] = int(change.sum())
    if not negated:
        return model, negated
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output()), negated


def _symmetric(real: float) -> bool:
    """Whether the multiplier of -real is minus that of real: not where its 31 bits round up to the
    next power of two, which only the positive one is corrected for."""
    return math.floor(math.frexp(real)[0] * (1 << 31) + 0.5) < 1 << 31
