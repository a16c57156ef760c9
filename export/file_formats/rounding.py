"""Scales and biases of a net's layers in fewer digits: a smaller packed file and download.

A float32 scale has 24 binary digits and a bias as many as its sum needs, and none of them has a
pattern: in a small sparse net they are a seventh of the file. What a layer computes,
`(sum + bias) * scale`, is rounded to one of 256 codes, so most of those digits say nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..graph import Graph
from .layers import TernaryLayer, copied, find_dense_layers, find_layers

_DIGITS = 24  # of a float32
_MOST_ZEROS = 24  # last digits of a bias
LEAST, MOST = 1 / 256, 1.0


@dataclasses.dataclass(frozen=True)
class Rounded:
    """One layer of `rounded`.

    Attributes:
      name: of its weights.
      scale_digits: binary digits that its scales keep, of 24.
      bias_zeros: binary digits at the end of its biases that are zero now.
    """

    name: str
    scale_digits: int
    bias_zeros: int


def rounded(graph: Graph, within: float) -> tuple[Graph, list[Rounded]]:
    """A net whose layers compute what they did, but for `within` steps of their output.

    Each convolution and fully connected layer of int8 keeps as many digits of its weights' scales
    and its biases as that asks for: for the same input no output that is not clipped moves by more
    before it is rounded to int8, half of it by the scale, half by the bias.

    Args:
      graph: an int8 net.
      within: steps of the output, 1/256 to 1.

    Returns:
      The net, and what became of each layer. Layers that share weights or a bias are as they were.

    Raises:
      ValueError: `within` is out of its range.
    """
    if not LEAST <= within <= MOST:
        raise ValueError(
            "round_within is how many steps of its output a layer may be off, "
            f"{LEAST:g} to {MOST:g}. Received: {within!r}."
        )
    result = copied(graph)
    users = collections.Counter(index for one in result.operators for index in one.inputs)
    layers = sorted(
        [*find_layers(result)[0], *find_dense_layers(result)], key=lambda layer: layer.number
    )
    done = []
    for layer in layers:
        if all(users[index] == 1 for index in layer.operator.inputs[1:] if index >= 0):
            done.append(_round(layer, within))
    return result, done


def note(layers: Sequence[Rounded], within: float) -> str:
    """A line for people."""
    if not layers:
        return "no layer whose numbers could be rounded"
    digits = [layer.scale_digits for layer in layers]
    zeros = [layer.bias_zeros for layer in layers]
    return (
        f"numbers of {len(layers)} layers rounded, within {within:g} steps of each output: scales "
        f"to {_span(digits)} digits of 24, {_span(zeros)} digits fewer of biases; compare the nets "
        "with `verify`"
    )


def _span(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return f"{least}" if least == most else f"{least} to {most}"


def _round(layer: TernaryLayer, within: float) -> Rounded:
    zero_point = int(layer.output.zero_point[0])
    # Outputs that are not clipped lie this many steps from 0 at most; a scale of d digits is off by
    # its 2^d-th part at most.
    reach = max(127 - zero_point, zero_point + 128)
    digits = min(math.ceil(math.log2(2 * reach / within)), _DIGITS)
    weights, bias = layer.weights, layer.bias
    weights.scale = _with_digits(weights.scale, digits)
    zeros = 0
    if bias is not None and bias.data is not None:
        input_scale, output_scale = (float(end.scale[0]) for end in (layer.input, layer.output))
        largest = input_scale * float(np.abs(weights.scale).max(initial=0)) / output_scale
        if 0 < largest < math.inf:
            zeros = min(max(math.floor(math.log2(within / largest)), 0), _MOST_ZEROS)
        bias.data = _with_zeros(bias.data, zeros)
        if len(bias.scale) == len(weights.scale):
            bias.scale = (layer.input.scale * weights.scale).astype(np.float32)
    return Rounded(layer.name, digits, zeros)


def _with_digits(scales: npt.NDArray[np.float32], digits: int) -> npt.NDArray[np.float32]:
    """Nearest float32s of so many digits; what is subnormal, infinite or no number stays."""
    drop = _DIGITS - digits
    scales = np.asarray(scales, np.float32)
    bits = scales.view(np.uint32).astype(np.int64)
    nearest = bits + (1 << drop >> 1) >> drop << drop
    exponent = nearest >> 23 & 255
    kept = (bits >> 23 & 255 == 0) | (exponent == 255)
    return np.where(kept, bits, nearest).astype(np.uint32).view(np.float32)


def _with_zeros(biases: npt.NDArray[np.int32], zeros: int) -> npt.NDArray[np.int32]:
    """Nearest int32s that end in so many zeros."""
    wide = biases.astype(np.int64)
    nearest = wide + (1 << zeros >> 1) >> zeros << zeros
    largest = (1 << 31) - (1 << zeros)
    return np.minimum(nearest, largest).astype(np.int32)
