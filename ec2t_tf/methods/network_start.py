"""How good a network's start with some s is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from ec2t_tf.methods.base import SMALLEST_CENTROID, Member, TernaryMethod

# A target sparsity missed by more than this at the start is worth a warning.
SPARSITY_TOLERANCE = 0.01


class Start(NamedTuple):
    """How a network starts with some s, and how good that is."""

    sparsity: float
    miss: float  # distance to the sparsity wanted
    error: float  # squared distance to the float weights / their squares, mean over all weights

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: reach the sparsity first, then stay near the float weights."""
        return self.miss if self.miss > SPARSITY_TOLERANCE else 0.0, self.error


def start_of(method: TernaryMethod, members: Sequence[Member], sparsity: float) -> Start:
    """The ternary net as the layers' states give it, of which `sparsity` was wanted."""
    error, zeros, size = 0.0, 0.0, 0
    for member in members:
        latent = member.weights
        assignment = method.assign(latent, member.state, relative_size=member.relative_size)
        weights = ops.convert_to_numpy(latent)
        energy = max(float(np.square(weights).sum()), SMALLEST_CENTROID)
        squares = float(np.square(weights - assignment.dequantise()).sum())
        count = assignment.codes.size
        error += count * squares / energy
        zeros += count * assignment.sparsity
        size += count
    return Start(zeros / size, abs(zeros / size - sparsity), error / size)


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
