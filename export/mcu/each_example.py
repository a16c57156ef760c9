"""Maps of several examples, as a TimeDistributed makes of a sequence: one example after the other,
since the kernels of maps take one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ec2t_tf.export.graph import Graph, Operator

_MAPS = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MAX_POOL_2D", "AVERAGE_POOL_2D"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
)
# What stays apart between two of them.
_ALONG = (
    *("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM", "PAD", "PADV2", "QUANTIZE", "RESHAPE"),
    *("RELU", "RELU6", "LEAKY_RELU", "PRELU", "LOGISTIC", "TANH", "HARD_SWISH"),
)
_DATA = {"TRANSPOSE_CONV": 2}  # the place of the values among the inputs, else the first


def with_each_example(graph: Graph) -> Graph:
    """The net with an operator for each example where one had maps of several."""
    if not any(_is_of_several(graph, op) for op in graph.operators):
        return graph
    dealing = _Dealing(replace(graph, tensors=list(graph.tensors), operators=[]))
    for op in graph.operators:
        dealing.add(op)
    for index in graph.outputs:
        dealing.join(index)
    return dealing.graph


def _is_of_several(graph: Graph, op: Operator) -> bool:
    if op.kind not in _MAPS:
        return False
    source = graph.tensors[op.inputs[_DATA.get(op.kind, 0)]]
    return source.data is None and len(source.shape) == 4 and source.shape[0] > 1


class _Dealing:
    """The new net.

    Attributes:
      parts: by a tensor of several examples, those of one.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parts: dict[int, list[int]] = {}
        self._joined: set[int] = set()

    def add(self, op: Operator) -> None:
        if not self._is_dealt(op):
            for index in op.inputs:
                self.join(index)
            self.graph.operators.append(op)
            return
        (target,) = op.outputs
        dealt = self._values(op)
        for index in dealt:
            self._deal(index)
        made = []
        for number in range(self.graph.tensors[target].shape[0]):
            inputs = [self.parts[i][number] if i in dealt else i for i in op.inputs]
            made.append(self._one(target, number))
            self._shape_of_one(op, inputs, made[-1])
            self.graph.operators.append(replace(op, inputs=tuple(inputs), outputs=(made[-1],)))
        self.parts[target] = made

    def join(self, index: int) -> None:
        """The tensor of all examples, for what reads that."""
        if index in self._joined or index not in self.parts:
            return
        self._joined.add(index)
        options = {"axis": 0, "activation": "none"}
        join = Operator("CONCATENATION", tuple(self.parts[index]), (index,), options)
        self.graph.operators.append(join)

    def _is_dealt(self, op: Operator) -> bool:
        tensors = self.graph.tensors
        if _is_of_several(self.graph, op):
            return True
        values = self._values(op)
        if op.kind not in _ALONG or not values or any(i not in self.parts for i in values):
            return False
        shape = tensors[op.outputs[0]].shape
        if op.kind in ("PAD", "PADV2"):
            amounts = tensors[op.inputs[1]].data
            return amounts is not None and not np.any(amounts[0])
        numbers = [tensors[i].shape for i in op.inputs if i >= 0 and i not in values]
        shared = all(len(x) < len(shape) or x[0] == 1 for x in numbers)
        if op.kind != "RESHAPE" and not shared:  # they have some for each example
            return False
        return len(shape) > 1 and shape[0] == len(self.parts[values[0]])

    def _values(self, op: Operator) -> list[int]:
        return [i for i in op.inputs if i >= 0 and self.graph.tensors[i].data is None]

    def _deal(self, index: int) -> None:
        if index in self.parts:
            return
        tensor = self.graph.tensors[index]
        rest = tensor.shape[1:]
        size = self._constant(f"{tensor.name}/size", [1, *rest])
        self.parts[index] = []
        self._joined.add(index)  # it is there
        for number in range(tensor.shape[0]):
            begin = self._constant(f"{tensor.name}/{number}/begin", [number, *[0] * len(rest)])
            one = self._one(index, number)
            self.graph.operators.append(Operator("SLICE", (index, begin, size), (one,)))
            self.parts[index].append(one)

    def _one(self, index: int, number: int) -> int:
        tensor = self.graph.tensors[index]
        self.graph.tensors.append(
            replace(tensor, name=f"{tensor.name}/{number}", shape=(1, *tensor.shape[1:]))
        )
        return len(self.graph.tensors) - 1

    def _shape_of_one(self, op: Operator, inputs: list[int], made: int) -> None:
        """The constant that is the shape of the result, where there is one."""
        place = {"RESHAPE": 1, "TRANSPOSE_CONV": 0}.get(op.kind)
        if place is not None and len(inputs) > place:
            tensor = self.graph.tensors[made]
            inputs[place] = self._constant(f"{tensor.name}/shape", tensor.shape)

    def _constant(self, name: str, values: object) -> int:
        array = np.asarray(values, np.int32)
        return self.graph.add(name, array.shape, "int32", data=array)
