"""How good a network's start with some s is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras import ops
from keras.backend import backend

from ec2t_tf.methods.base import SMALLEST_CENTROID, Quantised, Tensor, number_of

# A target sparsity missed by more than this at the start is worth a warning.
SPARSITY_TOLERANCE = 0.01


class Start(NamedTuple):
    """How a network starts with some s, and how good that is."""

    sparsity: float
    miss: float  # distance to the sparsity wanted
    error: float  # squared distance to the float weights / their squares, mean over all weights

    @classmethod
    def of(cls, found: Tensor, wanted: float) -> Start:
        """From what `measured` gives, where this sparsity was wanted."""
        sparsity, error = (float(value) for value in ops.convert_to_numpy(found))
        return cls(sparsity, abs(sparsity - wanted), error)

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: reach the sparsity first, then stay near the float weights."""
        return self.miss if self.miss > SPARSITY_TOLERANCE else 0.0, self.error


def measured(nets: Sequence[tuple[Tensor, Quantised]]) -> Tensor:
    """(share of zeros, `Start.error`), float32 (2,), of all layers' weights as they become."""
    size = float(sum(number_of(latent) for latent, _ in nets))
    zeros, error = 0.0, 0.0
    for latent, ternary in nets:
        share = number_of(latent) / size
        energy = ops.maximum(ops.sum(ops.square(latent)), SMALLEST_CENTROID)
        error += share * ops.sum(ops.square(latent - ternary.weights)) / energy
        zeros += share * ops.mean(ops.cast(ternary.codes == 0, "float32"))
    return ops.stack([zeros, error])


def traced(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`function`, which is called often: a graph, where TensorFlow is slow at single operations."""
    if backend() != "tensorflow":
        return function
    import tensorflow as tf

    # Replicas' variables are changed one by one.
    replicas = tf.distribute.has_strategy()
    return function if replicas else tf.function(function, autograph=False)


def warn_out_of_reach(start: Start, sparsity: float) -> None:
    """Warn if the start misses its sparsity."""
    if start.miss <= SPARSITY_TOLERANCE:
        return
    fewest = "at least " if start.sparsity > sparsity else ""
    warnings.warn(
        f"The target of {sparsity:.1%} zeros is out of reach for these weights: the entropy "
        f"constraint gives {fewest}{start.sparsity:.1%} (weights below a quarter of a "
        "centroid stay zero), and training goes on from there. Set centroid_scale "
        "(smaller for fewer zeros, larger for more), or choose another target.",
        stacklevel=3,
    )
