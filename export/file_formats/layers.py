"""The ternary layers of an int8 net."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..graph import FileError, Graph, Operator, Tensor
from ..graph.ternary import channels_of, is_ternary

CONV_2D = "CONV_2D"
DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
FULLY_CONNECTED = "FULLY_CONNECTED"
KINDS = (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)


@dataclasses.dataclass(frozen=True)
class TernaryLayer:
    """One int8 convolution or fully connected layer, as a rule with at most three codes an output
    channel.

    Attributes:
      graph: the net.
      number: of the layer's operator in it.
    """

    graph: Graph
    number: int

    @property
    def operator(self) -> Operator:
        return self.graph.operators[self.number]

    @property
    def kind(self) -> str:
        """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED."""
        return self.operator.kind

    @property
    def input(self) -> Tensor:
        return self.graph.tensors[self.operator.inputs[0]]

    @property
    def weights(self) -> Tensor:
        return self.graph.tensors[self.operator.inputs[1]]

    @property
    def bias(self) -> Tensor | None:
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else None

    @property
    def output(self) -> Tensor:
        return self.graph.tensors[self.operator.outputs[0]]

    @property
    def name(self) -> str:
        """The name of the layer's weights: shorter than its output's, which lists fused layers."""
        return self.weights.name

    @property
    def codes(self) -> npt.NDArray[np.int8]:
        """int8, in the shape of the weight tensor."""
        data: Any = self.weights.data
        return data

    @property
    def channel_axis(self) -> int:
        """The axis of `codes` that counts output channels."""
        return self.codes.ndim - 1 if self.kind == DEPTHWISE_CONV_2D else 0

    @property
    def rows(self) -> npt.NDArray[np.int8]:
        """int8 [output channels, weights of one channel]."""
        return channels_of(self.codes, self.channel_axis)

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """float32 [output channels]: the weights' scale, repeated where one serves the tensor."""
        return np.broadcast_to(self.weights.scale, (self.codes.shape[self.channel_axis],))

    @property
    def sparsity(self) -> float:
        """Share of zero weights."""
        return 1 - np.count_nonzero(self.codes) / self.codes.size


@dataclasses.dataclass(frozen=True)
class OtherLayer:
    """A convolution or fully connected layer left as it is, and why."""

    name: str
    kind: str
    reason: str


def find_layers(graph: Graph) -> tuple[list[TernaryLayer], list[OtherLayer]]:
    """All convolutions and fully connected layers of `graph`, in execution order.

    Returns:
      The ternary int8 layers, and the others with the reason why they are not.
    """
    users: dict[int, set[str]] = collections.defaultdict(set)
    for operator in graph.operators:
        for index in operator.inputs:
            users[index].add(operator.kind)
    ternary: list[TernaryLayer] = []
    others: list[OtherLayer] = []
    known: dict[int, bool] = {}
    for number, operator in enumerate(graph.operators):
        if operator.kind not in KINDS or operator.custom is not None:
            continue
        reason = _reason_against(graph, operator)
        index = operator.inputs[1] if len(operator.inputs) > 1 else -1
        if reason is None and len(users[index]) > 1:
            reason = "its weights are used by another kind of operator too"
        if reason is None:
            layer = TernaryLayer(graph, number)
            if index not in known:
                known[index] = is_ternary(layer.rows)
            if known[index]:
                ternary.append(layer)
                continue
            reason = "it has more than three codes in an output channel"
        name = graph.tensors[index].name if index >= 0 else ""
        others.append(OtherLayer(name, operator.kind, reason))
    return ternary, others


def find_dense_layers(graph: Graph) -> list[TernaryLayer]:
    """Convolutions and fully connected layers of int8 codes that are not ternary and that no other
    operator shares."""
    users = collections.Counter(index for one in graph.operators for index in one.inputs)
    found = []
    for number, operator in enumerate(graph.operators):
        if operator.kind not in KINDS or operator.custom is not None:
            continue
        layer = TernaryLayer(graph, number)
        stored_once = _reason_against(graph, operator) is None and users[operator.inputs[1]] == 1
        if stored_once and not is_ternary(layer.rows):
            found.append(layer)
    return found


def _reason_against(graph: Graph, operator: Operator) -> str | None:
    """Why `operator` is no int8 layer with constant weights, or `None` if it is one."""
    if len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0 or len(operator.outputs) != 1:
        return "it lacks an input, its weights or an output"
    source, weights = (graph.tensors[index] for index in operator.inputs[:2])
    result = graph.tensors[operator.outputs[0]]
    if (source.dtype, weights.dtype, result.dtype) != ("int8",) * 3:
        return "its input, weights and output are not all int8"
    if weights.storage == "sparse":
        return "its weights are stored sparse"
    if weights.data is None:
        return "its weights are not constant"
    kind = operator.kind
    if weights.data.ndim != (2 if kind == FULLY_CONNECTED else 4) or not weights.data.size:
        return f"its weights have the shape {weights.shape}"
    channels = weights.shape[-1 if kind == DEPTHWISE_CONV_2D else 0]
    if len(weights.scale) not in (1, channels):
        return f"its weights have {len(weights.scale)} scales for {channels} channels"
    if any(len(tensor.scale) != 1 for tensor in (source, result)):
        return "its input and output do not have one scale each"
    if weights.zero_point.any():
        return "its weights have a zero point"
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias = graph.tensors[operator.inputs[2]]
        if bias.dtype != "int32":
            return "its bias is not int32"
        if bias.data is None or bias.data.size != channels:
            return f"its bias is not a constant of {channels} values"
    return None


def summary(others: Sequence[OtherLayer]) -> str:
    """Why layers are not ternary, each reason once: "3 layers: ...; 1 layer: ..."."""
    if not others:
        return "no convolution and no fully connected layer"
    counts = collections.Counter(layer.reason for layer in others)
    return "; ".join(
        f"{count} layer{'s' * (count > 1)}: {reason}" for reason, count in counts.most_common(3)
    )


def require_layers(graph: Graph, what: str) -> list[TernaryLayer]:
    """The ternary layers of `graph`.

    Raises:
      FileError: there is none.
    """
    ternary, others = find_layers(graph)
    if not ternary:
        raise FileError(
            f"{what} needs an int8 .tflite file with ternary layers (at most one positive and one "
            f"negative code an output channel). Received: {summary(others)}."
        )
    return ternary


def copied(graph: Graph) -> Graph:
    """A graph whose lists, tensors and operators may be changed; constants are shared."""
    return dataclasses.replace(
        graph,
        tensors=[dataclasses.replace(tensor) for tensor in graph.tensors],
        operators=[
            dataclasses.replace(operator, options=dict(operator.options))
            for operator in graph.operators
        ],
    )


def nameless(graph: Graph) -> Graph:
    """The net without names of tensors, signatures and what the file says about itself."""
    result = copied(graph)
    for tensor in result.tensors:
        tensor.name = ""
    result.signatures, result.metadata, result.description = [], {}, ""
    return result
