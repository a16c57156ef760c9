"""A model as the list of what it computes, in order: the ground both counts stand on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ec2t_tf import doors
from ec2t_tf.counting.places import places
from ec2t_tf.export.graph.ternary import is_ternary

WeightKind = Literal["convolution", "depthwise", "dense"]


@dataclass(frozen=True)
class WeightTensor:
    """One weight tensor and how often it is applied in one inference.

    Attributes:
      name: name of the layer; of its part where a layer has two ("separable/pointwise").
      kind: what its rows meet.
      matrix: the weights as (inputs, taps, outputs); inputs is 1 for a depthwise convolution.
      places: the sizes of the map on which it is applied, see `places`; () for a vector.
      bias: whether a bias is added to its outputs.
      first_use: False where a layer is called again: it computes, but is stored already.
    """

    name: str
    kind: WeightKind
    matrix: np.ndarray
    places: tuple[int, ...]
    bias: bool
    first_use: bool = True

    @property
    def positions(self) -> int:
        """How often each weight is used: output pixels or time steps, 1 for a vector."""
        return math.prod(self.places)


@dataclass(frozen=True)
class Operation:
    """A call of a layer.

    Attributes:
      name, kind: the layer's name and class name.
      inputs: indices of the operations it reads.
      channels: size of the last axis of its output.
      elements: numbers in its output for one example.
      weights: what it multiplies with, in order; empty for most layers.
      activation: name of the function applied at the end, "linear" for none.
      window: numbers that an average pooling sums for one output, 0 for other layers.
      first_use: False where a layer is called again.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    channels: int
    elements: int
    weights: tuple[WeightTensor, ...] = field(default=())
    activation: str = "linear"
    window: int = 0
    first_use: bool = True


