"""A `Graph` as a .tflite file."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.graph import Graph, Operator, Tensor

from . import nibbles, sparsity
from .options import DTYPES, table_of, write_options

ALIGNMENT = 16  # bytes; what a kernel that reads weights in place would like
_TYPES = {name: value for value, name in DTYPES.items()}
# What TensorFlow's converter writes for int8; older runtimes refuse a version they do not know.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 3}
_VERSION_1 = (
    *("RESHAPE", "QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "DENSIFY", "SHAPE"),
    *("ELU", "HARD_SWISH", "PRELU", "RELU_0_TO_1", "RELU_N1_TO_1", "DEPTH_TO_SPACE", "NEG"),
    *("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"),
)
_BITS = {"int4": 4, "int2": 2}


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data start at a multiple of `ALIGNMENT` bytes in the file."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        vector = None
        if self.data is not None:
            data = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class _SharingBuilder(flatbuffers.Builder):
    """Equal vectors and names are in the file once."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self._vectors: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = x.dtype.str, x.tobytes()
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s: bytes, *rest: str) -> int:
        key = "name", bytes(s)
        if key not in self._vectors:
            self._vectors[key] = super().CreateString(s, *rest)
        return self._vectors[key]


def write(graph: Graph, *, shortest: bool = False) -> bytes:
    """The bytes of a .tflite file with `graph` as its main subgraph.

    Args:
      graph: the net.
      shortest: the graph has no name, and the kind of operator that is there most often is the
        first of the file's kinds, which takes four bytes less for each; else kinds come as
        operators do.

    Equal constants share a buffer, equal names and lists of numbers their bytes; buffers start at
    multiples of 16 bytes.

    Raises:
      ValueError: an operator has an option that TensorFlow Lite does not know.
    """
    return _Writer().write(graph, shortest)


