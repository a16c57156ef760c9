"""`format="sparse"`: int8 weights in TensorFlow Lite's own sparse storage.

A convolution's weights are stored as compressed sparse rows (`SparsityParameters`, one sparse
axis) and come back through a DENSIFY operator when the interpreter starts, so the results are
those of the int8 file bit for bit and no run time is saved. Stock interpreters refuse DENSIFY in
front of FULLY_CONNECTED, and their 1x16-block kernel rounds differently, so a fully connected
layer becomes a 1x1 convolution between two RESHAPEs, or stays dense where that is smaller.

A layer whose sparse storage would be larger than its int8 codes stays dense; `storage` says so.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from . import flatbuffer
from .layers import FULLY_CONNECTED, TernaryLayer, require_layers

RESHAPES = 400  # bytes that two RESHAPE operators with their shapes and tensors add to the file
DENSIFY = 240  # bytes that a DENSIFY operator with its tensor and the sparsity tables adds


@dataclass(frozen=True)
class SparseRows:
    """Compressed sparse rows of a tensor, transposed so that the sparse axis is the last one."""

    order: tuple[int, ...]
    """The axes in the order in which they are stored."""
    segments: np.ndarray
    """Unsigned: where each row starts in `indices`, and their total."""
    indices: np.ndarray
    """Unsigned: positions of the non-zero values on the last axis."""
    values: np.ndarray
    """int8, non-zero."""

    @property
    def bytes(self) -> bytes:
        return b"".join(part.tobytes() for part in (self.segments, self.indices, self.values))


@dataclass(frozen=True)
class LayerStorage:
    """Bytes of one layer's weights, dense and sparse, raw and through zlib."""

    name: str
    kind: str
    dense: int
    sparse: int
    dense_zipped: int
    sparse_zipped: int
    stored: str
    """`sparse` or `dense`: how `sparse()` writes it."""
    reason: str


def _smallest_unsigned(values: np.ndarray) -> np.ndarray:
    """`values` in the narrowest type that TensorFlow Lite has for index vectors."""
    highest = int(values.max(initial=0))
    return values.astype(
        np.uint8 if highest < 1 << 8 else np.uint16 if highest < 1 << 16 else np.int32
    )


def sparse_rows(codes: np.ndarray) -> SparseRows:
    """The smallest compressed-row form of `codes` over the choice of the sparse axis."""

    def along(axis: int) -> SparseRows:
        order = (*(other for other in range(codes.ndim) if other != axis), axis)
        rows = codes.transpose(order).reshape(-1, codes.shape[axis])
        nonzero = rows != 0
        segments = np.concatenate(([0], np.cumsum(nonzero.sum(axis=1))))
        indices = np.nonzero(nonzero)[1]
        return SparseRows(
            order, _smallest_unsigned(segments), _smallest_unsigned(indices), rows[nonzero]
        )

    axes = range(codes.ndim)
    return min(map(along, axes), key=lambda rows: (len(rows.bytes), rows.order))


