"""Reading, editing and writing .tflite files with the schema's object API.

Files come from outside: `load` checks every count and index that the rest of the package relies
on, so that a damaged or hostile file ends in one `ValueError` and not in an endless loop.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes; what a kernel that reads weights in place would like


class AlignedBufferT(schema.BufferT):
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


def _counts_are_sane(root: schema.Model, size: int) -> bool:
    """Whether the tables of the file, followed once, fit into its own bytes.

    Offsets may point many parents at one child, so a few kilobytes can describe billions of
    tables; a file written by an honest tool never repeats a table.
    """
    budget = size // 4
    budget -= root.SubgraphsLength() + root.BuffersLength() + root.OperatorCodesLength()
    budget -= root.MetadataLength() + root.SignatureDefsLength()
    for index in range(root.SignatureDefsLength()):
        if budget < 0:
            return False
        signature = root.SignatureDefs(index)
        budget -= signature.InputsLength() + signature.OutputsLength()
    for index in range(root.SubgraphsLength()):
        if budget < 0:
            return False
        graph = root.Subgraphs(index)
        budget -= graph.TensorsLength() + graph.OperatorsLength()
        budget -= graph.InputsLength() + graph.OutputsLength()
        if budget < 0:
            return False
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            budget -= operator.InputsLength() + operator.OutputsLength()
            if budget < 0:
                return False
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            budget -= tensor.ShapeLength()
            sparsity = tensor.Sparsity()
            if sparsity is not None:
                budget -= sparsity.DimMetadataLength()
            if budget < 0:
                return False
    return budget >= 0


def load(data: bytes) -> Any:
    """The model in `data` as a `schema.ModelT`.

    Raises:
        ValueError: `data` is not a .tflite file, is cut short, or refers to operators, tensors
            or buffers that it does not have.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ValueError(
            f"a .tflite file is required (bytes 4 to 8 are {IDENTIFIER!r}). "
            f"Received: {len(data)} bytes starting {bytes(data[:8])!r}"
        )
    try:
        root = schema.Model.GetRootAs(bytearray(data), 0)
        if not _counts_are_sane(root, len(data)):
            raise ValueError("its tables refer to more entries than its bytes can hold")
        model = schema.ModelT.InitFromObj(root)
        _check_indices(model)
    except (
        ArithmeticError,
        AttributeError,
        IndexError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise ValueError(
            f"the .tflite file is damaged ({type(error).__name__}: {error}). "
            f"Received: {len(data)} bytes; export or download it again"
        ) from error
    return model


def _check_indices(model: Any) -> None:
    """Raise `ValueError` unless every index points at something."""

    def within(indices: Any, count: int, what: str, lowest: int = 0) -> None:
        for index in () if indices is None else indices:
            if not lowest <= index < count:
                raise ValueError(f"{what} {index} does not exist, there are {count}")

    model.buffers = model.buffers or []
    model.operatorCodes = model.operatorCodes or []
    if not model.subgraphs:
        raise ValueError("it has no subgraph")
    for buffer in model.buffers:
        if buffer.offset or buffer.size:
            raise ValueError("weights outside the flatbuffer (files over 2 GB) cannot be read")
    within((entry.buffer for entry in model.metadata or ()), len(model.buffers), "buffer")
    for graph in model.subgraphs:
        graph.tensors = graph.tensors or []
        graph.operators = graph.operators or []
        count = len(graph.tensors)
        within((tensor.buffer for tensor in graph.tensors), len(model.buffers), "buffer")
        within(graph.inputs, count, "tensor")
        within(graph.outputs, count, "tensor")
        for operator in graph.operators:
            within((operator.opcodeIndex,), len(model.operatorCodes), "operator code")
            within(operator.inputs, count, "tensor", lowest=-1)
            within(operator.outputs, count, "tensor")
            within(operator.intermediates, count, "tensor")
            operator.inputs = [] if operator.inputs is None else list(operator.inputs)
            operator.outputs = [] if operator.outputs is None else list(operator.outputs)
        for tensor in graph.tensors:
            tensor.shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
            if any(size < 0 for size in tensor.shape):
                raise ValueError(f"tensor {text(tensor.name)!r} has the shape {tensor.shape}")
    for signature in model.signatureDefs or ():
        within((signature.subgraphIndex,), len(model.subgraphs), "subgraph")
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entries in (signature.inputs, signature.outputs):
            within((entry.tensorIndex for entry in entries or ()), count, "tensor")


def save(model: Any, *, aligned: bool = False) -> bytes:
    """The bytes of `model`; `aligned=True` starts every buffer at a multiple of 16 bytes."""
    if aligned:
        model = copy.copy(model)
        model.buffers = [AlignedBufferT(buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def text(name: bytes | str | None) -> str:
    """A tensor's or operator's name, for people."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""


def builtin_code(model: Any, operator: Any) -> int:
    """The `schema.BuiltinOperator` of `operator` (old files have it in one byte)."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def operator_name(model: Any, operator: Any) -> str:
    """`CONV_2D`, `ADD`, ... or the custom code of `operator`."""
    code = builtin_code(model, operator)
    if code == schema.BuiltinOperator.CUSTOM:
        return text(model.operatorCodes[operator.opcodeIndex].customCode)
    names = (name for name, value in vars(schema.BuiltinOperator).items() if value == code)
    return next(names, f"operator {code}")


def opcode_index(model: Any, builtin: int, *, custom: str | None = None, version: int = 1) -> int:
    """The index of an operator code, added if the model does not have it yet."""
    for index, code in enumerate(model.operatorCodes):
        same = max(code.builtinCode, code.deprecatedBuiltinCode) == builtin
        if same and code.version == version and text(code.customCode) == (custom or ""):
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, 127)
    code.customCode = custom.encode() if custom else None
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def add_buffer(model: Any, data: bytes | np.ndarray) -> int:
    """The index of a new buffer that holds `data`."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(bytes(data), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def add_tensor(model: Any, graph: Any, like: Any, *, shape: Iterable[int], name: str) -> int:
    """The index of a new activation tensor with the type and quantisation of `like`."""
    tensor = schema.TensorT()
    tensor.shape = [int(size) for size in shape]
    tensor.type = like.type
    tensor.quantization = copy.copy(like.quantization)
    tensor.name = name.encode()
    tensor.buffer = 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The bytes of a constant tensor, `None` for an activation."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or not len(data) else np.asarray(data, np.uint8)


def prune(model: Any) -> None:
    """Remove the tensors, buffers and operator codes that nothing uses, and renumber the rest."""
    for number, graph in enumerate(model.subgraphs):
        signatures = [s for s in model.signatureDefs or () if s.subgraphIndex == number]
        maps = [m for s in signatures for m in [*(s.inputs or ()), *(s.outputs or ())]]
        used = {int(i) for io in (graph.inputs, graph.outputs) for i in ([] if io is None else io)}
        used |= {entry.tensorIndex for entry in maps}
        for operator in graph.operators:
            used |= {int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0}
            if operator.intermediates is not None:
                used |= {int(i) for i in operator.intermediates}
        new = {old: index for index, old in enumerate(sorted(used))} | {-1: -1}
        graph.tensors = [graph.tensors[old] for old in sorted(used)]
        for holder, field in [
            (graph, "inputs"),
            (graph, "outputs"),
            *((o, f) for o in graph.operators for f in ("inputs", "outputs", "intermediates")),
        ]:
            indices = getattr(holder, field)
            if indices is not None:
                setattr(holder, field, [new[int(i)] for i in indices])
        for entry in maps:
            entry.tensorIndex = new[entry.tensorIndex]

    holders = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    holders += list(model.metadata or ())
    kept = sorted({0} | {holder.buffer for holder in holders})
    renumbered = {old: index for index, old in enumerate(kept)}
    model.buffers = [model.buffers[old] for old in kept]
    for holder in holders:
        holder.buffer = renumbered[holder.buffer]
    model.metadataBuffer = None  # the schema's deprecated twin of `metadata`

    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    codes = sorted({operator.opcodeIndex for operator in operators})
    model.operatorCodes = [model.operatorCodes[code] for code in codes]
    for operator in operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
