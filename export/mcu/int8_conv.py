"""A convolution with int8 weights as kernels see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arithmetic import Multiplier
from .code import clamp
from .dead_channels import constant_outputs
from .plan import Layout

LARGEST_SUM = 0x3FFFFFFF  # of the requantisation in few instructions
LARGEST_SHIFT = 20  # to the right, of the same


@dataclass(frozen=True)
class Int8Conv:
    """An int8 convolution between two layouts.

    Attributes:
        weights: [channel, depth, rows, columns]; depth 1 if depthwise.
        biases: One a channel, the input's zero point folded in.
        multipliers: One a channel, of two roundings.
        strides: Vertical, horizontal.
        dilation: Vertical, horizontal.
        depth_multiplier: Output channels an input channel has; 0: an ordinary convolution.
        source: Layout of the input.
        out: Layout of the output.
        zero_point: Of the output.
        limits: Least and greatest output.
    """

    weights: npt.NDArray[np.int8]
    biases: list[int]
    multipliers: list[Multiplier]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    depth_multiplier: int
    source: Layout
    out: Layout
    zero_point: int
    limits: tuple[int, int]

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.weights.shape[2], self.weights.shape[3]

    @property
    def unit(self) -> bool:
        """Whether output pixels lie where input pixels lie."""
        shapes = [(x.height, x.width) for x in (self.source, self.out)]
        return self.strides == (1, 1) and shapes[0] == shapes[1]

    @property
    def clamp(self) -> str:
        """A C initialiser of ec2t_mcu_clamp."""
        return clamp(self.zero_point, *self.limits)

    def offset(self, depth: int, row: int, column: int) -> int:
        """Bytes from the first tap to another in the input."""
        y, x = row * self.dilation[0], column * self.dilation[1]
        return depth * self.source.plane + y * self.source.pitch + x

    def bounds(self) -> npt.NDArray[np.int64]:
        """What no channel's sum exceeds in size, whatever the input."""
        sizes = np.abs(self.weights.astype(np.int64)).sum(axis=(1, 2, 3))
        return np.abs(np.array(self.biases, np.int64)) + 128 * sizes

    def simplified(self) -> Int8Conv:
        """The same function; channels that are one number get weights of 0, so that they do not
        keep a layer from the fast kernels: training leaves dead channels with odd scales."""
        count = len(self.weights)
        constants = constant_outputs(
            self.weights.reshape(count, -1),
            self.biases,
            self.multipliers,
            self.zero_point,
            self.limits,
        )
        if not constants:
            return self
        weights, biases = self.weights.copy(), list(self.biases)
        multipliers = list(self.multipliers)
        shifts = [m.shift for at, m in enumerate(multipliers) if at not in constants]
        shift = min(max([-LARGEST_SHIFT, *shifts]), -1) if shifts else -1  # as in other channels
        for channel, value in constants.items():
            weights[channel] = 0
            biases[channel] = (value - self.zero_point) * (1 << 1 - shift)
            multipliers[channel] = Multiplier(1 << 30, shift)
        return Int8Conv(
            weights,
            biases,
            multipliers,
            self.strides,
            self.dilation,
            self.depth_multiplier,
            self.source,
            self.out,
            self.zero_point,
            self.limits,
        )


def fits_fast(bound: int, multiplier: Multiplier) -> bool:
    """Whether sums up to `bound` suit the requantisation in few instructions: right shifts only."""
    return bound <= LARGEST_SUM and -LARGEST_SHIFT <= multiplier.shift <= -1


def fits_any(bound: int, multiplier: Multiplier) -> bool:
    """The same for a requantisation that may shift left."""
    left = max(multiplier.shift, 0)
    return bound <= LARGEST_SUM >> left and multiplier.shift >= -LARGEST_SHIFT
