"""An int8 .tflite file as a small graph of Python objects.

Files from outside are hostile: every length, index and shape is checked before use, and whatever is
wrong ends in `ModelError`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ..graph import FileError
from ..tflite.options import TABLES, read_options

ModelError = FileError


@dataclass
class Tensor:
    """One tensor: `shape` (batch first), `scale`, `zero_point` (perhaps empty), constant `data`."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    data: npt.NDArray | None


@dataclass
class Operator:
    """One operator: `kind` is TensorFlow Lite's builtin name, inputs and outputs index tensors
    (-1: an optional input left out)."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """The first subgraph of a model."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.UINT8: np.dtype("u1"),
    schema.TensorType.INT64: np.dtype("<i8"),
    schema.TensorType.INT16: np.dtype("<i2"),
    schema.TensorType.INT8: np.dtype("i1"),
    schema.TensorType.BOOL: np.dtype("?"),
}
_KINDS = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
# operator -> (options class, {our name: accessor})
_CONVOLUTION = {
    "padding": "Padding",
    "stride_w": "StrideW",
    "stride_h": "StrideH",
    "dilation_w": "DilationWFactor",
    "dilation_h": "DilationHFactor",
    "activation": "FusedActivationFunction",
}
_POOL = {
    "padding": "Padding",
    "stride_w": "StrideW",
    "stride_h": "StrideH",
    "filter_w": "FilterWidth",
    "filter_h": "FilterHeight",
    "activation": "FusedActivationFunction",
}
_OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        {**_CONVOLUTION, "depth_multiplier": "DepthMultiplier"},
    ),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        {"activation": "FusedActivationFunction", "weights_format": "WeightsFormat"},
    ),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "ADD": ("AddOptions", {"activation": "FusedActivationFunction"}),
    "SUB": ("SubOptions", {"activation": "FusedActivationFunction"}),
    "MUL": ("MulOptions", {"activation": "FusedActivationFunction"}),
    "CONCATENATION": (
        "ConcatenationOptions",
        {"axis": "Axis", "activation": "FusedActivationFunction"},
    ),
    "MEAN": ("ReducerOptions", {"keep_dims": "KeepDims"}),
    "SOFTMAX": ("SoftmaxOptions", {"beta": "Beta"}),
}
ACTIVATIONS = {
    value: name.lower()
    for name, value in vars(schema.ActivationFunctionType).items()
    if not name.startswith("_")
}
_LARGEST_ELEMENTS = 1 << 28


def read(model: bytes | str | Path, *, negative_scales: bool = False) -> Graph:
    """Reads the first subgraph.

    Args:
        model: The bytes of a .tflite file, or its path.
        negative_scales: Whether constants may have scales below zero.

    Raises:
        ModelError: The bytes are no such file, or one of its numbers points outside it.
    """
    if isinstance(model, (str, Path)):
        model = Path(model).read_bytes()
    if len(model) < 8 or model[4:8] != b"TFL3":
        raise ModelError(
            "a .tflite file is required (bytes 4 to 7 read 'TFL3'). "
            f"Received: {len(model)} bytes, {bytes(model[4:8])!r}. "
            "Convert the model with tf.lite.TFLiteConverter."
        )
    try:
        return _read(bytes(model), negative_scales)
    except ModelError:
        raise
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        OverflowError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ModelError(f"the .tflite file is damaged ({error}): export it again.") from error


def _bounded(length: int, unit: int, limit: int, what: str) -> int:
    """A vector's length, if the file is long enough to hold it."""
    if not 0 <= length * unit <= limit:
        raise ModelError(f"the .tflite file is damaged: {length} {what} in {limit} bytes.")
    return length


def _read(data: bytes, negative_scales: bool) -> Graph:
    limit = len(data)
    model = schema.Model.GetRootAs(data, 0)
    if _bounded(model.SubgraphsLength(), 4, limit, "subgraphs") < 1:
        raise ModelError("the .tflite file holds no graph: convert the model again.")
    subgraph = model.Subgraphs(0)
    if subgraph is None:
        raise ModelError("the .tflite file holds no graph: convert the model again.")
    buffers = _bounded(model.BuffersLength(), 4, limit, "buffers")
    tensors = [
        _tensor(model, subgraph.Tensors(i), buffers, limit, negative_scales)
        for i in range(_bounded(subgraph.TensorsLength(), 4, limit, "tensors"))
    ]
    codes = []
    for i in range(_bounded(model.OperatorCodesLength(), 4, limit, "operator codes")):
        code = model.OperatorCodes(i)
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = _KINDS.get(builtin, str(builtin))
        if kind == "CUSTOM":
            kind = "CUSTOM " + (code.CustomCode() or b"").decode(errors="replace")
        codes.append(kind)
    operators = [
        _operator(subgraph.Operators(i), codes, len(tensors), limit)
        for i in range(_bounded(subgraph.OperatorsLength(), 4, limit, "operators"))
    ]

    def ends(length: int, get: object) -> tuple[int, ...]:
        indices = [get(i) for i in range(_bounded(length, 4, limit, "inputs or outputs"))]  # type: ignore[operator]
        return _indices(indices, len(tensors), smallest=0)

    return Graph(
        tensors,
        operators,
        ends(subgraph.InputsLength(), subgraph.Inputs),
        ends(subgraph.OutputsLength(), subgraph.Outputs),
    )


