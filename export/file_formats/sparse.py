"""`format="sparse"`: int8 weights in TensorFlow Lite's own sparse storage.

A convolution's weights are stored as compressed sparse rows (`SparsityParameters`, one sparse
axis) and come back through a DENSIFY operator when the interpreter starts, so the results are
those of the int8 file bit for bit and no run time is saved. Stock interpreters refuse DENSIFY in
front of FULLY_CONNECTED, and their 1x16-block kernel rounds differently, so a fully connected
layer becomes a 1x1 convolution between two RESHAPEs, or stays dense where that is smaller.

A layer whose sparse storage would be larger than its int8 codes stays dense; `storage` says so.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np

from ..graph import Graph, Operator, prune
from ..tflite import sparsity
from .layers import FULLY_CONNECTED, TernaryLayer, copied, require_layers

RESHAPES = 400  # bytes that two RESHAPE operators with their shapes and tensors add to the file
DENSIFY = 240  # bytes that a DENSIFY operator with its tensor and the sparsity tables adds


@dataclasses.dataclass(frozen=True)
class LayerStorage:
    """Bytes of one layer's weights, dense and sparse, raw and through zlib."""

    name: str
    kind: str
    dense: int
    sparse: int
    dense_zipped: int
    sparse_zipped: int
    stored: str
    """`sparse` or `dense`: how `to_sparse` writes it."""
    reason: str


def _choices(graph: Graph) -> Iterator[tuple[TernaryLayer, sparsity.Stored, str, str]]:
    """Each ternary layer, its sparse form, `sparse` or `dense`, and the reason."""
    for layer in require_layers(graph, 'format="sparse"'):
        connected = layer.kind == FULLY_CONNECTED
        stored = sparsity.rows(_as_convolution(layer))
        overhead = DENSIFY + RESHAPES * connected
        choice = "dense"
        if connected and layer.bias is None:
            reason = "a fully connected layer without a bias has no twin convolution"
        elif connected and (len(layer.output.shape) != 2 or len(layer.input.shape) != 2):
            reason = "a fully connected layer on more than two axes has no twin"
        elif stored.bytes + overhead >= layer.codes.size:
            reason = (
                f"sparse storage takes {stored.bytes} + {overhead} bytes, the int8 codes "
                f"{layer.codes.size}"
            )
        elif not stored.values.size:
            reason = "a kernel of zeros has no sparse form"
        else:
            choice = "sparse"
            reason = "as a 1x1 convolution" if connected else "compressed sparse rows"
        yield layer, stored, choice, reason


def _as_convolution(layer: TernaryLayer) -> np.ndarray:
    if layer.kind != FULLY_CONNECTED:
        return layer.codes
    channels, width = layer.codes.shape
    return layer.codes.reshape(channels, 1, 1, width)


def storage(graph: Graph) -> list[LayerStorage]:
    """What sparse storage costs in each ternary layer of an int8 net, and the choice."""
    report = []
    for layer, rows, stored, reason in _choices(graph):
        dense = layer.codes.tobytes()
        vectors = [v for level in rows.levels for v in (level.segments, level.indices)]
        parts = [*(v for v in vectors if v is not None), rows.values]
        packed = b"".join(part.tobytes() for part in parts)
        sizes = (len(dense), rows.bytes, len(zlib.compress(dense, 9)))
        zipped = len(zlib.compress(packed, 9))
        report.append(LayerStorage(layer.name, layer.kind, *sizes, zipped, stored, reason))
    return report


def to_sparse(graph: Graph) -> Graph:
    """An int8 net with its ternary layers in sparse storage; results are unchanged.

    Any TensorFlow Lite since 2.4 loads its file.

    Raises:
      FileError: the net has no ternary layer.
    """
    result = copied(graph)
    densified: dict[int, int] = {}
    operators: dict[int, list[Operator]] = {}
    for layer, rows, stored, _ in _choices(graph):
        if stored == "sparse":
            operators[layer.number] = _stored_sparse(result, layer, rows, densified)
    result.operators = [
        one
        for number, operator in enumerate(result.operators)
        for one in operators.get(number, [operator])
    ]
    return prune(result)


def _stored_sparse(
    graph: Graph, layer: TernaryLayer, rows: sparsity.Stored, densified: dict[int, int]
) -> list[Operator]:
    """The operators that stand for `layer`; `densified` maps weights to DENSIFY's outputs."""
    index = layer.operator.inputs[1]
    before = []
    if index not in densified:
        weights = graph.tensors[index]
        weights.data = _as_convolution(layer)
        weights.shape, weights.storage = weights.data.shape, "sparse"
        weights.sparsity = rows.layout
        densified[index] = graph.add(
            f"{layer.name}/dense",
            weights.shape,
            "int8",
            scale=weights.scale,
            zero_point=weights.zero_point,
            axis=weights.axis,
        )
        before = [Operator("DENSIFY", (index,), (densified[index],))]
    source, _, *bias = layer.operator.inputs
    inputs = (source, densified[index], *bias)
    if layer.kind != FULLY_CONNECTED:
        return [*before, dataclasses.replace(layer.operator, inputs=inputs)]
    return [*before, *_convolution(graph, layer, inputs)]


def _convolution(graph: Graph, layer: TernaryLayer, inputs: tuple[int, ...]) -> list[Operator]:
    """A fully connected layer as RESHAPE, 1x1 CONV_2D, RESHAPE."""
    batch = layer.input.shape[0]
    channels, width = layer.codes.shape

    def like(index: int, shape: tuple[int, ...], name: str) -> int:
        old, name = graph.tensors[index], f"{layer.name}/{name}"
        graph.tensors.append(dataclasses.replace(old, name=name, shape=shape))
        return len(graph.tensors) - 1

    def reshape(source: int, target: int, shape: tuple[int, ...]) -> Operator:
        data = np.array(shape, np.int32)
        constant = graph.add("shape", data.shape, "int32", data=data)
        return Operator("RESHAPE", (source, constant), (target,), {"new_shape": shape})

    (target,) = layer.operator.outputs
    pixels = like(inputs[0], (batch, 1, 1, width), "pixels")
    result = like(target, (batch, 1, 1, channels), "result")
    options = {
        "padding": "valid",
        "stride": (1, 1),
        "dilation": (1, 1),
        "activation": layer.operator.options["activation"],
    }
    return [
        reshape(inputs[0], pixels, (-1, 1, 1, width)),
        Operator("CONV_2D", (pixels, *inputs[1:]), (result,), options),
        reshape(result, target, (-1, channels)),
    ]
