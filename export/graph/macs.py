"""Multiply-accumulates of a net, zeros counted as any weight."""

from __future__ import annotations

import math

from .graph import Graph, Operator


def macs(graph: Graph, operator: Operator) -> int:
    """Of one run of an operator with a kernel; 0 of any other.

    A convolution applies every weight once at each place of its output map, a transposed one at
    each place of its input.
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
    return 0
