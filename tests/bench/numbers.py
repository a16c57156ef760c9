"""The integer graph in the terms of CMSIS-NN: NumPy types, options as the schema's numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export import graph as integer
from ec2t_tf.export.graph import FileError
from ec2t_tf.export.graph.checking import NUMPY, type_name
from ec2t_tf.export.tflite import read as read_file

ModelError = FileError

# The schema's numbers of fused activations and of paddings.
ACTIVATIONS = dict(enumerate(("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")))
_NUMBERS = {
    "activation": {word: number for number, word in ACTIVATIONS.items()},
    "padding": {"same": 0, "valid": 1},
}
_PAIRS = {"stride": "stride", "dilation": "dilation", "size": "filter"}
# Operators with options in numbers; those of others are as `ec2t_tf.export.graph` has them.
_IN_NUMBERS = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
    *("ADD", "SUB", "MUL", "CONCATENATION", "MEAN", "SOFTMAX"),
)


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
    """The net of a file."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(model: bytes | str | Path, *, negative_scales: bool = False) -> Graph:
    """Reads a .tflite file.

    Args:
        model: The bytes of the file, or its path.
        negative_scales: Whether constants may have scales below zero.

    Raises:
        FileError: The file is damaged, or holds what no operator here could take.
    """
    graph = read_file(model)
    return Graph(
        [_tensor(tensor, negative_scales) for tensor in graph.tensors],
        [_operator(operator) for operator in graph.operators],
        graph.inputs,
        graph.outputs,
    )


def _tensor(tensor: integer.Tensor, negative_scales: bool) -> Tensor:
    dtype = NUMPY[tensor.dtype]
    if dtype is None:
        raise FileError(
            f"tensor {tensor.name!r} has type {type_name(tensor.dtype)}, which this exporter does "
            "not take: int8 models without state between calls are required."
        )
    if not negative_scales and (tensor.scale < 0).any():
        raise FileError(f"tensor {tensor.name!r} has scales that are not finite and positive.")
    return Tensor(
        tensor.name,
        tensor.shape,
        dtype,
        tensor.scale,
        tensor.zero_point,
        tensor.axis,
        tensor.data,
    )


def _operator(operator: integer.Operator) -> Operator:
    kind = operator.kind if operator.custom is None else f"CUSTOM {operator.kind}"
    options = dict(operator.options)
    if kind in _IN_NUMBERS:
        for name, prefix in _PAIRS.items():
            if name in options:
                height, width = options.pop(name)
                options |= {f"{prefix}_h": height, f"{prefix}_w": width}
        for name, numbers in _NUMBERS.items():
            if name in options:
                options[name] = numbers[options[name]]
    return Operator(kind, operator.inputs, operator.outputs, options)
