"""AbsMean: the rule of BitNet b1.58 (Ma et al. 2024, arXiv 2402.17764) and Keras's TernaryDense.

    gamma = mean|W|,    W_q = gamma RoundClip(W / gamma, -1, 1),

which is gamma sign(W) where |W| > gamma / 2, else 0.
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
    straight_through,
    ternary,
)


class AbsMean(TernaryMethod):
    """The rule without state or options: about 31 % zeros for Gaussian weights."""

    name = "abs_mean"

    def get_config(self) -> dict:
        return {}

    def build(self, add_weight: AddWeight) -> State:
        return {}

    def initialise(self, latent: Tensor, state: State) -> None:
        """Nothing: all follows from the weights."""

    def _quantised(self, latent: Tensor) -> Quantised:
        gamma = ops.maximum(ops.mean(ops.abs(latent)), SMALLEST_CENTROID)
        return ternary(latent < -gamma / 2, latent > gamma / 2, int8_levels(gamma, gamma))

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        return straight_through(self._quantised(ops.stop_gradient(latent)).weights, latent)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        return self._quantised(ops.convert_to_tensor(latent)).assignment
