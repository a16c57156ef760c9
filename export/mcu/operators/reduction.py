"""Operators that make one value of many, along any axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..arithmetic import mean_multiplier, quantised_multiplier
from ..code import Code, Names
from ..step import Step
from ..walks import Axis
from .pooling import mean_of_maps

if TYPE_CHECKING:
    from ..lowering import Lowering

_KINDS = {"MEAN": "SUM", "SUM": "SUM", "REDUCE_MAX": "MAXIMUM", "REDUCE_MIN": "MINIMUM"}


def reduction(net: Lowering, op: Operator) -> None:
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    tensors = net.graph.tensors
    shape, sizes = tensors[source].shape, tensors[target].shape
    axes = {int(v) % len(shape) for v in net.constant(op, 1).reshape(-1)}
    kept = [n for i, n in enumerate(shape) if i not in axes]
    if [n for n in kept if n > 1] != [n for n in sizes if n > 1]:
        raise FileError(f"{op.kind} of {shape} over {sorted(axes)} does not give {sizes}.")
    if op.kind == "MEAN" and len(shape) == 4 and shape[0] == 1 and axes == {1, 2}:
        mean_of_maps(net, op, source)
        return
    (scale_in, zero_in), (scale_out, _) = (net.quantisation(tensors[i]) for i in (source, target))
    elements = math.prod(n for i, n in enumerate(shape) if i in axes)
    real = float(scale_in) / float(scale_out)
    multiplier, shift = (
        mean_multiplier(real, elements) if op.kind == "MEAN" else quantised_multiplier(real)
    )
    if _KINDS[op.kind] != "SUM" and net.quantisation(tensors[source]) != net.quantisation(
        tensors[target]
    ):
        raise FileError(f"{op.kind} must not change scale or zero point.")
    clamp = net.clamp(op, tensors[target])
    layout, out = net.layouts[source], net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        own = walks.steps(layout, shape)
        to = [s for s, k in zip(walks.steps(out, sizes), sizes, strict=True) if k > 1]
        big = [(k, s) for i, (k, s) in enumerate(zip(shape, own, strict=True)) if i not in axes]
        outer = walks.merged(
            [Axis(k, (s, t)) for (k, s), t in zip([x for x in big if x[0] > 1], to, strict=True)]
        )
        inner = walks.merged([Axis(shape[i], (own[i],)) for i in sorted(axes)])
        code = Code(
            [
                walks.as_c(f"outer_{n}", outer),
                walks.as_c(f"inner_{n}", inner),
                f"static const ec2t_mcu_reduce layer_{n} = {{.outer = outer_{n}, "
                f".inner = inner_{n}, .outer_count = {len(outer)}, .inner_count = {len(inner)}, "
                f".kind = EC2T_MCU_REDUCE_{_KINDS[op.kind]}, .bias = {-zero_in * elements}, "
                f".multiplier = {multiplier}, .shift = {shift}, .clamp = {clamp}}};",
            ],
            [f"ec2t_mcu_reduce_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            48 + 16 * (len(outer) + len(inner)),
        )
        net.frame(code, out, names)
        return code

    name = op.kind.lower().replace("_", " ")
    net.steps.append(Step(name, ("reduce.c", "layout.c"), (source,), target, emit))


OPERATORS = dict.fromkeys(_KINDS, reduction)
