"""A `Graph` as a .tflite file."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.graph import Graph, Operator, Tensor

from .flatbuffer import AlignedBufferT
from .options import DTYPES, write_options

_TYPES = {name: value for value, name in DTYPES.items()}
# What TensorFlow's converter writes for int8; older runtimes refuse a version they do not know.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 3}
_VERSION_1 = ("RESHAPE", "QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM")
# Operators whose table is not named after them.
_SHARED_TABLES = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
}


def write(graph: Graph) -> bytes:
    """The bytes of a .tflite file with `graph` as its only subgraph."""
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.version = 3
    model.subgraphs, model.operatorCodes, model.buffers = [subgraph], [], [schema.BufferT()]
    subgraph.inputs, subgraph.outputs = list(graph.inputs), list(graph.outputs)
    subgraph.name = graph.name.encode()
    stored: dict[bytes, int] = {}
    subgraph.tensors = [_tensor(model, stored, tensor) for tensor in graph.tensors]
    subgraph.operators = [_operator(model, operator) for operator in graph.operators]
    model.signatureDefs = [] if graph.signatures else None
    for signature in graph.signatures:
        table = schema.SignatureDefT()
        table.signatureKey, table.subgraphIndex = signature.key.encode(), 0
        table.inputs = [_entry(name, index) for name, index in signature.inputs.items()]
        table.outputs = [_entry(name, index) for name, index in signature.outputs.items()]
        model.signatureDefs.append(table)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def _tensor(model: Any, stored: dict[bytes, int], tensor: Tensor) -> Any:
    new = schema.TensorT()
    new.name, new.shape, new.type = tensor.name.encode(), list(tensor.shape), _TYPES[tensor.dtype]
    if tensor.scale.size:
        new.quantization = schema.QuantizationParametersT()
        new.quantization.scale = tensor.scale
        new.quantization.zeroPoint = tensor.zero_point
        new.quantization.quantizedDimension = tensor.axis
    new.isVariable = tensor.variable
    if tensor.data is not None:
        raw = np.ascontiguousarray(tensor.data).tobytes()
        if raw not in stored:  # equal constants share a buffer
            buffer = AlignedBufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            model.buffers.append(buffer)
            stored[raw] = len(model.buffers) - 1
        new.buffer = stored[raw]
    return new


def _table_of(kind: str) -> str | None:
    """The options table of a builtin operator, or None if it has none (LOGISTIC, TANH)."""
    name = _SHARED_TABLES.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
    for candidate in (name, name + "Options", name.replace("2d", "2D") + "Options"):
        if hasattr(schema.BuiltinOptions, candidate):
            return candidate
    return None


def _operator(model: Any, operator: Operator) -> Any:
    new = schema.OperatorT()
    new.inputs, new.outputs = list(operator.inputs), list(operator.outputs)
    new.intermediates = list(operator.intermediates) or None
    new.opcodeIndex = _code(model, operator)
    if operator.custom is not None:
        new.customOptions = np.frombuffer(operator.custom, np.uint8)
        return new
    table = _table_of(operator.kind)
    if table is not None:
        new.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        new.builtinOptions = write_options(operator.options, getattr(schema, table + "T")())
    return new


def _code(model: Any, operator: Operator) -> int:
    """Index of the operator's code, appended where it is new."""
    custom = operator.custom is not None
    kind = "CUSTOM" if custom else operator.kind
    builtin = getattr(schema.BuiltinOperator, kind)
    name = operator.kind.encode() if custom else None
    for index, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.customCode) == (builtin, name):
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.customCode = name
    one = custom or operator.kind in _VERSION_1
    code.version = 1 if one else _VERSIONS.get(operator.kind, 2)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