def _indices(values: Sequence[int], count: int, *, smallest: int) -> tuple[int, ...]:
    for value in values:
        if not smallest <= value < count:
            raise ModelError(f"the .tflite file is damaged: tensor {value} of {count}.")
    return tuple(int(value) for value in values)


def _tensor(
    model: schema.Model, tensor: schema.Tensor, buffers: int, limit: int, negative_scales: bool
) -> Tensor:
    name = (tensor.Name() or b"").decode(errors="replace")
    rank = _bounded(tensor.ShapeLength(), 4, limit, "dimensions")
    shape = tuple(int(tensor.Shape(i)) for i in range(rank))
    elements = 1
    for size in shape:
        elements *= max(size, 1)
        if size < 0 or elements > _LARGEST_ELEMENTS:
            raise ModelError(
                f"tensor {name!r} needs a fixed shape of at most {_LARGEST_ELEMENTS} elements. "
                f"Received: {shape}. Convert the model with a fixed batch size of 1."
            )
    elements = int(np.prod(shape, dtype=np.int64))
    if tensor.Type() not in _DTYPES:
        raise ModelError(
            f"tensor {name!r} has type {tensor.Type()}, which this exporter does not read: "
            f"int8 models hold types {sorted(_DTYPES)}."
        )
    dtype = _DTYPES[tensor.Type()]
    scale = np.zeros(0, np.float32)
    zero_point = np.zeros(0, np.int64)
    axis = 0
    quantization = tensor.Quantization()
    if quantization is not None:
        n_scale = _bounded(quantization.ScaleLength(), 4, limit, "scales")
        n_zero = _bounded(quantization.ZeroPointLength(), 8, limit, "zero points")
        scale = np.array([quantization.Scale(i) for i in range(n_scale)], np.float32)
        zero_point = np.array([quantization.ZeroPoint(i) for i in range(n_zero)], np.int64)
        axis = quantization.QuantizedDimension()
        positive = negative_scales or np.all(scale >= 0)
        if n_scale and not (np.all(np.isfinite(scale)) and positive):
            raise ModelError(f"tensor {name!r} has scales that are not finite and positive.")
    index = tensor.Buffer()
    if not 0 <= index < max(buffers, 1):
        raise ModelError(f"the .tflite file is damaged: buffer {index} of {buffers}.")
    values = None
    buffer = model.Buffers(index) if buffers else None
    if index and buffer is not None and buffer.DataLength():
        size = _bounded(buffer.DataLength(), 1, limit, "bytes of data")
        if size != elements * dtype.itemsize:
            raise ModelError(
                f"tensor {name!r} {shape} needs {elements * dtype.itemsize} bytes of data. "
                f"Received: {size} bytes. The file is damaged: export it again."
            )
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype).reshape(shape)
    return Tensor(name, shape, dtype, scale, zero_point, axis, values)


def _operator(
    operator: schema.Operator, codes: Sequence[str], tensors: int, limit: int
) -> Operator:
    index = operator.OpcodeIndex()
    if not 0 <= index < len(codes):
        raise ModelError(f"the .tflite file is damaged: operator code {index} of {len(codes)}.")
    kind = codes[index]
    n_in = _bounded(operator.InputsLength(), 4, limit, "inputs")
    n_out = _bounded(operator.OutputsLength(), 4, limit, "outputs")
    inputs = _indices([operator.Inputs(i) for i in range(n_in)], tensors, smallest=-1)
    outputs = _indices([operator.Outputs(i) for i in range(n_out)], tensors, smallest=0)
    options: dict[str, Any] = {}
    if kind in _OPTIONS:
        class_name, fields = _OPTIONS[kind]
        table = operator.BuiltinOptions()
        if table is None or operator.BuiltinOptionsType() != getattr(
            schema.BuiltinOptions, class_name
        ):
            raise ModelError(f"operator {kind} has no {class_name}: the file is damaged.")
        reader = getattr(schema, class_name)()
        reader.Init(table.Bytes, table.Pos)
        for name, accessor in fields.items():
            value = getattr(reader, accessor)()
            options[name] = float(value) if name == "beta" else int(value)
    elif operator.BuiltinOptions() is not None:
        options = _in_words(operator)
    return Operator(kind, inputs, outputs, options)


def _in_words(operator: schema.Operator) -> dict[str, Any]:
    """Options as ec2t_tf.export.graph has them."""
    name = TABLES.get(operator.BuiltinOptionsType())
    if name is None:
        raise ModelError("an operator has options of no known kind: the file is damaged.")
    reader = getattr(schema, name)()
    table = operator.BuiltinOptions()
    reader.Init(table.Bytes, table.Pos)
    options = read_options(getattr(schema, name + "T").InitFromObj(reader))
    options.pop("activation", None)  # of operators that have none to be known by
    return options
