"""Multiply-accumulates of a net, zeros counted as any weight.

`multiply_accumulates` is the one count of the package: what a file's operator costs (`macs`), and
what a layer costs in training (`ec2t_tf.summary`, `ec2t_tf.counting`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .graph import Graph, Operator
from .ternary import RECURRENT


def multiply_accumulates(kernel: Sequence[int], places: Sequence[int | None]) -> int:
    """Of a kernel that is applied as a whole once at each place of a map.

    Args:
      kernel: sizes of the kernel, in any order.
      places: sizes of the map: batch, height and width, time steps. One not known counts once.
    """
    return math.prod(kernel) * math.prod(1 if size is None else size for size in places)


def macs(graph: Graph, operator: Operator) -> int:
    """Of one run of an operator with a kernel; 0 of any other.

    A convolution applies every weight once at each place of its output map, a transposed one at
    each place of its input, a recurrent one at each step.
    """

    def shape(index: int) -> tuple[int, ...]:
        return graph.tensors[index].shape

    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        kernel, applied = operator.inputs[1], operator.outputs[0]
        return multiply_accumulates(shape(kernel), shape(applied)[:-1])
    if operator.kind == "TRANSPOSE_CONV":
        kernel, applied = operator.inputs[1], operator.inputs[2]
        return multiply_accumulates(shape(kernel), shape(applied)[:-1])
    if operator.kind == "FULLY_CONNECTED":
        weights = shape(operator.inputs[1])
        rows = math.prod(shape(operator.inputs[0])) // max(weights[-1], 1)
        return multiply_accumulates(weights, (rows,))
    if operator.kind == "BATCH_MATMUL":
        axis = -2 if operator.options.get("adj_x", False) else -1
        inner = shape(operator.inputs[0])[axis]
        return multiply_accumulates((inner,), shape(operator.outputs[0]))
    if operator.kind in RECURRENT:
        kernels = [operator.inputs[place] for place in RECURRENT[operator.kind]]
        kernels = [index for index in kernels if index >= 0]  # gates that are coupled have fewer
        steps = shape(operator.inputs[0])[:-1]  # with the time axis, but for SVDF
        return sum(multiply_accumulates(shape(kernel), steps) for kernel in kernels)
    return 0


def total_macs(graph: Graph) -> int:
    """Of one run of the whole net."""
    return sum(macs(graph, operator) for operator in graph.operators)
