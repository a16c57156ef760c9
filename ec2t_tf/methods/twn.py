"""TWN: ternary weight networks (Li, Liu et al., arXiv 1605.04711; ICASSP 2023).

    W_q = alpha sign(W) where |W| > Delta, else 0,    alpha = mean of |W| over |W| > Delta.

That alpha is the best in L2 for a given Delta. Delta comes from a rule of thumb, or exactly:
with |W| sorted, S_k the sum of the k largest, k = argmax S_k^2 / k.
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
    wide,
)
from ec2t_tf.methods.checks import require_one_of, require_positive

FACTORS = {"mean": 0.75, "max": 0.05}


class TWN(TernaryMethod):
    """Ternary weight networks: nothing trained but the weights.

    Args:
      threshold: "mean" for Delta = factor mean|W| (the paper's), "max" for factor max|W| (He, Gong,
        Fan, arXiv 1807.07948), "exact" for the Delta with the smallest L2 error.
      factor: None means 0.75 of the mean (the paper; its first version had 0.7) or 0.05 of the max.
      per_channel: Delta and alpha for each output channel of a convolution (the authors' code).
        A dense layer keeps one scale, which is all that its int8 operator has.
    """

    name = "twn"

    def __init__(
        self, *, threshold: str = "mean", factor: float | None = None, per_channel: bool = False
    ) -> None:
        self.threshold = require_one_of("threshold", threshold, (*FACTORS, "exact"))
        if factor is not None and threshold == "exact":
            raise ValueError(
                "factor belongs to threshold='mean' and 'max'; the exact search has none. "
                f"Received: factor={factor} with threshold='exact'."
            )
        self.factor = None if factor is None else require_positive("factor", factor)
        self.per_channel = bool(per_channel)

    def get_config(self) -> dict:
        return {
            "threshold": self.threshold,
            "factor": self.factor,
            "per_channel": self.per_channel,
        }

    def build(self, add_weight: AddWeight) -> State:
        return {}

    def initialise(self, latent: Tensor, state: State) -> None:
        """Nothing: all follows from the weights."""

    def _quantised(self, latent: Tensor) -> Quantised:
        magnitudes = ops.abs(latent)
        each = self.per_channel and len(latent.shape) > 2
        # (channels, weights per channel), or one row for the whole layer
        rows = ops.transpose(ops.reshape(magnitudes, [-1, latent.shape[-1] if each else 1]))
        if self.threshold == "exact":
            smallest_kept = _exact(rows)
            kept_rows, kept = rows >= smallest_kept, magnitudes >= ops.squeeze(smallest_kept, 1)
        else:
            reduce = ops.mean if self.threshold == "mean" else ops.max
            factor = FACTORS[self.threshold] if self.factor is None else self.factor
            delta = factor * reduce(rows, axis=1, keepdims=True)
            kept_rows, kept = rows > delta, magnitudes > ops.squeeze(delta, 1)
        total = ops.sum(ops.where(kept_rows, rows, 0.0), axis=1)
        count = ops.sum(ops.cast(kept_rows, "float32"), axis=1)
        alpha = ops.maximum(ratio(total, count), SMALLEST_CENTROID)
        alpha = alpha if each else alpha[0]
        negative = ops.logical_and(kept, latent < 0.0)
        positive = ops.logical_and(kept, latent > 0.0)
        return ternary(negative, positive, int8_levels(alpha, alpha))

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        return straight_through(self._quantised(ops.stop_gradient(latent)).weights, latent)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        return self._quantised(ops.convert_to_tensor(latent)).assignment


def _exact(rows: Tensor) -> Tensor:
    """Smallest magnitude to keep for the best L2 fit of a row: (rows, weights) -> (rows, 1)."""
    ordered = ops.flip(ops.sort(rows, axis=1), axis=1)
    sums = ops.cumsum(ops.cast(ordered, wide()), axis=1)
    counts = ops.arange(1, rows.shape[1] + 1, dtype=wide())
    best = ops.argmax(ops.square(sums) / counts, axis=1)
    return ops.take_along_axis(ordered, best[:, None], axis=1)
