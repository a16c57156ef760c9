"""TensorFlow's SAME padding."""

from __future__ import annotations


def same_padding(size: int, out: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Border (before, after) of SAME padding along one axis."""
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
