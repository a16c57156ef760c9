"""BATCH_MATMUL: products of two tensors that are computed, as attention has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..arithmetic import quantised_multiplier
from ..code import Code, Names, clamp
from ..step import Step
from ..walks import Axis

if TYPE_CHECKING:
    from ..lowering import Lowering


def matmul(net: Lowering, op: Operator) -> None:
    tensors, target = net.graph.tensors, op.outputs[0]
    sources = [net.plain(net.activation(op, i)) for i in range(2)]
    sizes = tensors[target].shape
    adjoint = op.options.get("adjoint", (False, False))
    rank = len(sizes)
    shapes = []
    for source, turn in zip(sources, adjoint, strict=True):
        shape = [1] * (rank - len(tensors[source].shape)) + list(tensors[source].shape)
        if turn:
            shape[-2:] = shape[:-3:-1]
        shapes.append(shape)
    a, b = shapes
    fits = rank >= 2 and len(a) == len(b) == rank and a[-1] == b[-2]
    batches = zip(sizes[:-2], a[:-2], b[:-2], strict=False)
    if (
        not fits
        or sizes[-2:] != (a[-2], b[-1])
        or any(x not in (1, n) or y not in (1, n) for n, x, y in batches)
    ):
        raise FileError(f"BATCH_MATMUL of {a} and {b} does not give {sizes}.")
    (scale_a, zero_a), (scale_b, zero_b) = (net.quantisation(tensors[i]) for i in sources)
    scale_out, zero_out = net.quantisation(tensors[target])
    real = float(np.float32(scale_a) * np.float32(scale_b)) / float(scale_out)
    multiplier, shift = quantised_multiplier(real)
    out = net.define(target)

    def steps_of(source: int, shape: list[int], *, turn: bool) -> list[int]:
        own = walks.steps(net.layouts[source], tensors[source].shape)
        own = [0] * (rank - len(own)) + own
        if turn:
            own[-2:] = own[:-3:-1]
        return [0 if size == 1 else step for size, step in zip(shape, own, strict=True)]

    def emit(names: Names) -> Code:
        n = names.index
        first, second = (
            steps_of(source, shape, turn=turn)
            for source, shape, turn in zip(sources, shapes, adjoint, strict=True)
        )
        to = walks.steps(out, sizes)
        axes = [
            Axis(*x) for x in zip(sizes[:-2], zip(first, second, to, strict=True), strict=False)
        ]
        axes.append(Axis(sizes[-2], (first[-2], 0, to[-2])))
        axes.append(Axis(sizes[-1], (0, second[-1], to[-1])))
        merged = walks.merged(axes)
        code = Code(
            [
                walks.as_c(f"axes_{n}", merged),
                f"static const ec2t_mcu_matmul layer_{n} = {{.axes = axes_{n}, "
                f".count = {len(merged)}, .depth = {a[-1]}, .step_a = {first[-1]}, "
                f".step_b = {second[-2]}, .zero_point_a = {zero_a}, .zero_point_b = {zero_b}, "
                f".multiplier = {multiplier}, .shift = {shift}, "
                f".clamp = {clamp(zero_out)}}};",
            ],
            [
                f"ec2t_mcu_matmul_run(&layer_{n}, {names.inputs[0]}, {names.inputs[1]}, "
                f"{names.output});"
            ],
            48 + 16 * len(merged),
        )
        net.frame(code, out, names)
        return code

    net.steps.append(Step("matmul", ("matmul.c", "layout.c"), tuple(sources), target, emit))


OPERATORS = {"BATCH_MATMUL": matmul}
