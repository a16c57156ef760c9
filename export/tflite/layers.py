"""The ternary layers of an int8 .tflite model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import builtin_code, constant, text

CONV_2D = "CONV_2D"
DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
FULLY_CONNECTED = "FULLY_CONNECTED"
KINDS = {
    getattr(schema.BuiltinOperator, kind): kind
    for kind in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
}


@dataclass(frozen=True)
class TernaryLayer:
    """One convolution or fully connected layer with at most three codes an output channel."""

    graph: Any
    """The `schema.SubGraphT` it is in."""
    operator: Any
    """Its `schema.OperatorT`."""
    kind: str
    """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED."""
    codes: np.ndarray
    """int8, in the shape of the weight tensor."""

    @property
    def input(self) -> Any:
        return self.graph.tensors[self.operator.inputs[0]]

    @property
    def weights(self) -> Any:
        return self.graph.tensors[self.operator.inputs[1]]

    @property
    def bias(self) -> Any | None:
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else None

    @property
    def output(self) -> Any:
        return self.graph.tensors[self.operator.outputs[0]]

    @property
    def name(self) -> str:
        """The name of the layer's weights: shorter than its output's, which lists fused layers."""
        return text(self.weights.name)

    @property
    def channel_axis(self) -> int:
        """The axis of `codes` that counts output channels."""
        return self.codes.ndim - 1 if self.kind == DEPTHWISE_CONV_2D else 0

    @property
    def rows(self) -> np.ndarray:
        """int8 [output channels, weights of one channel]."""
        return channel_rows(self.codes, self.channel_axis)

    @property
    def scales(self) -> np.ndarray:
        """float32 [output channels]: the weights' scale, repeated where one serves the tensor."""
        scale = np.asarray(self.weights.quantization.scale, np.float32)
        return np.broadcast_to(scale, (self.codes.shape[self.channel_axis],))

    @property
    def sparsity(self) -> float:
        """Share of zero weights."""
        return 1 - np.count_nonzero(self.codes) / self.codes.size


@dataclass(frozen=True)
class OtherLayer:
    """A convolution or fully connected layer left as it is, and why."""

    name: str
    kind: str
    reason: str


def channel_rows(codes: np.ndarray, axis: int) -> np.ndarray:
    """`codes` as [channels, weights of one channel], in the order of memory."""
    return np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)


def is_ternary(rows: np.ndarray) -> bool:
    """Whether every row holds at most one positive and one negative code."""
    rows = rows.astype(np.int16)
    highest = rows.max(axis=1, keepdims=True, initial=0)
    lowest = rows.min(axis=1, keepdims=True, initial=0)
    return bool(np.all((rows == 0) | (rows == highest) | (rows == lowest)))


def _scales_of(tensor: Any) -> np.ndarray:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return np.zeros(0, np.float32)
    return np.asarray(quantization.scale, np.float32)


def _reason_against(model: Any, graph: Any, operator: Any, kind: str) -> str | None:
    """Why `operator` is no ternary int8 layer, or `None` if it is one."""
    if len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0 or len(operator.outputs) != 1:
        return "it lacks an input, its weights or an output"
    source, weights = (graph.tensors[index] for index in operator.inputs[:2])
    result = graph.tensors[operator.outputs[0]]
    if weights.sparsity is not None:
        return "its weights are stored sparse"
    int8 = schema.TensorType.INT8
    if (source.type, weights.type, result.type) != (int8, int8, int8):
        return "its input, weights and output are not all int8"
    if operator.builtinOptions is None:
        return "it has no options"
    data = constant(model, weights)
    if data is None:
        return "its weights are not constant"
    expected_rank = 2 if kind == FULLY_CONNECTED else 4
    if len(weights.shape) != expected_rank or len(data) != np.prod(weights.shape, dtype=object):
        return f"its weights of shape {weights.shape} come as {len(data)} bytes"
    channels = weights.shape[-1 if kind == DEPTHWISE_CONV_2D else 0]
    if len(_scales_of(weights)) not in (1, channels):
        return f"its weights have {len(_scales_of(weights))} scales for {channels} channels"
    if any(len(_scales_of(tensor)) != 1 for tensor in (source, result)):
        return "its input and output do not have one scale each"
    zero_point = weights.quantization.zeroPoint
    if zero_point is not None and np.any(np.asarray(zero_point) != 0):
        return "its weights have a zero point"
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias = graph.tensors[operator.inputs[2]]
        data_of_bias = constant(model, bias)
        if bias.type != schema.TensorType.INT32:
            return "its bias is not int32"
        if data_of_bias is None or len(data_of_bias) != 4 * channels:
            return f"its bias is not a constant of {channels} values"
    return None


def find_layers(model: Any) -> tuple[list[TernaryLayer], list[OtherLayer]]:
    """All convolutions and fully connected layers of `model`, in execution order.

    Returns:
        The ternary int8 layers, and the others with the reason why they are not.
    """
    ternary: list[TernaryLayer] = []
    others: list[OtherLayer] = []
    for graph in model.subgraphs:
        users: dict[int, set[int]] = {}
        for operator in graph.operators:
            for index in operator.inputs:
                users.setdefault(int(index), set()).add(builtin_code(model, operator))
        for operator in graph.operators:
            kind = KINDS.get(builtin_code(model, operator))
            if kind is None:
                continue
            reason = _reason_against(model, graph, operator, kind)
            weights = graph.tensors[operator.inputs[1]] if len(operator.inputs) > 1 else None
            if reason is None and weights is not None:
                if len(users[int(operator.inputs[1])]) > 1:
                    reason = "its weights are used by another kind of operator too"
                else:
                    data = constant(model, weights)
                    assert data is not None
                    codes = data.view(np.int8).reshape(weights.shape)
                    layer = TernaryLayer(graph, operator, kind, codes)
                    if is_ternary(layer.rows):
                        ternary.append(layer)
                        continue
                    reason = "it has more than three codes in an output channel"
            name = text(weights.name) if weights is not None else ""
            others.append(OtherLayer(name, kind, reason or ""))
    return ternary, others


def require_layers(model: Any, what: str) -> list[TernaryLayer]:
    """The ternary layers of `model`.

    Raises:
        ValueError: there is none.
    """
    ternary, others = find_layers(model)
    if not ternary:
        listed = "; ".join(f"{layer.name} ({layer.kind}): {layer.reason}" for layer in others)
        raise ValueError(
            f"{what} needs an int8 .tflite file with ternary layers (at most three codes an "
            f"output channel, one of them 0). Received: a file with none. {listed or 'No layers.'}"
        )
    return ternary
