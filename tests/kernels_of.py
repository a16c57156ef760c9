"""The kernels of a .tflite file, for tests that look into one."""

from __future__ import annotations

import dataclasses

import numpy as np

from ec2t_tf.export.graph import Operator, Tensor
from ec2t_tf.export.graph.ternary import is_ternary, kernel_of
from ec2t_tf.export.tflite import read


@dataclasses.dataclass(frozen=True)
class Kernel:
    """`codes` are [output channels, weights of one channel]."""

    operator: Operator
    tensor: Tensor
    bias: Tensor | None
    codes: np.ndarray

    @property
    def is_ternary(self) -> bool:
        return is_ternary(self.codes)


def kernels_of(content: bytes) -> list[Kernel]:
    graph = read(content)
    found = []
    for operator in graph.operators:
        kernel = kernel_of(graph, operator)
        if kernel is not None:
            bias = graph.tensors[operator.inputs[2]] if len(operator.inputs) > 2 else None
            found.append(Kernel(operator, kernel[1], bias, kernel[2]))
    return found
