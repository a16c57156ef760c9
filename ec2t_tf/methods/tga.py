"""TGA: truncated-Gaussian approximation (He, Fan, CVPR 2019, arXiv 1810.01018).

With mu, sigma of the layer's weights and one trained threshold d per layer:

    Delta = min(|d|, 3 sigma),    x = Delta / sigma,    M(x) = phi(x) / (1 - Phi(x)),
    alpha = mu + sigma M(x),
    W_q = alpha where W > mu + Delta, -alpha where W < mu - Delta, else 0.

alpha is the mean of a Gaussian above mu + Delta; through it the threshold gets its gradient.
"""

from __future__ import annotations

import math

from keras import ops

from ec2t_tf.methods.base import (
    SMALLEST_CENTROID,
    AddWeight,
    Assignment,
    Quantised,
    State,
    Tensor,
    TernaryMethod,
    int8_levels,
    number_of,
    straight_through,
    ternary,
    wide,
)
from ec2t_tf.methods.checks import require_one_of, require_positive, require_range
from ec2t_tf.methods.own_rate import OwnRate

LARGEST_RATIO = 3.0  # of Delta to sigma
SMALLEST_DEVIATION = 1e-12


class TGA(TernaryMethod):
    """Truncated-Gaussian approximation.

    Args:
      initial_threshold: d to begin with, in units of max|W|. 0.05 in the released code.
      threshold_learning_rate: learning rate of d relative to the optimiser's (see `OwnRate`). 0.01
        under Adam is the speed of the released code, which has SGD at the same rate for d, with the
        gradient clamped to 1e-3 and momentum 0.9, beside Adam for the weights. At 1, d moves as
        fast as the weights, past all of them.
      gradient_limit: the gradient of d is clamped to +- this, as in the released code. Under
        optimisers that do not depend on the gradient's scale (Adam) that only evens out outliers.
      update: "joint" for one step of everything; "two_pass" as the authors train: in each batch the
        thresholds step first, then on a new gradient all other variables. It costs two passes.
        `fit` does it by itself; a custom loop of tf_keras calls
        `ec2t_tf.tfmot.two_pass.train_step`.
    """

    name = "tga"

    def __init__(
        self,
        *,
        initial_threshold: float = 0.05,
        threshold_learning_rate: float = 0.01,
        gradient_limit: float = 1e-3,
        update: str = "joint",
    ) -> None:
        self.initial_threshold = require_range("initial_threshold", initial_threshold, 0.0, 1.0)
        self.threshold_learning_rate = require_range(
            "threshold_learning_rate", threshold_learning_rate, 0.0
        )
        self.gradient_limit = require_positive("gradient_limit", gradient_limit)
        self.update = require_one_of("update", update, ("joint", "two_pass"))
        self._threshold = OwnRate("threshold", (), rate=self.threshold_learning_rate)

    def get_config(self) -> dict:
        return {
            "initial_threshold": self.initial_threshold,
            "threshold_learning_rate": self.threshold_learning_rate,
            "gradient_limit": self.gradient_limit,
            "update": self.update,
        }

    @property
    def updates_twice(self) -> bool:
        return self.update == "two_pass"

    def build(self, add_weight: AddWeight) -> State:
        return self._threshold.build(add_weight)

    def initialise(self, latent: Tensor, state: State) -> None:
        self._threshold.set(state, self.initial_threshold * ops.max(ops.abs(latent)))

    @staticmethod
    def _quantised(latent: Tensor, threshold: Tensor) -> Quantised:
        mean, deviation = moments(latent)
        delta = ops.minimum(ops.abs(threshold), LARGEST_RATIO * deviation)
        # In a layer of negative weights mu + sigma M(x) would not be positive.
        alpha = ops.maximum(tail_mean(mean, deviation, delta), SMALLEST_CENTROID)
        return ternary(latent < mean - delta, latent > mean + delta, int8_levels(alpha, alpha))

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        threshold = self._threshold.read(state, training=training)
        quantised = self._quantised(ops.stop_gradient(latent), ops.stop_gradient(threshold))
        mean, deviation = moments(latent)
        clamped = _clamp_gradient(threshold, self.gradient_limit)
        delta = ops.minimum(ops.abs(clamped), ops.stop_gradient(LARGEST_RATIO * deviation))
        alpha = tail_mean(mean, deviation, delta)
        # g to each weight directly, sum(g q) to alpha and so to mu, sigma and d.
        surrogate = latent + alpha * ops.cast(quantised.codes, "float32")
        return straight_through(quantised.weights, surrogate)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        threshold = self._threshold.read(state, training=False)
        return self._quantised(ops.convert_to_tensor(latent), threshold).assignment


def moments(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (divisor N - 1) of a layer, float32 scalars."""
    mean = ops.mean(latent)
    count = number_of(latent)
    variance = ops.sum(ops.square(latent - mean)) / max(count - 1, 1)
    # Guarded before the root, whose gradient at zero is infinite.
    return mean, ops.sqrt(ops.maximum(variance, SMALLEST_DEVIATION**2))


def tail_mean(mean: Tensor, deviation: Tensor, delta: Tensor) -> Tensor:
    """Mean of a Gaussian truncated to above mean + delta: mu + sigma phi(x) / (1 - Phi(x)).

    Scalars, in float64 inside where the backend has it: the gradient by delta is M (M - x), a
    difference of close numbers.
    """
    mu, sigma, delta = (ops.cast(value, wide()) for value in (mean, deviation, delta))
    x = delta / sigma
    density = ops.exp(-ops.square(x) / 2) / math.sqrt(2 * math.pi)
    tail = 0.5 * _erfc(x / math.sqrt(2))
    return ops.cast(mu + sigma * density / tail, mean.dtype)


def _erfc(x: Tensor) -> Tensor:
    """Keras 3.12, the last for Python 3.10, has `erf` only; x is at most 3 / sqrt(2) here."""
    return ops.erfc(x) if hasattr(ops, "erfc") else 1.0 - ops.erf(x)


def _clamp_gradient(value: Tensor, limit: float) -> Tensor:
    @ops.custom_gradient
    def clamped(value: Tensor) -> tuple:
        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            return ops.clip(arguments[0] if upstream is None else upstream, -limit, limit)

        return value * 1.0, gradient

    return clamped(value * 1.0)
