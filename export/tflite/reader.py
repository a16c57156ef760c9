"""A .tflite file as a `Graph`. It may be hostile: nothing is believed before it is counted."""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf import files
from ec2t_tf.export.graph import (
    FileError,
    Graph,
    Operator,
    Signature,
    Sparsity,
    Tensor,
    check,
    fold,
    limits,
)
from ec2t_tf.export.graph.checking import NUMPY, check_structure, type_name

from .budget import TABLE, Budget
from .nibbles import unpacked
from .options import DTYPES, KINDS, TABLES, read_options, table_of
from .sparsity import Level, Stored, decode

IDENTIFIER = b"TFL3"
# Types that a graph holds as int8, and their bits in the file.
NARROW = {"int4": 4, "int2": 2}
_WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D")
_INDEX_VECTORS = {
    schema.SparseIndexVector.Int32Vector: schema.Int32Vector,
    schema.SparseIndexVector.Uint16Vector: schema.Uint16Vector,
    schema.SparseIndexVector.Uint8Vector: schema.Uint8Vector,
}
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read(model: bytes | str | os.PathLike) -> Graph:
    """Reads a .tflite file, and checks it.

    Sizes that a free batch leaves open are those of one input at a time; operators that only
    compute such sizes are gone. Constants are views of the file.

    Args:
      model: the bytes of the file, or its path.

    Returns:
      A graph that `check` lets through.

    Raises:
      FileError: the file is damaged, hostile, or holds more than one net.
      OSError: the path cannot be read.
    """
    content = files.content(model, needed_by="read")
    parsed, dynamic = _parse(content)
    if dynamic:
        check_structure(parsed.graph)
        parsed.graph = fold(parsed.graph)
    check(parsed.graph)
    return parsed.graph


@dataclasses.dataclass
class Layout:
    """Where a file holds the numbers of its tensors.

    Attributes:
      graph: as stored: not checked, nothing folded.
      data: tensor -> first byte and size of its constant, in the file.
      scales: tensor -> first byte and number of its float32 scales.
      zero_points: tensor -> first byte and number of its int64 zero points.
    """

    graph: Graph
    data: dict[int, tuple[int, int]]
    scales: dict[int, tuple[int, int]]
    zero_points: dict[int, tuple[int, int]]


def layout(content: bytes) -> Layout:
    """Where the file `content` holds its constants and scales.

    Raises:
      FileError: the file is damaged.
    """
    return _parse(content)[0]


def _parse(content: bytes) -> tuple[Layout, bool]:
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise FileError(
            f"a .tflite file is required (bytes 4 to 8 are {IDENTIFIER!r}). "
            f"Received: {len(content)} bytes starting {bytes(content[:8])!r}. "
            "Convert the model with ec2t convert, ec2t_tf.export.to_tflite or "
            "tf.lite.TFLiteConverter."
        )
    try:
        reader = _Reader(content)
        return reader.main(), reader.dynamic
    except FileError:
        raise
    except _DAMAGE as error:
        raise FileError(
            f"the .tflite file is damaged ({type(error).__name__}: {error}). "
            f"Received: {len(content)} bytes; export or download it again."
        ) from error


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")


