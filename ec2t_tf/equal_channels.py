"""Output channels of equal spread in front of a batch normalisation; NumPy, of either Keras.

A layer whose only reader is a batch normalisation may have each output channel scaled freely: the
normalisation takes the scale back. One centroid pair a layer serves channels of equal spread best;
a channel ten times as wide as the others otherwise decides for all of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Channels narrower than this share of the layer's spread are dead: they stay as they are.
SMALLEST_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Channels:
    """A layer and the normalisation after it, float32: `kernel` (..., channels), all else
    (channels,); `bias` is None for a layer without one."""

    kernel: np.ndarray
    bias: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray


def equalised(given: Channels, epsilon: float) -> Channels:
    """The same function with channels of equal spread."""
    scale = channel_scales(given.kernel, given.variance, epsilon)
    variance = (given.variance + epsilon) / scale**2 - epsilon
    return Channels(
        given.kernel / scale,
        None if given.bias is None else given.bias / scale,
        given.mean / scale,
        np.maximum(variance, 0.0),
    )


def channel_scales(kernel: np.ndarray, variance: np.ndarray, epsilon: float) -> np.ndarray:
    """By what to divide each channel, float32 (channels,); 1 for a dead one.

    Args:
      kernel: float32 (..., channels).
      variance: moving variance of the normalisation after it, (channels,): what is divided by the
        squared scale stays above `epsilon`, below which the normalisation could not take it back.
    """
    spread = np.sqrt(np.square(kernel.reshape(-1, kernel.shape[-1])).mean(axis=0))
    alive = spread > SMALLEST_SHARE * np.sqrt(np.square(spread).mean())
    if not alive.any():
        return np.ones_like(spread)
    scale = np.where(alive, spread / np.median(spread[alive]), 1.0)
    return np.minimum(scale, np.sqrt((variance + epsilon) / epsilon)).astype(np.float32)
