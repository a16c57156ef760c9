"""Reads a `.tflite` file into operators, tensors and kernels. The file may be hostile."""

from __future__ import annotations

import dataclasses
import functools
import math
import struct

import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
DTYPES = {
    value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}
OPERATORS = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
NUMPY_DTYPES = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "BOOL": np.bool_,
}
# Operators with a kernel: the input that holds it, and its axis of output channels.
KERNEL_INPUT = {
    "CONV_2D": (1, 0),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 0),
    "TRANSPOSE_CONV": (1, 0),
}


class ConversionError(RuntimeError):
    """The TensorFlow Lite converter made something else than was promised."""


class FileError(ValueError):
    """Not a TensorFlow Lite file, or a damaged one."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of the main subgraph.

    `data` is None for a tensor that is computed; `scales` is empty for one without quantisation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None
    scales: np.ndarray
    zero_points: np.ndarray
    buffer_bytes: int
    buffer: int


@dataclasses.dataclass(frozen=True)
class Operator:
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The weights of an operator, with their output channels on the first axis of `codes`."""

    operator: Operator
    tensor: Tensor
    codes: np.ndarray  # (channels, weights per channel)

    @functools.cached_property
    def is_ternary(self) -> bool:
        """At most one positive and one negative code in each output channel, and some zero."""
        channels = [np.unique(channel) for channel in self.codes]
        return bool((self.codes == 0).any()) and all(
            (codes > 0).sum() <= 1 and (codes < 0).sum() <= 1 for codes in channels
        )

    @property
    def zeros(self) -> float:
        """Share of zero weights."""
        return float((self.codes == 0).mean())

    @property
    def entropy(self) -> float:
        """First-order entropy of the codes' signs (ternary) or of the codes, bits per weight."""
        symbols = np.sign(self.codes) if self.is_ternary else self.codes
        _, counts = np.unique(symbols, return_counts=True)
        shares = counts / counts.sum()
        return float(max(0.0, -(shares * np.log2(shares)).sum()))


class TFLiteFile:
    """The main subgraph of a `.tflite` file.

    Raises:
      FileError: the content is no TensorFlow Lite file, or is damaged.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        if len(content) < 8 or content[4:8] != IDENTIFIER:
            raise FileError(
                "A TensorFlow Lite file is required (identifier 'TFL3' at byte 4). "
                f"Received: {len(content)} bytes that start with {content[:8]!r}."
            )
        try:
            self._read(content)
        except FileError:
            raise
        except (
            AttributeError,
            IndexError,
            KeyError,
            MemoryError,
            OverflowError,
            TypeError,
            UnicodeDecodeError,
            ValueError,
            struct.error,
        ) as error:
            raise FileError(f"The TensorFlow Lite file is damaged: {error!r}.") from error

    def _read(self, content: bytes) -> None:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        self.model = model
        if not model.subgraphs:
            raise FileError("A TensorFlow Lite file with a subgraph is required. Received: none.")
        graph = model.subgraphs[0]
        self.tensors = [self._tensor(index, tensor) for index, tensor in enumerate(graph.tensors)]
        self.operators = [self._operator(operator) for operator in graph.operators]
        self.inputs = [self._at(index) for index in graph.inputs]
        self.outputs = [self._at(index) for index in graph.outputs]

    def _at(self, index: int) -> Tensor:
        if not 0 <= index < len(self.tensors):
            raise FileError(
                f"Tensor indices must lie in 0..{len(self.tensors) - 1}. Received: {index}."
            )
        return self.tensors[index]

    def _tensor(self, index: int, tensor: schema.TensorT) -> Tensor:
        shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
        dtype = DTYPES[tensor.type]
        if not 0 <= tensor.buffer < len(self.model.buffers):
            raise FileError(f"Tensor {index} names buffer {tensor.buffer}, which does not exist.")
        raw = self.model.buffers[tensor.buffer].data
        size = 0 if raw is None else len(raw)
        data = None
        if size and dtype in NUMPY_DTYPES:
            numpy_dtype = np.dtype(NUMPY_DTYPES[dtype])
            if math.prod(shape) * numpy_dtype.itemsize != size or min(shape, default=1) < 0:
                raise FileError(
                    f"Tensor {index} of shape {shape} and type {dtype} cannot hold {size} bytes."
                )
            data = np.frombuffer(bytes(raw), numpy_dtype).reshape(shape)
        quantisation = tensor.quantization
        scales, zeros = (), ()
        if quantisation is not None:
            scales = () if quantisation.scale is None else quantisation.scale
            zeros = () if quantisation.zeroPoint is None else quantisation.zeroPoint
        name = (tensor.name or b"").decode()
        return Tensor(
            index,
            name,
            shape,
            dtype,
            data,
            np.asarray(scales, np.float32),
            np.asarray(zeros, np.int64),
            size,
            tensor.buffer,
        )

    def _operator(self, operator: schema.OperatorT) -> Operator:
        code = self.model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = (code.customCode or b"").decode() or OPERATORS[builtin]
        inputs = () if operator.inputs is None else operator.inputs
        return Operator(
            name,
            tuple(self._at(i) for i in inputs if i != -1),
            tuple(self._at(i) for i in operator.outputs),
        )

    @functools.cached_property
    def kernels(self) -> list[Kernel]:
        """Constant kernels of convolutions and fully connected layers, as they are executed."""
        found = []
        for operator in self.operators:
            position, axis = KERNEL_INPUT.get(operator.name, (None, 0))
            if position is None or position >= len(operator.inputs):
                continue
            tensor = operator.inputs[position]
            if tensor.data is None or axis >= len(tensor.shape):
                continue
            codes = np.moveaxis(tensor.data, axis, 0).reshape(tensor.shape[axis], -1)
            found.append(Kernel(operator, tensor, codes))
        return found