class _Writer:
    """One file being written."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.subgraphs, self.model.operatorCodes = [], []
        self.model.buffers = [schema.BufferT()]
        self._stored: dict[bytes, int] = {}
        self._codes: dict[tuple[int, bytes | None, int], int] = {}

    def write(self, graph: Graph, shortest: bool) -> bytes:
        model = self.model
        if shortest and graph.operators:
            kinds = collections.Counter(operator.kind for operator in graph.operators)
            ((kind, _),) = kinds.most_common(1)
            self._code(next(operator for operator in graph.operators if operator.kind == kind))
        model.subgraphs = [self._subgraph(graph)]
        if shortest:
            model.subgraphs[0].name = None
        if graph.initial is not None:
            model.subgraphs.append(self._subgraph(graph.initial))
        model.description = graph.description.encode() or None
        model.metadata = [
            self._metadata(name, data) for name, data in graph.metadata.items()
        ] or None
        model.signatureDefs = [] if graph.signatures else None
        for signature in graph.signatures:
            table = schema.SignatureDefT()
            table.signatureKey, table.subgraphIndex = signature.key.encode(), 0
            table.inputs = [_entry(name, index) for name, index in signature.inputs.items()]
            table.outputs = [_entry(name, index) for name, index in signature.outputs.items()]
            model.signatureDefs.append(table)
        builder = _SharingBuilder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _subgraph(self, graph: Graph) -> Any:
        subgraph = schema.SubGraphT()
        subgraph.inputs, subgraph.outputs = _vector(graph.inputs), _vector(graph.outputs)
        subgraph.name = graph.name.encode()
        subgraph.tensors = [self._tensor(tensor) for tensor in graph.tensors]
        subgraph.operators = [self._operator(operator) for operator in graph.operators]
        return subgraph

    def _buffer(self, raw: bytes) -> int:
        if raw not in self._stored:
            buffer = _AlignedBuffer()
            buffer.data = np.frombuffer(raw, np.uint8)
            self.model.buffers.append(buffer)
            self._stored[raw] = len(self.model.buffers) - 1
        return self._stored[raw]

    def _metadata(self, name: str, data: bytes) -> Any:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), self._buffer(data)
        return entry

    def _tensor(self, tensor: Tensor) -> Any:
        new = schema.TensorT()
        narrow = tensor.storage in _BITS and tensor.data is not None
        new.type = _TYPES[tensor.storage if narrow else tensor.dtype]
        new.name, new.shape = tensor.name.encode() or None, _vector(tensor.shape)
        if tensor.scale.size:
            new.quantization = schema.QuantizationParametersT()
            new.quantization.scale = np.asarray(tensor.scale, np.float32)
            new.quantization.zeroPoint = np.asarray(tensor.zero_point, np.int64)
            new.quantization.quantizedDimension = tensor.axis
        new.isVariable = tensor.variable
        if tensor.data is None:
            return new
        if (
            tensor.storage == "sparse" and tensor.data.any()
        ):  # a buffer without bytes is no constant
            layout, values = tensor.sparsity, tensor.data
            stored = sparsity.rows(values) if layout is None else sparsity.encode(values, layout)
            new.sparsity = _sparsity_parameters(stored)
            new.buffer = self._buffer(_little_endian(stored.values))
        elif narrow:
            packed = nibbles.packed(tensor.data, _BITS[tensor.storage])
            new.buffer = self._buffer(packed.tobytes())
        else:
            new.buffer = self._buffer(_little_endian(tensor.data))
        return new

    def _operator(self, operator: Operator) -> Any:
        new = schema.OperatorT()
        new.inputs, new.outputs = _vector(operator.inputs), _vector(operator.outputs)
        if operator.intermediates:
            new.intermediates = _vector(operator.intermediates)
        new.opcodeIndex = self._code(operator)
        if operator.custom is not None:
            if operator.custom:
                new.customOptions = np.frombuffer(operator.custom, np.uint8)
            return new
        name = table_of(operator.kind)
        if name is not None:
            new.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            new.builtinOptions = write_options(operator.options, getattr(schema, name + "T")())
            if operator.kind == "CALL_ONCE":
                new.builtinOptions.initSubgraphIndex = 1
        return new

    def _code(self, operator: Operator) -> int:
        """Index of the operator's code, appended where it is new."""
        custom = operator.custom is not None
        builtin = getattr(schema.BuiltinOperator, "CUSTOM" if custom else operator.kind)
        name = operator.kind.encode() if custom else None
        usual = 1 if custom or operator.kind in _VERSION_1 else _VERSIONS.get(operator.kind, 2)
        key = builtin, name, operator.version or usual
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
            code.customCode, code.version = name, key[2]
            self.model.operatorCodes.append(code)
            self._codes[key] = len(self.model.operatorCodes) - 1
        return self._codes[key]


def _vector(indices: Sequence[int]) -> np.ndarray:
    return np.array(indices, np.int32)


def _little_endian(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def _sparsity_parameters(stored: sparsity.Stored) -> Any:
    layout = stored.layout
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = list(layout.order)
    parameters.blockMap = list(layout.block_map) or None
    parameters.dimMetadata = []
    for level in stored.levels:
        dimension = schema.DimensionMetadataT()
        if level.segments is None or level.indices is None:
            dimension.format, dimension.denseSize = schema.DimensionType.DENSE, level.size
        else:
            dimension.format = schema.DimensionType.SPARSE_CSR
            dimension.arraySegmentsType, dimension.arraySegments = _index_vector(level.segments)
            dimension.arrayIndicesType, dimension.arrayIndices = _index_vector(level.indices)
        parameters.dimMetadata.append(dimension)
    return parameters


def _index_vector(values: np.ndarray) -> tuple[int, Any]:
    """`values` as a member of the schema's union of index vectors."""
    kind = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[values.itemsize]
    vector = getattr(schema, f"{kind}T")()
    vector.values = values
    return getattr(schema.SparseIndexVector, kind), vector
