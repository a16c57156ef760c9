"""Multiply-accumulates of a net, zeros counted as any weight."""

from __future__ import annotations

import math

from .graph import Graph, Operator
from .ternary import RECURRENT


def macs(graph: Graph, operator: Operator) -> int:
    """Of one run of an operator with a kernel; 0 of any other.

    A convolution applies every weight once at each place of its output map, a transposed one at
    each place of its input, a recurrent one at each step.
    """
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        batch, height, width, _ = graph.tensors[operator.outputs[0]].shape
        return batch * height * width * math.prod(graph.tensors[operator.inputs[1]].shape)
    if operator.kind == "TRANSPOSE_CONV":
        batch, height, width, _ = graph.tensors[operator.inputs[2]].shape
        return batch * height * width * math.prod(graph.tensors[operator.inputs[1]].shape)
    if operator.kind == "FULLY_CONNECTED":
        weights = graph.tensors[operator.inputs[1]].shape
        elements = math.prod(graph.tensors[operator.inputs[0]].shape)
        return elements // max(weights[-1], 1) * math.prod(weights)
    if operator.kind == "BATCH_MATMUL":
        inner = graph.tensors[operator.inputs[0]].shape
        axis = -2 if operator.options.get("adj_x", False) else -1
        return math.prod(graph.tensors[operator.outputs[0]].shape) * inner[axis]
    if operator.kind in RECURRENT:
        kernels = [graph.tensors[operator.inputs[place]] for place in RECURRENT[operator.kind]]
        entry = graph.tensors[operator.inputs[0]].shape  # with its time axis, but for SVDF
        return math.prod(entry[:-1]) * sum(math.prod(kernel.shape) for kernel in kernels)
    return 0


def total_macs(graph: Graph) -> int:
    """Of one run of the whole net."""
    return sum(macs(graph, operator) for operator in graph.operators)
