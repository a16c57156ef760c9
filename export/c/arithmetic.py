"""TensorFlow Lite's fixed-point constants."""

from __future__ import annotations

import math

import numpy as np


def quantised_multiplier(real: float) -> tuple[int, int]:
    """`real` as multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) (TensorFlow Lite's
    QuantizeMultiplier)."""
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return (1 << 31) - 1, 30
    return multiplier, shift


def activation_range(activation: str, scale: np.float32, zero_point: int) -> tuple[int, int]:
    """Smallest and largest int8 output of a fused activation."""

    def quantised(value: float) -> int:
        ratio = float(np.float32(value) / np.float32(scale))
        return zero_point + math.floor(abs(ratio) + 0.5) * (1 if ratio >= 0 else -1)

    low, high = -128, 127
    if activation == "relu":
        low = max(low, quantised(0.0))
    elif activation == "relu6":
        low, high = max(low, quantised(0.0)), min(high, quantised(6.0))
    elif activation == "relu_n1_to_1":
        low, high = max(low, quantised(-1.0)), min(high, quantised(1.0))
    elif activation != "none":
        raise ValueError(f"fused activation must be none or a ReLU. Received: {activation!r}.")
    return low, high


def mean_multiplier(real: float, elements: int) -> tuple[int, int]:
    """Multiplier and shift of TensorFlow Lite's int8 MEAN over `elements` values."""
    multiplier, shift = quantised_multiplier(real)
    extra = min(elements.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // elements, shift - extra


def same_padding(size: int, out: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Border (before, after) of TensorFlow's SAME padding."""
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
