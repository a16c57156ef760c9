"""Turns maps of one column, which every 1-D net has, into maps of one row.

Kernels work on neighbouring pixels of a row. In a tensor [1, rows, 1, channels] no two pixels are
neighbours; as [1, 1, rows, channels] it holds the same bytes in the same order, and a convolution
over it computes the same with its kernel turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ec2t_tf.export.graph import Graph, Operator, Tensor

from .arithmetic import same_padding

MOST_STRIDE = 2  # along a row, of the kernels of every core
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
# Element by element.
_ALIKE = (
    *("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE", "SOFTMAX", "QUANTIZE"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "HARD_SWISH"),
    *("LOGISTIC", "TANH"),
)
# What they compute of a map does not depend on where its rows end.
_INDIFFERENT = ("RESHAPE", "FULLY_CONNECTED")


def without_columns(graph: Graph) -> Graph:
    """The net with maps of one row for maps of one column, under their old numbers. The graph
    itself where nothing is gained."""
    turned = [op if _turns(graph, op) else None for op in graph.operators]
    gain = sum(op is not None and op.kind in _CONVOLUTIONS for op in turned)
    if not gain:
        return graph
    rows = {
        t
        for op in turned
        if op is not None
        for t in (*op.inputs, *op.outputs)
        if t >= 0 and _is_column(graph.tensors[t])
    }
    tensors = list(graph.tensors)
    for t in rows:
        shape = tensors[t].shape
        tensors[t] = replace(tensors[t], shape=(1, 1, shape[1], shape[3]))
    columns: dict[int, int] = {}  # rows -> the same as one column, where something needs that
    operators: list[Operator] = []
    between = 0

    def column(t: int) -> int:
        if t not in columns:
            columns[t] = len(tensors)
            tensors.append(graph.tensors[t])
        return columns[t]

    for number, op in enumerate(graph.operators):
        if turned[number] is not None:
            operators.append(_turned(graph, op, tensors))
            continue
        if op.kind in _INDIFFERENT:
            operators.append(op)
            continue
        for t in op.inputs:
            if t in rows and t not in columns:
                operators.append(Operator("RESHAPE", (t,), (column(t),), {}))
                between += 1
        inputs = tuple(column(t) if t in rows else t for t in op.inputs)
        outputs = tuple(column(t) if t in rows else t for t in op.outputs)
        operators.append(replace(op, inputs=inputs, outputs=outputs))
        for t in op.outputs:
            if t in rows:
                operators.append(Operator("RESHAPE", (column(t),), (t,), {}))
                between += 1
    if between > gain:
        return graph
    return replace(graph, tensors=tensors, operators=operators)


def _is_column(t: Tensor) -> bool:
    """An activation of several rows and one column."""
    one = len(t.shape) == 4 and t.shape[0] == t.shape[2] == 1 and t.shape[1] > 1
    return one and t.data is None and t.dtype == "int8"


def _turns(graph: Graph, op: Operator) -> bool:
    """Whether an operator can work on rows in place of columns."""
    activations = [
        graph.tensors[t]
        for t in (*op.inputs, *op.outputs)
        if t >= 0 and graph.tensors[t].data is None
    ]
    if len(op.outputs) != 1 or not activations or not any(map(_is_column, activations)):
        return False
    if any(t.dtype == "int16" for t in activations):
        return False  # of a normalisation, whose inside keeps its shape
    if op.kind in _ALIKE:
        constants = [graph.tensors[t] for t in op.inputs if t >= 0]
        small = all(
            t.data is None or (int(np.prod(t.shape[:-1])) == 1 and len(t.shape) <= 4)
            for t in constants
        )
        same = len({t.shape for t in activations}) == 1
        return small and same
    source, out = activations[0], activations[-1]
    if not all(len(t.shape) == 4 and t.shape[0] == t.shape[2] == 1 for t in (source, out)):
        return False
    if op.kind in _POOLS:
        one = op.options["padding"] == "same" or op.options["size"][1] == 1
        return bool(one) and op.options["stride"][0] <= MOST_STRIDE
    if op.kind in _CONVOLUTIONS:
        return op.options["stride"][0] <= MOST_STRIDE and _middle(graph, op) is not None
    return False


def _middle(graph: Graph, op: Operator) -> int | None:
    """The column of a kernel that meets the one column of the input; all others meet padding."""
    filters = graph.tensors[op.inputs[1]]
    if len(filters.shape) != 4 or filters.data is None:
        return None
    columns, stride = filters.shape[2], op.options["stride"][1]
    dilation = op.options["dilation"][1]
    if op.options["padding"] != "same":
        return 0 if columns == 1 else None
    if dilation < 1 or stride < 1:
        return None
    before = same_padding(1, 1, columns, stride, dilation)[0]
    return before // dilation if before % dilation == 0 and before // dilation < columns else None


def _turned(graph: Graph, op: Operator, tensors: list[Tensor]) -> Operator:
    """The operator on rows; `tensors` gets a kernel of one row."""
    if op.kind not in (*_CONVOLUTIONS, *_POOLS):
        return op
    options = dict(op.options)
    options["stride"] = (1, op.options["stride"][0])
    if op.kind in _POOLS:
        options["size"] = (1, op.options["size"][0])
        return replace(op, options=options)
    options["dilation"] = (1, op.options["dilation"][0])
    filters, middle = graph.tensors[op.inputs[1]], _middle(graph, op)
    assert filters.data is not None
    assert middle is not None
    data = np.ascontiguousarray(filters.data[:, :, middle : middle + 1].transpose(0, 2, 1, 3))
    inputs: Sequence[int] = (op.inputs[0], len(tensors), *op.inputs[2:])
    tensors.append(replace(filters, shape=data.shape, data=data))
    return replace(op, inputs=tuple(inputs), options=options)