def dense_codes(rows: SparseRows, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `sparse_rows`: int8 codes of shape `shape`."""
    stored = [shape[axis] for axis in rows.order]
    flat = np.zeros((int(np.prod(stored[:-1])), stored[-1]), np.int8)
    for row, (start, stop) in enumerate(itertools.pairwise(rows.segments)):
        flat[row, rows.indices[start:stop]] = rows.values[start:stop]
    return flat.reshape(stored).transpose(np.argsort(rows.order))


def _choices(model: Any) -> Iterator[tuple[TernaryLayer, SparseRows, str, str]]:
    """Each ternary layer, its sparse form, `sparse` or `dense`, and the reason."""
    for layer in require_layers(model, 'format="sparse"'):
        connected = layer.kind == FULLY_CONNECTED
        codes = layer.codes.reshape(layer.codes.shape[0], 1, 1, -1) if connected else layer.codes
        rows = sparse_rows(codes)
        size, overhead = len(rows.bytes), DENSIFY + RESHAPES * connected
        if connected and layer.bias is None:
            choice = "dense", "a fully connected layer without a bias has no twin convolution"
        elif connected and (len(layer.output.shape) != 2 or len(layer.input.shape) != 2):
            choice = "dense", "a fully connected layer on more than two axes has no twin"
        elif size + overhead >= layer.codes.size:
            choice = (
                "dense",
                (
                    f"sparse storage takes {size} + {overhead} bytes, the int8 codes "
                    f"{layer.codes.size}"
                ),
            )
        else:
            choice = "sparse", "as a 1x1 convolution" if connected else "compressed sparse rows"
        yield layer, rows, *choice


def storage(int8_file: bytes) -> list[LayerStorage]:
    """What sparse storage costs in each ternary layer of an int8 .tflite file, and the choice."""
    report = []
    for layer, rows, stored, reason in _choices(flatbuffer.load(int8_file)):
        dense = layer.codes.tobytes()
        report.append(
            LayerStorage(
                layer.name,
                layer.kind,
                len(dense),
                len(rows.bytes),
                len(zlib.compress(dense, 9)),
                len(zlib.compress(rows.bytes, 9)),
                stored,
                reason,
            )
        )
    return report


def sparse(int8_file: bytes) -> bytes:
    """An int8 .tflite file with its ternary layers in sparse storage; results are unchanged.

    Args:
        int8_file: an int8 .tflite file with ternary layers.

    Returns:
        The bytes of the .tflite file. Any TensorFlow Lite since 2.4 loads it.

    Raises:
        ValueError: the file is damaged, or has no ternary layer.
    """
    model = flatbuffer.load(int8_file)
    densified: dict[int, int] = {}
    for layer, rows, stored, _ in _choices(model):
        if stored == "sparse":
            _store_sparse(model, layer, rows, densified)
    flatbuffer.prune(model)
    return flatbuffer.save(model)


def _index_vector(values: np.ndarray) -> tuple[int, Any]:
    """`values` as a member of the schema's union of index vectors."""
    kind = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[values.itemsize]
    vector = getattr(schema, f"{kind}T")()
    vector.values = values
    return getattr(schema.SparseIndexVector, kind), vector


def _sparsity_parameters(rows: SparseRows, shape: list[int]) -> Any:
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = list(rows.order)
    parameters.dimMetadata = []
    for axis in rows.order:
        dimension = schema.DimensionMetadataT()
        dimension.format = schema.DimensionType.DENSE
        dimension.denseSize = shape[axis]
        parameters.dimMetadata.append(dimension)
    last = parameters.dimMetadata[-1]
    last.format = schema.DimensionType.SPARSE_CSR
    last.denseSize = 0
    last.arraySegmentsType, last.arraySegments = _index_vector(rows.segments)
    last.arrayIndicesType, last.arrayIndices = _index_vector(rows.indices)
    return parameters


def _store_sparse(
    model: Any, layer: TernaryLayer, rows: SparseRows, densified: dict[int, int]
) -> None:
    """Rewrite `layer` in place; `densified` maps weights already done to DENSIFY's outputs."""
    graph, operator = layer.graph, layer.operator
    position = next(i for i, other in enumerate(graph.operators) if other is operator)
    weights = layer.weights
    if id(weights) not in densified:
        if layer.kind == FULLY_CONNECTED:
            weights.shape = [layer.codes.shape[0], 1, 1, layer.codes.shape[1]]
        dense = flatbuffer.add_tensor(
            model, graph, weights, shape=weights.shape, name=f"{layer.name}/dense"
        )
        densified[id(weights)] = dense
        weights.buffer = flatbuffer.add_buffer(model, rows.values.tobytes())
        weights.sparsity = _sparsity_parameters(rows, weights.shape)
        densify = schema.OperatorT()
        densify.opcodeIndex = flatbuffer.opcode_index(model, schema.BuiltinOperator.DENSIFY)
        densify.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
        densify.builtinOptions = schema.DensifyOptionsT()
        densify.inputs, densify.outputs = [operator.inputs[1]], [dense]
        graph.operators.insert(position, densify)
        position += 1
    dense = densified[id(weights)]
    operator.inputs[1] = dense
    if layer.kind == FULLY_CONNECTED:
        _become_convolution(model, layer, position)


def _become_convolution(model: Any, layer: TernaryLayer, position: int) -> None:
    """Turn a fully connected layer into RESHAPE, 1x1 CONV_2D, RESHAPE."""
    graph, operator = layer.graph, layer.operator
    batch = layer.input.shape[0]
    channels, width = layer.codes.shape[0], layer.codes.shape[1]
    pixels = flatbuffer.add_tensor(
        model, graph, layer.input, shape=(batch, 1, 1, width), name=f"{layer.name}/pixels"
    )
    result = flatbuffer.add_tensor(
        model, graph, layer.output, shape=(batch, 1, 1, channels), name=f"{layer.name}/result"
    )
    activation = operator.builtinOptions.fusedActivationFunction
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = 1
    options.fusedActivationFunction = activation
    source, target = operator.inputs[0], operator.outputs[0]
    operator.opcodeIndex = flatbuffer.opcode_index(model, schema.BuiltinOperator.CONV_2D, version=3)
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options
    operator.inputs = [pixels, *operator.inputs[1:]]
    operator.outputs = [result]
    before = _reshape(model, graph, source, pixels, (-1, 1, 1, width))
    after = _reshape(model, graph, result, target, (-1, channels))
    graph.operators.insert(position, before)
    graph.operators.insert(position + 2, after)


def _reshape(model: Any, graph: Any, source: int, target: int, shape: tuple[int, ...]) -> Any:
    """A RESHAPE operator whose new shape is a constant tensor."""
    tensor = schema.TensorT()
    tensor.shape = [len(shape)]
    tensor.type = schema.TensorType.INT32
    tensor.name = b"shape"
    tensor.buffer = flatbuffer.add_buffer(model, np.array(shape, "<i4").tobytes())
    graph.tensors.append(tensor)
    operator = schema.OperatorT()
    operator.opcodeIndex = flatbuffer.opcode_index(model, schema.BuiltinOperator.RESHAPE)
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = list(shape)
    operator.inputs, operator.outputs = [source, len(graph.tensors) - 1], [target]
    return operator
