"""Sums and products of two tensors, element by element."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Tensor
from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier

from . import xnnpack
from .floats import binary
from .node import Node, Step, codes_of, limits, rule, scale_of, zero_of
from .rounding import (
    activation_range,
    blocks,
    by_pairs,
    fixed_point,
    half_even,
    power_of_two,
    table,
)
from .tables import float_table


def _left(node: Node) -> int:
    """Bits of fraction that ADD and SUB give their inputs."""
    return 15 if node.output.dtype == "int16" else 20


@rule("SUB", types=("int8", "int16", "int32", "float32"))
@rule(
    "ADD",
    types=("int8", "int32", "float32"),
    reference=("int8", "int16", "int32", "float32"),
    micro=("int8", "int16", "int32", "float32"),
)
def add(node: Node) -> Step:
    if node.output.dtype == "float32":
        return binary(node)
    if node.output.dtype == "int32":
        return _whole(node)
    if node.output.dtype == "int16":
        scales = [float(scale_of(t)) for t in (node.input(0), node.input(1), node.output)]
        if node.option("pot_scale_int16", True) and all(map(power_of_two, scales)):
            raise node.refused("its scales of int16 are powers of two")
    if xnnpack.takes(node):
        return _add_xnnpack(node)
    exact = _add_scalar(node)
    shapes = [node.input(place).shape for place in (0, 1)]
    loop = vector_loop(*shapes) if node.optimised and node.kind == "ADD" else None
    if loop is None:
        return exact
    vector = _add_vector(node, elementwise=loop.elementwise)
    xp, out = node.xp, node.output
    inside = xp.constant(loop.inside(math.prod(out.shape)).reshape(out.shape))
    return lambda *given: xp.where(inside == 1, vector(*given), exact(*given))


def _whole(node: Node) -> Step:
    """Of plain integers."""
    if node.option("activation", "none") != "none":
        raise node.refused("int32 with an activation")
    sign = -1 if node.kind == "SUB" else 1

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        return first + sign * second

    return run


def _scales(node: Node) -> tuple[list[Tensor], list[float], float]:
    """The two inputs, their scales, and twice the larger scale."""
    pair = [node.input(0), node.input(1)]
    scales = [float(scale_of(tensor)) for tensor in pair]
    return pair, scales, 2 * max(scales)


def _add_scalar(node: Node) -> Step:
    """TensorFlow Lite's, one element after the other."""
    pair, scales, twice = _scales(node)
    left = _left(node)
    signs = (1, -1 if node.kind == "SUB" else 1)
    terms = [
        table(
            node,
            tensor,
            sign
            * multiplied(
                (codes_of(tensor) - zero_of(tensor)) << left, *quantised_multiplier(scale / twice)
            ),
        )
        for tensor, scale, sign in zip(pair, scales, signs, strict=True)
    ]
    finish = fixed_point(node, twice / ((1 << left) * float(scale_of(node.output))))

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        return finish(terms[0](first) + terms[1](second))

    return run


def _add_vector(node: Node, *, elementwise: bool) -> Step:
    """LiteRT's vectors of 16: the shift of an input is part of its shift to the left, and where one
    number is added to many, vectors of 8, whose inputs are shifted without rounding."""
    xp, out = node.xp, node.output
    pair, scales, twice = _scales(node)
    terms, left = [], _left(node)
    for tensor, scale in zip(pair, scales, strict=True):
        codes = codes_of(tensor) - zero_of(tensor)
        multiplier, shift = quantised_multiplier(scale / twice)
        if elementwise:
            term = multiplied(codes << (left + shift), multiplier, 0)
        else:
            term = multiplied(codes << left, multiplier, 0) >> -shift
        terms.append(table(node, tensor, term))
    multiplier, shift = quantised_multiplier(twice / ((1 << left) * float(scale_of(out))))
    least = limits("int16")[0]
    wide = by_pairs(node, [(multiplier, shift)], bounds=(-(1 << 31), (1 << 31) - 1), zero=0)
    low, high = activation_range(node)
    zero = zero_of(out)

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        sums = wide(terms[0](first) + terms[1](second))
        narrow = (sums - least) % (1 << 16) + least + zero  # the vector keeps 16 bits
        return xp.clip((narrow - least) % (1 << 16) + least, low, high)

    return run


