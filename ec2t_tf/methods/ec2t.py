"""EC2T: entropy-constrained trained ternarization (Marban, Becking, Wiedemann, Samek, CVPRW 2020).

A latent weight w goes to the cluster c in {n, 0, p}, with values (-w_n, 0, +w_p), that minimises

    (w - q_c)^2 + lambda I_c,        I_c = -log2 P_c,

where P comes from the nearest-neighbour assignment of the current weights. The zero cluster is the
most probable, so lambda moves weights into it: pruning and ternarization at once. The minimum is
found without the cost itself, because it is a rule of two thresholds:

    w > t_p -> p,    w < -t_n -> n,    else 0,    t_c = w_c / 2 + lambda (I_c - I_0) / (2 w_c).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ec2t_tf.methods.base import (
    SMALLEST_CENTROID,
    AddWeight,
    Assignment,
    State,
    TernaryMethod,
    int8_levels,
)

# Where zero and another cluster are equally probable, no lambda moves the boundary.
SMALLEST_INFORMATION_GAP = 1e-6
# Lets a small layer be constrained too: delta = (N/N_largest + sigma) / (1 + sigma).
SIZE_SIGMA = 0.05
# Half of a Gaussian lies within 0.675 standard deviations; keeps centroids from collapsing.
CENTROID_FLOOR = 0.675


class Thresholds(NamedTuple):
    """Scalars, float32: weights below -negative and above positive are not zero."""

    negative: tf.Tensor
    positive: tf.Tensor
    lambda_: tf.Tensor
    probabilities: tf.Tensor  # P of n, 0, p after the floor; shape (3,)


def probabilities(
    latent: tf.Tensor, w_n: tf.Tensor, w_p: tf.Tensor, *, reference_floor: bool
) -> tf.Tensor:
    """P of (n, 0, p) by nearest neighbour, with P_0 >= 1/2 and no empty cluster: float32 (3,)."""
    size = float(latent.shape.num_elements())
    count_n = tf.reduce_sum(tf.cast(latent < -w_n / 2, tf.float32))
    count_p = tf.reduce_sum(tf.cast(latent > w_p / 2, tf.float32))
    counts = tf.stack([count_n, size - count_n - count_p, count_p])
    p_n, p_0, p_p = tf.unstack(tf.maximum(counts, 1.0) / size)
    missing = tf.maximum(0.5 - p_0, 0.0)
    non_zero = p_n + p_p
    floored_n = p_n - missing * p_n / non_zero
    # The published code divides by the already reduced P_n + P_p here.
    floored_p = p_p - missing * p_p / (floored_n + p_p if reference_floor else non_zero)
    return tf.stack([floored_n, p_0 + missing, floored_p])


def thresholds(
    latent: tf.Tensor,
    w_n: tf.Tensor,
    w_p: tf.Tensor,
    *,
    gain: float | tf.Tensor,
    reference_floor: bool = False,
) -> Thresholds:
    """The two boundaries of the entropy-constrained assignment (ec2t.md sections 1.2 to 1.4).

    Args:
      latent: float32, any shape.
      w_n, w_p: float32 scalars, positive.
      gain: gamma * delta in [0, 1); 0 is nearest neighbour.
    """
    p = probabilities(latent, w_n, w_p, reference_floor=reference_floor)
    information = -tf.math.log(p) / np.float32(np.log(2.0))
    lowest, highest = tf.reduce_min(latent), tf.reduce_max(latent)

    def limit(extreme: tf.Tensor, centroid: tf.Tensor, cost: tf.Tensor) -> tf.Tensor:
        """lambda at which even the most extreme weight of this side goes to zero."""
        # extreme^2 - (centroid - extreme)^2, without the cancellation of two squares
        gap = centroid * (2.0 * extreme - centroid)
        usable = tf.logical_and(gap > 0.0, cost > SMALLEST_INFORMATION_GAP)
        # No usable limit means nearest neighbour; a side without weights does not limit.
        finite = tf.where(usable, gap / tf.maximum(cost, SMALLEST_INFORMATION_GAP), 0.0)
        return tf.where(extreme > 0.0, finite, np.float32(np.inf))

    cost_n, cost_p = information[0] - information[1], information[2] - information[1]
    largest = tf.minimum(limit(-lowest, w_n, cost_n), limit(highest, w_p, cost_p))
    lambda_ = gain * tf.where(tf.math.is_finite(largest), largest, 0.0)
    return Thresholds(
        negative=w_n / 2 + lambda_ * cost_n / (2 * w_n),
        positive=w_p / 2 + lambda_ * cost_p / (2 * w_p),
        lambda_=lambda_,
        probabilities=p,
    )


class EC2T(TernaryMethod):
    """Entropy-constrained trained ternarization.

    Args:
      centroid_scale: s in (0, 2); at first w_n = s |min(W)|, w_p = s |max(W)|. Larger is
        sparser.
      entropy_gain: gamma in [0, 1); strength of the entropy constraint. 0 is nearest neighbour.
      centroid_learning_rate: learning rate of the centroids relative to the optimiser's, under
        optimisers that do not depend on the gradient's scale (Adam and its family); its square
        under plain SGD. The reference uses 0.1.
      reference_sign: gradient of w_n with the published code's sign, which ascends the loss
        (ec2t.md 2.2). For replication only.
      reference_floor: the published code's slip in the floor of P_0 (ec2t.md 1.2). For replication
        only.

    The centroid of a layer is `centroids + rate * centroid_step`. The optimiser sees only the step,
    which starts each forward pass of training at zero after it has been added to the centroids. So
    any optimiser gives the centroids their own learning rate, and a weight decay, which pulls a
    variable towards zero, has nothing to pull at.
    """

    name = "ec2t"

    def __init__(
        self,
        *,
        centroid_scale: float = 0.3,
        entropy_gain: float = 0.1,
        centroid_learning_rate: float = 0.1,
        reference_sign: bool = False,
        reference_floor: bool = False,
    ) -> None:
        if not 0.0 < centroid_scale < 2.0:
            raise ValueError(
                "centroid_scale must lie between 0 and 2 (exclusive): at 2 no weight is nearer to "
                f"a centroid than to zero. Received: centroid_scale={centroid_scale}."
            )
        if not 0.0 <= entropy_gain < 1.0:
            raise ValueError(
                "entropy_gain must be at least 0 and less than 1: at 1 a layer loses all its "
                f"weights. Received: entropy_gain={entropy_gain}."
            )
        if not centroid_learning_rate >= 0.0:
            raise ValueError(
                "centroid_learning_rate must be 0 (fixed centroids) or positive. "
                f"Received: centroid_learning_rate={centroid_learning_rate}."
            )
        self.centroid_scale = float(centroid_scale)
        self.entropy_gain = float(entropy_gain)
        self.centroid_learning_rate = float(centroid_learning_rate)
        self.reference_sign = bool(reference_sign)
        self.reference_floor = bool(reference_floor)

    def get_config(self) -> dict:
        return {
            "centroid_scale": self.centroid_scale,
            "entropy_gain": self.entropy_gain,
            "centroid_learning_rate": self.centroid_learning_rate,
            "reference_sign": self.reference_sign,
            "reference_floor": self.reference_floor,
        }

    def build(self, add_weight: AddWeight) -> State:
        return {
            "centroids": add_weight("centroids", (2,), False),
            "centroid_step": add_weight("centroid_step", (2,), True),
        }

    def initialise(self, latent: tf.Tensor, state: State) -> None:
        extremes = tf.abs(tf.stack([tf.reduce_min(latent), tf.reduce_max(latent)]))
        state["centroids"].assign(tf.maximum(self.centroid_scale * extremes, SMALLEST_CENTROID))
        state["centroid_step"].assign(tf.zeros(2))

    def gain(self, relative_size: float) -> float:
        """gamma * delta of a layer (ec2t.md 1.3)."""
        return self.entropy_gain * (relative_size + SIZE_SIGMA) / (1 + SIZE_SIGMA)

    def centroids(self, latent: tf.Tensor, state: State) -> tf.Tensor:
        """(w_n, w_p), float32 (2,): with the optimiser's last step, not below the floor."""
        moved = state["centroids"] + self.centroid_learning_rate * state["centroid_step"]
        count = latent.shape.num_elements()
        deviation = latent - tf.reduce_mean(latent)
        variance = tf.reduce_sum(tf.square(deviation)) / max(count - 1, 1)
        return tf.maximum(moved, tf.maximum(CENTROID_FLOOR * tf.sqrt(variance), SMALLEST_CENTROID))

    def thresholds(
        self, latent: tf.Tensor, centroids: tf.Tensor, *, relative_size: float
    ) -> Thresholds:
        return thresholds(
            latent,
            centroids[0],
            centroids[1],
            gain=self.gain(relative_size),
            reference_floor=self.reference_floor,
        )

    def quantise(
        self, latent: tf.Tensor, state: State, *, relative_size: float, training: bool
    ) -> tf.Tensor:
        centroids = tf.stop_gradient(self.centroids(latent, state))
        boundary = self.thresholds(tf.stop_gradient(latent), centroids, relative_size=relative_size)
        step = tf.convert_to_tensor(state["centroid_step"])
        if training:
            state["centroids"].assign(centroids)
            state["centroid_step"].assign(tf.zeros(2))
        return self._ternary_weights(latent, step, centroids, boundary)

    def _ternary_weights(
        self, latent: tf.Tensor, step: tf.Tensor, centroids: tf.Tensor, boundary: Thresholds
    ) -> tf.Tensor:
        levels = int8_levels(centroids[0], centroids[1])
        negative, positive = latent < -boundary.negative, latent > boundary.positive

        @tf.custom_gradient
        def assigned(latent: tf.Tensor, step: tf.Tensor) -> tuple:
            def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                """ec2t.md 2.2: scaled straight-through for the latents, sums for the centroids."""
                scale = tf.where(positive, centroids[1], tf.where(negative, centroids[0], 1.0))
                sum_n = tf.reduce_sum(tf.where(negative, g, 0.0))
                sum_p = tf.reduce_sum(tf.where(positive, g, 0.0))
                # The value is -w_n, so the true derivative by w_n is minus the sum.
                sum_n = sum_n if self.reference_sign else -sum_n
                return scale * g, self.centroid_learning_rate * tf.stack([sum_n, sum_p])

            return tf.where(positive, levels[2], tf.where(negative, levels[0], 0.0)), gradient

        return assigned(latent, step)

    def assign(self, latent: tf.Tensor, state: State, *, relative_size: float) -> Assignment:
        latent = tf.convert_to_tensor(latent)
        centroids = self.centroids(latent, state)
        boundary = self.thresholds(latent, centroids, relative_size=relative_size)
        weights = latent.numpy()
        codes = (weights > boundary.positive.numpy()).astype(np.int8)
        codes -= weights < -boundary.negative.numpy()
        return Assignment(codes=codes, levels=int8_levels(centroids[0], centroids[1]).numpy())
