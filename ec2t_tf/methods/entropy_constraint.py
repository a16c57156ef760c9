"""The entropy-constrained assignment of one layer: two thresholds, and which gain zeroes a weight.

A weight w goes to the cluster c in {n, 0, p}, with values (-w_n, 0, +w_p), that minimises
(w - q_c)^2 + lambda I_c, I_c = -log2 P_c. That is a rule of two thresholds:

    w > t_p -> p,    w < -t_n -> n,    else 0,    t_c = w_c / 2 + lambda (I_c - I_0) / (2 w_c).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

from ec2t_tf.methods.base import State, Tensor, number_of, ratio

# Where zero and another cluster are equally probable, no lambda moves the boundary.
SMALLEST_INFORMATION_GAP = 1e-6
# Share of a centroid up to which a weight is zero whatever the gain: a gain below 0 moves the
# boundary from half of the centroid towards this, and does not give dead weights a value.
SMALLEST_THRESHOLD = 0.25
# In place of a code: no pass has decided yet.
UNDECIDED = 2


class Thresholds(NamedTuple):
    """Scalars, float32: weights below -negative and above positive are not zero."""

    negative: Tensor
    positive: Tensor
    lambda_: Tensor
    probabilities: Tensor  # P of n, 0, p after the floor; shape (3,)


def probabilities(latent: Tensor, w_n: Tensor, w_p: Tensor, *, reference_floor: bool) -> Tensor:
    """P of (n, 0, p) by nearest neighbour, with P_0 >= 1/2 and no empty cluster: float32 (3,)."""
    size = float(number_of(latent))
    count_n = ops.sum(ops.cast(latent < -w_n / 2, "float32"))
    count_p = ops.sum(ops.cast(latent > w_p / 2, "float32"))
    counts = ops.stack([count_n, size - count_n - count_p, count_p])
    p_n, p_0, p_p = ops.unstack(ops.maximum(counts, 1.0) / size)
    missing = ops.maximum(0.5 - p_0, 0.0)
    non_zero = p_n + p_p
    floored_n = p_n - missing * p_n / non_zero
    # The published code divides by the already reduced P_n + P_p here.
    floored_p = p_p - missing * p_p / (floored_n + p_p if reference_floor else non_zero)
    return ops.stack([floored_n, p_0 + missing, floored_p])


def thresholds(
    latent: Tensor,
    w_n: Tensor,
    w_p: Tensor,
    *,
    gain: float | Tensor,
    reference_floor: bool = False,
    reach: Tensor | None = None,
) -> Thresholds:
    """The two boundaries of the entropy-constrained assignment (docs/specification.md).

    Args:
      latent: float32, any shape.
      w_n, w_p: float32 scalars, positive.
      gain: gamma * delta in (-1, 1); 0 is nearest neighbour, below it entropy is rewarded, down to
        thresholds of a quarter of the centroid.
      reach: lambda's limit sees no weight beyond it (float32 scalar); None for all weights.
    """
    p = probabilities(latent, w_n, w_p, reference_floor=reference_floor)
    information = -ops.log(p) / np.float32(np.log(2.0))
    lowest, highest = ops.min(latent), ops.max(latent)
    if reach is not None:
        reach = ops.maximum(reach, ops.maximum(w_n, w_p))
        lowest, highest = ops.maximum(lowest, -reach), ops.minimum(highest, reach)

    def limit(extreme: Tensor, centroid: Tensor, cost: Tensor) -> Tensor:
        """lambda at which even the most extreme weight of this side goes to zero."""
        # extreme^2 - (centroid - extreme)^2, without the cancellation of two squares
        gap = centroid * (2.0 * extreme - centroid)
        usable = ops.logical_and(gap > 0.0, cost > SMALLEST_INFORMATION_GAP)
        # No usable limit means nearest neighbour; a side without weights does not limit.
        finite = ops.where(usable, gap / ops.maximum(cost, SMALLEST_INFORMATION_GAP), 0.0)
        return ops.where(extreme > 0.0, finite, np.float32(np.inf))

    cost_n, cost_p = information[0] - information[1], information[2] - information[1]
    largest = ops.minimum(limit(-lowest, w_n, cost_n), limit(highest, w_p, cost_p))
    lambda_ = gain * ops.where(ops.isfinite(largest), largest, 0.0)
    return Thresholds(
        negative=ops.maximum(w_n / 2 + lambda_ * cost_n / (2 * w_n), SMALLEST_THRESHOLD * w_n),
        positive=ops.maximum(w_p / 2 + lambda_ * cost_p / (2 * w_p), SMALLEST_THRESHOLD * w_p),
        lambda_=lambda_,
        probabilities=p,
    )


def zeroing_gains(latent: Tensor, centroids: Tensor, *, largest: Thresholds) -> Tensor:
    """The gain from which on each weight is zero: thresholds are linear in the gain.

    Args:
      latent: float32, any shape.
      centroids: (w_n, w_p), float32 (2,).
      largest: the layer's thresholds at a gain of 1.

    Returns:
      float32, shape of `latent`; infinite where no gain makes it zero, minus infinity where every
      gain does.
    """
    centroid = ops.where(latent > 0.0, centroids[1], centroids[0])
    start = centroid / 2
    slope = ops.where(latent > 0.0, largest.positive, largest.negative) - start
    beyond = ops.abs(latent) - start
    gains = ratio(beyond, slope)
    # No gain moves the threshold, or not so far.
    fixed = ops.where(beyond > 0.0, np.float32(np.inf), -np.float32(np.inf))
    always_zero = ops.abs(latent) <= SMALLEST_THRESHOLD * centroid
    return ops.where(ops.logical_or(slope <= 0.0, always_zero), fixed, gains)


def with_margin(latent: Tensor, state: State, margin: float) -> Tensor:
    """The weights as thresholds see them where a code is left only by a margin: a hysteresis.

    A weight that has a code other than zero is seen larger by 1 / (1 - margin), and returns to zero
    below (1 - margin) of the threshold; one at zero, smaller by 1 / (1 + margin).

    Args:
      latent: float32, any shape.
      state: of the layer; its `codes` are those of the last training pass, or `UNDECIDED`.
      margin: relative to the threshold, 0 or more, less than 1.
    """
    if not margin:
        return latent
    codes = ops.cast(ops.convert_to_tensor(state["codes"]), "float32")
    stays = codes * latent > 0.0
    scale = ops.where(stays, np.float32(1.0 / (1.0 - margin)), np.float32(1.0 / (1.0 + margin)))
    return latent * ops.where(codes == UNDECIDED, 1.0, scale)


def held_codes(negative: Tensor, positive: Tensor, state: State) -> Tensor:
    """Codes -1, 0, +1 as int8: the frozen ones where the assignment is frozen."""
    codes = ops.cast(positive, "int8") - ops.cast(negative, "int8")
    if "frozen" not in state:
        return codes
    frozen, held = (ops.convert_to_tensor(state[name]) for name in ("frozen", "codes"))
    return ops.where(frozen, held, codes)


def straight_slope(
    centroids: Tensor, negative: Tensor, positive: Tensor, learns: bool | Tensor
) -> Tensor:
    """dW_q/dW as the authors take it, 0 where the assignment is frozen; float32, of all weights."""
    slope = ops.where(positive, centroids[1], ops.where(negative, centroids[0], 1.0))
    return slope if learns is True else ops.where(learns, slope, 0.0)
