"""Functions of float32, element by element, as tables of all 8-bit codes.

The runtimes make their tables in the same way. Functions are computed in double precision and
rounded to float32, as a good C library does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier, shifted_right

from . import fixedpoint, xnnpack
from .fixedpoint import Fixed
from .node import Node, Step, codes_of, limits, rule, scale_of, zero_of
from .rounding import rounded_away, table
from .tables16 import sigmoid_or_tanh

Floats = npt.NDArray[np.float32]
_ONE = np.float32(1)
_MICRO_NONE: tuple[str, ...] = ()


def single(
    function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], x: Floats
) -> Floats:
    """`function` of x in double precision, rounded to float32."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return function(x.astype(np.float64)).astype(np.float32)


@rule("LOGISTIC", types=("int8", "uint8", "int16"), micro=("int8", "int16"))
def logistic(node: Node) -> Step:
    if node.output.dtype == "int16":
        return sigmoid_or_tanh(node)
    if node.rounding == "micro":
        return _micro(node)
    _output_is(node, np.float32(1 / 256))
    if xnnpack.takes(node):
        return float_table(node, lambda v: single(lambda d: 1 / (1 + np.exp(-d)), v))
    with np.errstate(over="ignore"):
        return float_table(node, lambda v: _ONE / (_ONE + single(np.exp, -v)))


@rule("TANH", types=("int8", "uint8", "int16"), micro=("int8", "int16"))
def tanh(node: Node) -> Step:
    if node.output.dtype == "int16":
        return sigmoid_or_tanh(node)
    if node.rounding == "micro":
        return _micro(node)
    _output_is(node, np.float32(1 / 128))
    return float_table(node, lambda v: single(np.tanh, v))


@rule("ELU")
def elu(node: Node) -> Step:
    return float_table(node, lambda v: np.where(v < 0, single(np.expm1, v), v))


@rule("GELU", types=("int8", "uint8"), micro=_MICRO_NONE)
def gelu(node: Node) -> Step:
    half = np.float32(0.5)
    if not node.option("approximate", False):
        root = np.float32(-math.sqrt(0.5))
        erfc = np.vectorize(math.erfc, otypes=[np.float64])
        return float_table(node, lambda v: half * v * single(erfc, v * root))
    cubic, root = np.float32(0.044715), np.float32(math.sqrt(2 / math.pi))

    def approximate(v: Floats) -> Floats:
        return half * v * (_ONE + single(np.tanh, root * (v + cubic * v * v * v)))

    return float_table(node, approximate)


@rule("EXP", micro=_MICRO_NONE)
def exp(node: Node) -> Step:
    return float_table(node, lambda v: single(np.exp, v))


@rule("LOG", micro=_MICRO_NONE)
def log(node: Node) -> Step:
    out = node.output
    least = np.float32(limits(out.dtype)[0] - zero_of(out)) * scale_of(out)
    return float_table(node, lambda v: np.where(v <= 0, least, single(np.log, v)))


def _micro(node: Node) -> Step:
    """TensorFlow Lite Micro's sigmoid and tanh of int8: fixed point of 32 bits."""
    entry, out, bits = node.input(0), node.output, 4
    x = codes_of(entry) - zero_of(entry)
    multiplier, left = quantised_multiplier(float(scale_of(entry)) * (1 << (31 - bits)))
    radius = math.floor(15 * (1 << (31 - bits)) / 2.0**left)
    inside = np.clip(x, -radius, radius)
    fixed, inner = Fixed(32), multiplied(inside, multiplier, left)
    if node.kind == "LOGISTIC":
        codes = shifted_right(fixedpoint.sigmoid(fixed, inner, bits), 23) - 128
    else:
        codes = shifted_right(fixedpoint.tanh(fixed, inner, bits), 24)
    codes = np.clip(codes, -128, 127)
    codes = np.where(x <= -radius, -128, np.where(x >= radius, 127, codes))
    if zero_of(out) != (-128 if node.kind == "LOGISTIC" else 0):
        raise node.refused("its output must have the usual zero point")
    return table(node, entry, codes)


def _output_is(node: Node, scale: np.float32) -> None:
    """The runtimes take these functions with one scale of the output only."""
    if scale_of(node.output) != scale and not xnnpack.takes(node):
        raise node.refused(f"the scale of its output must be {scale}")


def float_table(node: Node, function: Callable[[Floats], Floats]) -> Step:
    """A function of float32 between the scales of input and output."""
    entry, out = node.input(0), node.output
    real = scale_of(entry) * (codes_of(entry) - zero_of(entry)).astype(np.float32)
    zero = np.float32(zero_of(out))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = function(real) * (_ONE / scale_of(out))
        whole = np.rint(scaled + zero) if xnnpack.takes(node) else rounded_away(scaled) + zero
    return table(node, entry, np.clip(whole, *limits(out.dtype)).astype(np.int32))
