"""Where EC2T's centroids may lie: the width of a layer's weights, and the grid of levels."""

from __future__ import annotations

import numpy as np
from keras import ops

from ec2t_tf.methods.base import Tensor, number_of

# Weights further out are outliers to the robust start: in units of the spread of a layer, which for
# a Gaussian is its standard deviation. With s = 0.3 no centroid starts beyond 2 spreads.
LARGEST_REACH = 2.0 / 0.3


def on_grid(w_n: Tensor, w_p: Tensor, levels: int) -> Tensor:
    """(w_n, w_p), the smaller one moved to the nearest k/levels of the larger, k from 1: (2,)."""
    centroids = ops.stack([w_n, w_p])
    step = ops.max(centroids) / levels
    return ops.maximum(ops.round(centroids / step), 1.0) * step


def deviation(latent: Tensor) -> Tensor:
    """Standard deviation (divisor N - 1) of a layer's weights, float32 scalar."""
    squares = ops.sum(ops.square(latent - ops.mean(latent)))
    return ops.sqrt(squares / max(number_of(latent) - 1, 1))


def spread(latent: Tensor) -> Tensor:
    """The standard deviation of a Gaussian with this mean magnitude, float32 scalar.

    A handful of outliers hardly moves it.
    """
    return np.float32(np.sqrt(np.pi / 2)) * ops.mean(ops.abs(latent))


def outliers_from(latent: Tensor) -> Tensor:
    """Magnitude from which on a weight is an outlier to the robust start, float32 scalar."""
    return LARGEST_REACH * spread(latent)
