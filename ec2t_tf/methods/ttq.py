"""TTQ: trained ternary quantization (Zhu, Han, Mao, Dally, ICLR 2017, arXiv 1612.01064).

    Delta = t max|W|,    W_q = W_p where W > Delta,  -W_n where W < -Delta,  else 0,

with one trained W_p and one W_n per layer.
"""

from __future__ import annotations

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
    ratio,
    straight_through,
    ternary,
)
from ec2t_tf.methods.checks import require_one_of, require_range
from ec2t_tf.methods.own_rate import OwnRate


class TTQ(TernaryMethod):
    """Trained ternary quantization.

    Args:
      threshold: t in [0, 1]; larger is sparser. 0.05 in the paper.
      initial_scales: "mean" starts W_n and W_p at the mean magnitude of the weights they stand for,
        which suits a trained float net; "one" starts both at 1, as the authors' code does, which
        suits a net whose batch normalisation absorbs it.
      scale_learning_rate: learning rate of W_n and W_p relative to the optimiser's (see `OwnRate`);
        the authors train them like all weights, which is 1.
    """

    name = "ttq"

    def __init__(
        self,
        *,
        threshold: float = 0.05,
        initial_scales: str = "mean",
        scale_learning_rate: float = 0.1,
    ) -> None:
        self.threshold = require_range("threshold", threshold, 0.0, 1.0)
        self.initial_scales = require_one_of("initial_scales", initial_scales, ("mean", "one"))
        self.scale_learning_rate = require_range("scale_learning_rate", scale_learning_rate, 0.0)
        # Positive: at zero the gradient of the latent weights would vanish with the scale.
        self._scales = OwnRate(
            "scales",
            (2,),
            rate=self.scale_learning_rate,
            limited=_positive,
        )

    def get_config(self) -> dict:
        return {
            "threshold": self.threshold,
            "initial_scales": self.initial_scales,
            "scale_learning_rate": self.scale_learning_rate,
        }

    def build(self, add_weight: AddWeight) -> State:
        return self._scales.build(add_weight)

    def initialise(self, latent: Tensor, state: State) -> None:
        if self.initial_scales == "one":
            self._scales.set(state, ops.ones(2))
            return
        sides = [_mean_magnitude(latent, side) for side in self._sides(latent)]
        # A side without weights starts where the other one does.
        self._scales.set(
            state, ops.where(ops.stack(sides) > 0.0, ops.stack(sides), ops.maximum(*sides))
        )

    def _sides(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        delta = self.threshold * ops.max(ops.abs(latent))
        return latent < -delta, latent > delta

    def _quantised(self, latent: Tensor, scales: Tensor) -> Quantised:
        return ternary(*self._sides(latent), int8_levels(scales[0], scales[1]))

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        scales = self._scales.read(state, training=training)
        fixed = ops.stop_gradient(scales)
        quantised = self._quantised(ops.stop_gradient(latent), fixed)
        negative, positive = self._sides(ops.stop_gradient(latent))
        # dL/dW = g W_p, g, g W_n in the three regions; dL/dW_p = sum g, dL/dW_n = -sum g.
        slope = ops.where(positive, fixed[1], ops.where(negative, fixed[0], 1.0))
        level = ops.where(positive, scales[1], ops.where(negative, -scales[0], 0.0))
        return straight_through(quantised.weights, slope * latent + level)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        scales = self._scales.read(state, training=False)
        return self._quantised(ops.convert_to_tensor(latent), scales).assignment


def _positive(scales: Tensor) -> Tensor:
    return ops.maximum(scales, SMALLEST_CENTROID)


def _mean_magnitude(latent: Tensor, chosen: Tensor) -> Tensor:
    """Mean |w| of the chosen weights; 0 where none is chosen."""
    total = ops.sum(ops.where(chosen, ops.abs(latent), 0.0))
    return ratio(total, ops.sum(ops.cast(chosen, "float32")))