class _Reader:
    """One file being read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.budget = content, Budget(len(content))
        self.bytes = np.frombuffer(content, np.uint8)
        self.model = schema.Model.GetRootAs(content, 0)
        self.dynamic = False
        self._buffers: dict[int, tuple[int, int]] = {}
        self._codes: dict[int, tuple[str, bool, int]] = {}
        self._layout: Layout | None = None
        if self.model.ExternalBuffersLength():
            raise FileError("a .tflite file that holds its weights is required: export it again.")

    def main(self) -> Layout:
        model = self.model
        subgraphs = self.count(model.SubgraphsLength())
        graph, found = self.graph(0) if 1 <= subgraphs <= 2 else (Graph(), None)
        reached = int(found is not None)
        for operator in graph.operators:
            if operator.kind == "CALL_ONCE" and operator.custom is None:
                start = operator.options.pop("init_subgraph_index", 0)
                if graph.initial is not None or not 0 < start < subgraphs:
                    raise FileError("one subgraph that sets the state at the start is required.")
                graph.initial = self.graph(start)[0]
                reached += 1
        if found is None or reached != subgraphs:
            raise FileError(
                "a .tflite file of one net is required: a main subgraph, perhaps one that "
                f"CALL_ONCE runs, and no IF or WHILE. Received: {subgraphs} subgraphs. Convert one "
                "function of the model."
            )
        graph.description = _text(self.string(model.Description()))
        for number in range(self.count(model.MetadataLength())):
            entry = model.Metadata(number)
            start, size = self.buffer(entry.Buffer())
            self.budget.read(size)
            name = _text(self.string(entry.Name()))
            graph.metadata[name] = bytes(self.content[start : start + size])
        for number in range(self.count(model.SignatureDefsLength())):
            graph.signatures.append(self.signature(model.SignatureDefs(number)))
        return found

    def count(self, length: int) -> int:
        """A list's length, its tables counted."""
        self.budget.read(TABLE * length)
        return length

    def string(self, value: bytes | None) -> bytes:
        size = len(value or b"")
        self.budget.read(size)
        if size > limits.NAME:
            raise FileError(f"a name must have at most {limits.NAME} bytes. Received: {size}.")
        return value or b""

    def numbers(self, vector: Any) -> npt.NDArray[Any]:
        """A vector of numbers as an array (the schema gives 0 for one that is missing)."""
        if not isinstance(vector, np.ndarray):
            return np.zeros(0, np.int32)
        self.budget.read(vector.nbytes)
        return vector

    def indices(self, vector: Any) -> tuple[int, ...]:
        return tuple(self.numbers(vector).tolist())

    def place(self, table: Any, slot: int) -> tuple[int, int]:
        """First byte and length of the vector in a table's slot."""
        offset = table._tab.Offset(slot)
        if not offset:
            return 0, 0
        return int(table._tab.Vector(offset)), int(table._tab.VectorLen(offset))

    def buffer(self, index: int) -> tuple[int, int]:
        """First byte and size of buffer number `index`."""
        if index not in self._buffers:
            if not 0 <= index < self.model.BuffersLength():
                raise FileError(
                    f"the .tflite file is damaged: buffer {index} does not exist, there are "
                    f"{self.model.BuffersLength()}. Export or download it again."
                )
            self.budget.read(8)
            table = self.model.Buffers(index)
            if table.Offset() or table.Size():
                raise FileError(
                    "a .tflite file of at most 2 GB is required: weights outside the flatbuffer "
                    "cannot be read. Received: a buffer at an offset."
                )
            start, size = self.place(table, 4)
            if start + size > len(self.content):
                raise FileError(
                    f"the .tflite file is cut short: buffer {index} ends at byte {start + size} of "
                    f"{len(self.content)}. Export or download it again."
                )
            self.budget.read(size)
            self._buffers[index] = start, size
        return self._buffers[index]

    def signature(self, table: Any) -> Signature:
        key = _text(self.string(table.SignatureKey()))
        if table.SubgraphIndex():
            raise FileError(
                f"a .tflite file of one net is required. Received: signature {key!r} of subgraph "
                f"{table.SubgraphIndex()}."
            )

        def names(length: int, at: Any) -> dict[str, int]:
            entries = map(at, range(self.count(length)))
            return {_text(self.string(one.Name())): int(one.TensorIndex()) for one in entries}

        return Signature(
            key,
            names(table.InputsLength(), table.Inputs),
            names(table.OutputsLength(), table.Outputs),
        )

    def graph(self, number: int) -> tuple[Graph, Layout]:
        table = self.model.Subgraphs(number)
        result = Graph(name=_text(self.string(table.Name())) or "main")
        self._layout = found = Layout(result, {}, {}, {})
        for what, length, most in (
            ("tensors", table.TensorsLength(), limits.TENSORS),
            ("operators", table.OperatorsLength(), limits.OPERATORS),
        ):
            if self.count(length) > most:
                raise FileError(f"a net must have at most {most:,} {what}. Received: {length:,}.")
        for index in range(table.TensorsLength()):
            result.tensors.append(self.tensor(table.Tensors(index), index))
        for index in range(table.OperatorsLength()):
            result.operators.append(self.operator(table.Operators(index), index))
        result.inputs = self.indices(table.InputsAsNumpy())
        result.outputs = self.indices(table.OutputsAsNumpy())
        _fill_empty(result)
        return result, found

    def tensor(self, table: Any, index: int) -> Tensor:
        assert self._layout is not None
        name = _text(self.string(table.Name()))
        shape = self.indices(table.ShapeAsNumpy())
        if any(size < 0 for size in self.indices(table.ShapeSignatureAsNumpy())):
            self.dynamic = True
        kind = DTYPES.get(table.Type(), f"number {table.Type()}")
        dtype = "int8" if kind in NARROW else kind
        tensor = Tensor(name, shape, dtype, *self.quantisation(table, index))
        tensor.variable = bool(table.IsVariable())
        start, size = self.buffer(table.Buffer())
        sparse = table.Sparsity()
        if not size and sparse is None:
            return tensor
        if dtype not in NUMPY or NUMPY[dtype] is None:
            raise FileError(f"a constant {name[:120]!r} of type {type_name(dtype)} cannot be read.")
        if len(shape) > limits.RANK or min(shape, default=0) < 0:
            raise FileError(f"tensor {index} {name[:120]!r} has the shape {shape[:16]}.")
        self._layout.data[index] = start, size
        raw = self.bytes[start : start + size]
        if sparse is not None:
            self.densify(tensor, raw, kind, sparse)
            return tensor
        elements = math.prod(shape)
        if kind in NARROW:
            self.budget.expand(elements)
            tensor.data, tensor.storage = unpacked(raw, NARROW[kind], shape), kind
            return tensor
        self.budget.constant(size)
        stored = np.dtype(dtype).newbyteorder("<")
        if elements * stored.itemsize != size:
            raise FileError(
                f"tensor {index} {name[:120]!r} of shape {shape} and type {dtype.upper()} needs "
                f"{elements * stored.itemsize} bytes of data. Received: {size}. Export it again."
            )
        tensor.data = raw.view(stored).reshape(shape)
        return tensor

    def quantisation(self, table: Any, index: int) -> tuple[Any, Any, int]:
        assert self._layout is not None
        quantisation = table.Quantization()
        if quantisation is None:
            return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        scale = self.numbers(quantisation.ScaleAsNumpy()).astype(np.float32)
        zero_point = self.numbers(quantisation.ZeroPointAsNumpy()).astype(np.int64)
        if scale.size:
            self._layout.scales[index] = self.place(quantisation, 8)
            self._layout.zero_points[index] = self.place(quantisation, 10)
        else:
            zero_point = zero_point[:0]
        axis = quantisation.QuantizedDimension()
        shape = table.ShapeLength()
        if scale.size < 2 or (shape == 1 and axis):  # older converters: the axis of the kernel
            axis = axis if 0 <= axis < shape else 0
        return scale, zero_point, axis

    def densify(self, tensor: Tensor, raw: npt.NDArray[np.uint8], kind: str, table: Any) -> None:
        order = self.indices(table.TraversalOrderAsNumpy())
        block_map = self.indices(table.BlockMapAsNumpy())
        levels, compressed = [], []
        for number in range(self.count(table.DimMetadataLength())):
            entry = table.DimMetadata(number)
            is_compressed = entry.Format() == schema.DimensionType.SPARSE_CSR
            compressed.append(is_compressed)
            vectors = (
                (entry.ArraySegmentsType(), entry.ArraySegments()),
                (entry.ArrayIndicesType(), entry.ArrayIndices()),
            )
            segments, positions = (
                self.index_vector(*vector) if is_compressed else None for vector in vectors
            )
            levels.append(Level(entry.DenseSize(), segments, positions))
        if len(order) != len(levels) or len(levels) != len(tensor.shape) + len(block_map):
            raise FileError(f"sparse tensor {tensor.name[:120]!r} has no axis for each of its own.")
        sizes = {axis: level.size for axis, level in zip(order, levels, strict=True)}
        blocks = tuple(sizes[len(tensor.shape) + n] for n in range(len(block_map)))
        storage = Sparsity(order, tuple(compressed), block_map, blocks)
        elements = math.prod(tensor.shape)
        self.budget.expand(elements)
        if kind in NARROW:
            stored_elements = raw.size * 8 // NARROW[kind]
            self.budget.expand(stored_elements)
            values = unpacked(raw, NARROW[kind], (stored_elements,))
        else:
            values = raw.view(np.dtype(tensor.dtype).newbyteorder("<"))
        tensor.data = decode(Stored(storage, tuple(levels), values), tensor.shape)
        tensor.storage, tensor.sparsity = "sparse", storage

    def index_vector(self, kind: int, table: Any) -> npt.NDArray[Any]:
        if table is None or kind not in _INDEX_VECTORS:
            raise FileError("the .tflite file is damaged: a sparse axis without its positions.")
        vector = _INDEX_VECTORS[kind]()
        vector.Init(table.Bytes, table.Pos)
        return self.numbers(vector.ValuesAsNumpy())

    def code(self, index: int) -> tuple[str, bool, int]:
        """Name of an operator code, whether it is a custom one, and its version."""
        if index not in self._codes:
            if not 0 <= index < self.model.OperatorCodesLength():
                raise FileError(
                    f"the .tflite file is damaged: operator code {index} does not exist, there are "
                    f"{self.model.OperatorCodesLength()}. Export or download it again."
                )
            self.budget.read(TABLE)
            table = self.model.OperatorCodes(index)
            builtin = max(table.BuiltinCode(), table.DeprecatedBuiltinCode())
            custom = builtin == schema.BuiltinOperator.CUSTOM
            if builtin not in KINDS:
                raise FileError(f"operator code {builtin} is newer than this schema knows.")
            name = _text(self.string(table.CustomCode())) if custom else KINDS[builtin]
            self._codes[index] = name, custom, table.Version()
        return self._codes[index]

    def operator(self, table: Any, number: int) -> Operator:
        kind, custom, version = self.code(table.OpcodeIndex())
        result = Operator(
            kind,
            self.indices(table.InputsAsNumpy()),
            self.indices(table.OutputsAsNumpy()),
            intermediates=self.indices(table.IntermediatesAsNumpy()),
        )
        if table.LargeCustomOptionsOffset() or table.LargeCustomOptionsSize():
            raise FileError("custom options outside the flatbuffer cannot be read.")
        if custom:
            result.custom = self.numbers(table.CustomOptionsAsNumpy()).astype(np.uint8).tobytes()
        else:
            result.version = version
            result.options = self.options(table, kind, number)
        return result

    def options(self, table: Any, kind: str, number: int) -> dict[str, Any]:
        if table.BuiltinOptions2Type():
            raise FileError(
                f"operator {number} {kind} has options of a kind that this version does not read: "
                "convert the model to TensorFlow Lite's builtin operators."
            )
        given, expected = table.BuiltinOptionsType(), table_of(kind)
        union = table.BuiltinOptions()
        if expected is None:
            return {}
        if not given or union is None:
            if kind in _WINDOWED:
                raise FileError(f"operator {number} {kind} must have options. Received: none.")
            return read_options(getattr(schema, expected + "T")())
        if TABLES.get(given) != expected:
            raise FileError(
                f"operator {number} {kind} must have options of type {expected}. "
                f"Received: {TABLES.get(given, given)}."
            )
        reader = getattr(schema, expected)()
        reader.Init(union.Bytes, union.Pos)
        for name in _VECTORS.setdefault(expected, _vectors(expected)):
            self.budget.read(8 * getattr(reader, name)())
        content = getattr(schema, expected + "T").InitFromObj(reader)
        for value in vars(content).values():
            if isinstance(value, bytes):
                self.string(value)
        return read_options(content)


_VECTORS: dict[str, list[str]] = {}


def _vectors(table: str) -> list[str]:
    """The methods of a table that tell how long its vectors are."""
    return [name for name in dir(getattr(schema, table)) if name.endswith("Length")]


def _fill_empty(graph: Graph) -> None:
    """Gives the constants without elements, which the file cannot tell from others, their data."""
    written = {index for operator in graph.operators for index in operator.outputs}
    written.update(graph.inputs)
    for index, tensor in enumerate(graph.tensors):
        dtype = NUMPY.get(tensor.dtype)
        empty = 0 in tensor.shape and min(tensor.shape) == 0 and not tensor.variable
        if tensor.data is None and empty and dtype is not None and index not in written:
            tensor.data = np.zeros(tensor.shape, dtype)
