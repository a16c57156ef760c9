"""A model as the list of what it computes, in order: the ground `scoring` counts on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

WeightKind = Literal["convolution", "depthwise", "dense"]


@dataclass(frozen=True)
class WeightTensor:
    """One weight tensor and how often it is applied in one inference.

    Attributes:
      name: name of the layer; of its part where a layer has two ("separable/pointwise").
      kind: what its rows meet.
      matrix: the weights as (inputs, taps, outputs); inputs is 1 for a depthwise convolution.
      positions: how often each weight is used: output pixels or time steps, 1 for a vector.
      bias: whether a bias is added to its outputs.
      first_use: False where a layer is called again: it computes, but is stored already.
    """

    name: str
    kind: WeightKind
    matrix: np.ndarray
    positions: int
    bias: bool
    first_use: bool = True


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
# Layers that move data or do nothing at inference. PadChannels is the zoo's option-A shortcut.
_SILENT = frozenset(
    {"ActivityRegularization", "Dropout", "Flatten", "GaussianDropout", "GaussianNoise"}
    | {"InputLayer", "PadChannels", "Permute", "QuantizeLayer", "RepeatVector", "Reshape"}
    | {"Concatenate"}
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
# Operators written in Python (x + y) become layers of their own.
_OPERATORS = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "nn.relu": "ReLU",
}


def operations(model: Any) -> list[Operation]:
    """The layer calls of a Sequential or Functional model in the order they run.

    Models inside models are opened. A model made by `ec2t_tf.apply` is stripped first, so that its
    ternary layers hold {-w_n, 0, +w_p}.

    Raises:
      TypeError: not a tf_keras Sequential or Functional model.
      ValueError: the model is not built, has an image size of None, or holds a layer that cannot
        be counted.
    """
    import tf_keras

    if not isinstance(model, tf_keras.Model):
        raise TypeError(
            "A tf_keras Sequential or Functional model is required. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    if not model.built or not getattr(model, "_is_graph_network", False):
        raise ValueError(
            "A built Sequential or Functional model is required. Received: "
            f"{type(model).__name__} '{model.name}'. Give its first layer an input_shape, or "
            "rebuild it with tf_keras.Model(inputs, outputs)."
        )
    if any(type(layer).__name__.startswith("Quantize") for layer in model.layers):
        from ec2t_tf.strip import strip

        model = strip(model)
    walk = _Walk()
    walk.visit(model)
    return walk.found


class _Walk:
    """Collects operations; knows which operation made each symbolic tensor."""

    def __init__(self) -> None:
        self.found: list[Operation] = []
        self._maker: dict[int, int] = {}
        self._seen: set[int] = set()

    def visit(self, model: Any) -> None:
        import tf_keras

        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                layer, outputs = node.layer, _list(node.outputs)
                sources = tuple(self._maker[id(tensor)] for tensor in _list(node.keras_inputs))
                if isinstance(layer, tf_keras.Model):
                    for inner, source in zip(layer.inputs, sources, strict=True):
                        self._maker[id(inner)] = source
                    self.visit(layer)
                    for outer, inner in zip(outputs, layer.outputs, strict=True):
                        self._maker[id(outer)] = self._maker[id(inner)]
                elif not (type(layer).__name__ == "InputLayer" and id(outputs[0]) in self._maker):
                    # (else: the input of a model inside a model, whose maker is known)
                    for output in outputs:
                        self._maker[id(output)] = len(self.found)
                    self.found.append(self._operation(layer, sources, outputs[0].shape))
                    self._seen.add(id(layer))

    def _operation(self, layer: Any, sources: tuple[int, ...], shape: Any) -> Operation:
        kind = _OPERATORS.get(getattr(layer, "symbol", ""), type(layer).__name__)
        first_use = id(layer) not in self._seen
        operation = Operation(
            name=layer.name,
            kind=kind,
            inputs=sources,
            channels=shape[-1] or 1,
            elements=_size(layer, tuple(shape)[1:]),
            weights=tuple(_weights(layer, tuple(shape), first_use)),
            activation="relu" if kind == "ReLU" else _activation(layer),
            window=_window(layer),
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


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _size(layer: Any, sizes: tuple[int | None, ...]) -> int:
    if any(size is None for size in sizes):
        raise ValueError(
            "Fixed sizes are required to count operations. Received: layer "
            f"'{layer.name}' with an output of {sizes}. Build the model without None in its "
            "input_shape (the batch size may stay None)."
        )
    return math.prod(size for size in sizes if size is not None)


def _weights(layer: Any, shape: tuple[int, ...], first_use: bool) -> Iterator[WeightTensor]:
    kind = type(layer).__name__
    first_channels = getattr(layer, "data_format", None) == "channels_first"
    pixels = math.prod(shape[2:] if first_channels else shape[1:-1])

    def tensor(
        part: str, kind: WeightKind, matrix: np.ndarray, bias: bool, positions: int = pixels
    ) -> WeightTensor:
        return WeightTensor(layer.name + part, kind, matrix, positions, bias, first_use)

    def depthwise(kernel: np.ndarray) -> np.ndarray:  # taps..., inputs, multiplier
        return kernel.reshape(1, -1, kernel.shape[-2] * kernel.shape[-1])

    if kind == "Dense":
        yield tensor("", "dense", layer.kernel.numpy()[:, None, :], layer.use_bias)
    elif kind.startswith("DepthwiseConv"):
        yield tensor("", "depthwise", depthwise(layer.depthwise_kernel.numpy()), layer.use_bias)
    elif kind.startswith("SeparableConv"):
        yield tensor("/depthwise", "depthwise", depthwise(layer.depthwise_kernel.numpy()), False)
        point = layer.pointwise_kernel.numpy()
        point = point.reshape(point.shape[-2], 1, point.shape[-1])
        yield tensor("/pointwise", "convolution", point, layer.use_bias)
    elif kind in ("Conv1D", "Conv2D", "Conv3D"):
        kernel = layer.kernel.numpy()  # taps..., inputs, outputs
        matrix = kernel.reshape(-1, *kernel.shape[-2:]).transpose(1, 0, 2)
        yield tensor("", "convolution", matrix, layer.use_bias)
    elif kind in ("Conv2DTranspose", "Conv3DTranspose"):
        kernel = layer.kernel.numpy()  # taps..., outputs, inputs
        matrix = kernel.reshape(-1, *kernel.shape[-2:]).transpose(2, 0, 1)
        # Every input pixel meets every tap once, so it is input pixels that count.
        inputs = tuple(layer.input_shape)
        pixels = math.prod(inputs[2:] if first_channels else inputs[1:-1])
        yield tensor("", "convolution", matrix, layer.use_bias, pixels)


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


def _window(layer: Any) -> int:
    kind = type(layer).__name__
    if kind.startswith("GlobalAveragePooling"):
        return math.prod(tuple(layer.input_shape)[1:-1])
    if kind.startswith("AveragePooling"):
        return math.prod(_list(layer.pool_size))
    return 0
