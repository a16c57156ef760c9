"""Fused activations, as far as they are a clipping."""

from __future__ import annotations

import math

import numpy as np

# Smallest and largest real value that an activation lets through.
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def activation_range(
    activation: str,
    scale: float | np.float32,
    zero_point: int,
    codes: tuple[int, int] = (-128, 127),
) -> tuple[int, int]:
    """Smallest and largest code of an output with a fused activation, as TensorFlow Lite has it.

    Args:
      activation: one of `BOUNDS`.
      scale, zero_point: of the output.
      codes: the smallest and largest code of its type; int8 by default.

    Raises:
      ValueError: an activation that is no clipping.
    """
    if activation not in BOUNDS:
        raise ValueError(
            f"a fused activation that is a clipping is required ({', '.join(BOUNDS)}). "
            f"Received: {activation!r}."
        )

    def code(value: float | None, otherwise: int) -> int:
        if value is None:
            return otherwise
        with np.errstate(over="ignore", divide="ignore"):
            steps = float(np.float32(value) / np.float32(scale))  # the runtimes divide in float32
        if math.isinf(steps):
            return codes[steps > 0]
        rounded = math.floor(abs(steps) + 0.5)
        return min(max(zero_point + (rounded if steps > 0 else -rounded), codes[0]), codes[1])

    smallest, largest = BOUNDS[activation]
    return code(smallest, codes[0]), code(largest, codes[1])