@dataclasses.dataclass(frozen=True)
class VectorLoop:
    """How LiteRT's optimised kernels go through two tensors: runs of `row` elements.

    Attributes:
      elementwise: both tensors go on within a run; else one number meets `row` others.
    """

    row: int
    elementwise: bool

    def inside(self, size: int) -> npt.NDArray[np.bool_]:
        """Which of `size` results lie in vectors, not in the rest of a run."""
        width = 16 if self.elementwise else 8
        return np.tile(blocks(self.row, width), size // self.row)


def vector_loop(first: Sequence[int], second: Sequence[int]) -> VectorLoop | None:
    """None where the shapes broadcast in a way that only the reference's loop does."""
    rank = max(len(first), len(second))
    a, b = ([1] * (rank - len(s)) + list(s) for s in (first, second))
    if a == b:
        return VectorLoop(math.prod(a), True)
    last = max(axis for axis in range(rank) if a[axis] != b[axis])
    if a[last] != 1:
        a, b = b, a
    runs = [1, 1, 1]  # elements both have, those of b only, ...
    axis = rank - 1
    for place, kind in enumerate(("same", "first", "same", "second", "same")):
        while (
            axis >= 0
            and {
                "same": a[axis] == b[axis],
                "first": a[axis] == 1,
                "second": b[axis] == 1,
            }[kind]
        ):
            if place < 2:
                runs[place] *= b[axis]
            axis -= 1
    if axis >= 0:
        return None
    return VectorLoop(runs[0], True) if runs[0] > 1 else VectorLoop(runs[1], False)


def _add_xnnpack(node: Node) -> Step:
    xp, pair = node.xp, (node.input(0), node.input(1))
    ratios = [scale_of(tensor) / scale_of(node.output) for tensor in pair]
    _, exponent = math.frexp(float(max(ratios)))
    shift = 20 - (exponent - 1)  # the larger multiplier lies in [2^20, 2^21)
    whole = [int(np.rint(float(ratio) * 2.0**shift)) for ratio in ratios]
    if node.kind == "SUB":
        whole[1] = -whole[1]
    start = (1 << (shift - 1)) - sum(
        zero_of(tensor) * factor for tensor, factor in zip(pair, whole, strict=True)
    )
    low, high = activation_range(node)
    zero = zero_of(node.output)

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        sums = first * whole[0] + second * whole[1] + start
        return xp.clip(xp.right_shift(sums, shift) + zero, low, high)

    return run


@rule("MUL", types=("int8", "int16", "float32"))
def mul(node: Node) -> Step:
    if node.output.dtype == "float32":
        return binary(node)
    pair, out = (node.input(0), node.input(1)), node.output
    if xnnpack.takes(node) and node.operator.inputs[0] == node.operator.inputs[1]:
        return _square(node)
    zeros = [zero_of(tensor) for tensor in pair]
    wide = np.float64 if node.rounding == "micro" else np.float32
    scales = [wide(scale_of(tensor)) for tensor in (*pair, out)]
    real = scales[0] * scales[1] / scales[2]
    finish = (half_even if xnnpack.takes(node) else fixed_point)(node, real)

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        return finish((first - zeros[0]) * (second - zeros[1]))

    return run


def _square(node: Node) -> Step:
    """What XNNPACK makes of the product of a tensor with itself."""
    squared = float_table(node, lambda v: v * v)
    low, high = activation_range(node)
    return lambda x, _: node.xp.clip(squared(x), low, high)


@rule(
    "MAXIMUM",
    "MINIMUM",
    types=("int8", "uint8", "int16", "float32"),
    micro=("int8", "int16", "float32"),
)
def extreme(node: Node) -> Step:
    if node.output.dtype == "float32":
        return binary(node)
    choose = node.xp.maximum if node.kind == "MAXIMUM" else node.xp.minimum
    return lambda *given: choose(*node.aligned(given))


@rule("SQUARED_DIFFERENCE")
def squared_difference(node: Node) -> Step:
    left = 7
    pair, scales, twice = _scales(node)
    terms = [
        table(
            node,
            tensor,
            multiplied(
                (codes_of(tensor) - zero_of(tensor)) << left, *quantised_multiplier(scale / twice)
            ),
        )
        for tensor, scale in zip(pair, scales, strict=True)
    ]
    finish = fixed_point(node, twice * twice / ((1 << 2 * left) * float(scale_of(node.output))))

    def run(*given: Any) -> Any:
        first, second = node.aligned(given)
        difference = terms[0](first) - terms[1](second)
        return finish(difference * difference)

    return run