ELEMENTWISE = frozenset({"Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply"})
ACTIVATIONS = frozenset({"Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"})
SCALINGS = frozenset({"Normalization", "Rescaling"})
# Layers that move data or do nothing at inference. PadChannels is ResNet-20's shortcut in tf_keras.
_SILENT = frozenset(
    {"ActivityRegularization", "Dropout", "Flatten", "GaussianDropout", "GaussianNoise"}
    | {"InputLayer", "PadChannels", "Permute", "QuantizeLayer", "RepeatVector", "Reshape"}
    | {"Concatenate", "ExpandDims", "GetItem", "Identity", "Pad", "Squeeze", "Transpose"}
    | {
        f"{kind}{rank}D"
        for kind in ("Cropping", "GlobalMaxPooling", "MaxPooling", "SpatialDropout", "UpSampling")
        for rank in (1, 2, 3)
    }
    | {f"ZeroPadding{rank}D" for rank in (1, 2, 3)}
)
# Layers whose output channel c depends on input channel c alone.
CHANNELWISE = frozenset(
    {"BatchNormalization", "Dropout", "DepthwiseConv1D", "DepthwiseConv2D"}
    | (ACTIVATIONS - {"Softmax"})
    | {
        f"{kind}{rank}D"
        for kind in ("AveragePooling", "Cropping", "GlobalAveragePooling", "GlobalMaxPooling")
        for rank in (1, 2, 3)
    }
    | {
        f"{kind}{rank}D"
        for kind in ("MaxPooling", "SpatialDropout", "UpSampling", "ZeroPadding")
        for rank in (1, 2, 3)
    }
)
# Functions of TensorFlow and of keras.ops under the name of the layer that does the same.
_LAYER_OF = {
    "Relu": "ReLU",
    "Relu6": "ReLU",
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "nn.relu": "ReLU",
}


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer, or of a function that stands for one.

    Attributes:
      layer: the layer, or what is called in its place.
      kind: name of its class, or of the function.
      inputs: numbers of the calls that made what it reads.
      source, result: shapes of its first input (of an input of the model its own) and of its first
        output, with the batch.
    """

    layer: Any
    kind: str
    inputs: tuple[int, ...]
    source: tuple[int | None, ...]
    result: tuple[int | None, ...]


def counts_as_ternary(weights: np.ndarray) -> bool:
    """Whether the rules of sparse formats apply: one pair of values for the tensor, and zeros."""
    return bool(is_ternary(weights.reshape(1, -1)) and (weights == 0).any() and weights.any())


def operations(model: Any) -> list[Operation]:
    """The layer calls of a Sequential or functional model in the order they run.

    Models inside models are opened. A model made by `ec2t_tf.apply` is stripped first, so that its
    ternary layers hold {-w_n, 0, +w_p}.

    Raises:
      TypeError: not a model of Keras 3 or tf_keras.
      ValueError: the model is not built, is of the user's own class, has an image size of None, or
        holds a layer that cannot be counted.
    """
    room = doors.of(model)
    if room is None:
        raise TypeError(
            "A Sequential or functional model of Keras 3 or tf_keras is required. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    if not room.calls.is_readable(model):
        raise ValueError(
            "A built Sequential or functional model is required. Received: "
            f"{type(model).__name__} '{model.name}'. Give its first layer an input shape, or "
            "rebuild it with Model(inputs, outputs)."
        )
    if room.strip.is_treated(model):
        model = room.strip.plain(model)
    seen: set[int] = set()
    found = []
    for call in room.calls.calls(model):
        found.append(_operation(call, first_use=id(call.layer) not in seen))
        seen.add(id(call.layer))
    return found


def _operation(call: LayerCall, *, first_use: bool) -> Operation:
    layer, kind = call.layer, _LAYER_OF.get(call.kind, call.kind)
    operation = Operation(
        name=layer.name,
        kind=kind,
        inputs=call.inputs,
        channels=call.result[-1] or 1,
        elements=math.prod(_known(layer, call.result[1:])),
        weights=tuple(_weights(call, first_use)),
        activation="relu" if kind == "ReLU" else _activation(layer),
        window=_window(call),
        first_use=first_use,
    )
    countable = operation.weights or operation.window or kind == "BatchNormalization"
    if not countable and kind not in ELEMENTWISE | ACTIVATIONS | SCALINGS | _SILENT:
        raise ValueError(
            "Layers that can be counted are required: Dense, Conv, DepthwiseConv, "
            "SeparableConv, ConvTranspose, BatchNormalization, pooling, activations, and "
            f"layers that only move data. Received: {kind} '{layer.name}'. Replace it, or "
            "count the model without it."
        )
    return operation


def _known(layer: Any, sizes: tuple[int | None, ...]) -> tuple[int, ...]:
    known = tuple(size for size in sizes if size is not None)
    if len(known) < len(sizes):
        raise ValueError(
            "Fixed sizes are required to count operations. Received: layer "
            f"'{layer.name}' with a map of {sizes}. Build the model without None in its "
            "input shape (the batch size may stay None)."
        )
    return known


def _weights(call: LayerCall, first_use: bool) -> Iterator[WeightTensor]:
    layer, kind = call.layer, type(call.layer).__name__

    def tensor(part: str, kind: WeightKind, matrix: np.ndarray, bias: bool) -> WeightTensor:
        applied = _known(layer, places(layer, call.source, call.result))
        return WeightTensor(layer.name + part, kind, matrix, applied, bias, first_use)

    def depthwise() -> np.ndarray:  # taps..., inputs, multiplier
        own_name = hasattr(layer, "depthwise_kernel")  # DepthwiseConv of Keras 3: just `kernel`
        kernel = _numbers(layer.depthwise_kernel if own_name else layer.kernel)
        return kernel.reshape(1, -1, kernel.shape[-2] * kernel.shape[-1])

    if kind == "Dense":
        yield tensor("", "dense", _numbers(layer.kernel)[:, None, :], layer.use_bias)
    elif kind.startswith("DepthwiseConv"):
        yield tensor("", "depthwise", depthwise(), layer.use_bias)
    elif kind.startswith("SeparableConv"):
        yield tensor("/depthwise", "depthwise", depthwise(), False)
        point = _numbers(layer.pointwise_kernel)
        point = point.reshape(point.shape[-2], 1, point.shape[-1])
        yield tensor("/pointwise", "convolution", point, layer.use_bias)
    elif kind in ("Conv1D", "Conv2D", "Conv3D"):
        kernel = _numbers(layer.kernel)  # taps..., inputs, outputs
        matrix = kernel.reshape(-1, *kernel.shape[-2:]).transpose(1, 0, 2)
        yield tensor("", "convolution", matrix, layer.use_bias)
    elif kind in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"):
        kernel = _numbers(layer.kernel)  # taps..., outputs, inputs
        matrix = kernel.reshape(-1, *kernel.shape[-2:]).transpose(2, 0, 1)
        yield tensor("", "convolution", matrix, layer.use_bias)


def _numbers(weight: Any) -> np.ndarray:
    """A variable of Keras 3 on any backend, or of TensorFlow."""
    if hasattr(weight, "numpy"):
        return np.asarray(weight.numpy())
    import keras

    return keras.ops.convert_to_numpy(weight)


def _activation(layer: Any) -> str:
    kind = type(layer).__name__
    if kind in ("LeakyReLU", "PReLU"):
        return "relu"
    if kind in ("ELU", "Softmax"):
        return kind.lower()
    activation = getattr(layer, "activation", None)
    if activation is None:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__).lower()


def _window(call: LayerCall) -> int:
    kind = type(call.layer).__name__
    if kind.startswith("GlobalAveragePooling"):
        return math.prod(_known(call.layer, call.source[1:-1]))
    if kind.startswith("AveragePooling"):
        size = call.layer.pool_size
        return math.prod(size) if isinstance(size, tuple | list) else int(size)
    return 0
