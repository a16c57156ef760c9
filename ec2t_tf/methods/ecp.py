"""ECP: entropy-constrained pruning, EC2T's assignment without its quantisation.

Weights that EC2T assigns to zero become zero; all others keep their values, as int8
(docs/specification.md, Entropy-constrained pruning).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from keras import ops

from ec2t_tf.methods.base import (
    INT8_LARGEST_CODE,
    Assignment,
    Quantised,
    State,
    Tensor,
    stored_int8,
    straight_through,
)
from ec2t_tf.methods.checks import optimiser_step, require_moment
from ec2t_tf.methods.ec2t import EC2T
from ec2t_tf.methods.entropy_constraint import straight_slope
from ec2t_tf.schedule import StepCounter


class ECP(EC2T):
    """Entropy-constrained pruning. The options are those of `EC2T`, and `prune_from`.

    The latent gradient is scaled as in EC2T, also of the weights that keep their values. The
    centroids only place the thresholds here, so no gradient reaches them.

    Args:
      prune_from: optimiser step from which on weights are pruned, or a share of `total_steps`,
        between 0 and 1; before it the layer trains as an int8 layer. None prunes from the start.
      options: those of `EC2T`.
    """

    name = "ecp"
    is_ternary: ClassVar[bool] = False

    def __init__(self, *, prune_from: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.prune_from = require_moment("prune_from", prune_from)

    def get_config(self) -> dict:
        return {**super().get_config(), "prune_from": self.prune_from}

    @property
    def pruning_step(self) -> int | None:
        """The optimiser step from which on weights are pruned; None for the first.

        Raises:
          ValueError: it is a share of a number of steps that is not known.
        """
        return optimiser_step("prune_from", self.prune_from, self.total_steps)

    @property
    def _counts_steps(self) -> bool:
        return super()._counts_steps or self.pruning_step is not None

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        pruned = super().quantise(latent, state, relative_size=relative_size, training=training)
        if self.pruning_step is None:
            return pruned
        return ops.where(self._prunes(state), pruned, straight_through(_stored(latent), latent))

    def _prunes(self, state: State) -> Tensor:
        if self.pruning_step is None:
            return ops.convert_to_tensor(True)
        return StepCounter.read(state, training=False) >= self.pruning_step

    def _ternary_weights(
        self,
        latent: Tensor,
        moving: Tensor,
        centroids: Tensor,
        negative: Tensor,
        positive: Tensor,
        learns: bool | Tensor,
    ) -> Tensor:
        value = ops.where(ops.logical_or(positive, negative), _stored(latent), 0.0)
        surrogate = straight_slope(centroids, negative, positive, learns) * latent
        # The optimiser wants a gradient of all that it trains.
        return straight_through(value, surrogate + 0.0 * ops.sum(moving))

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        latent = ops.convert_to_tensor(latent)
        non_zero = self._codes(latent, state, relative_size) != 0
        kept = ops.logical_or(non_zero, ops.logical_not(self._prunes(state)))
        largest = _largest(latent)
        scale = largest / INT8_LARGEST_CODE
        codes = ops.where(kept, ops.round(latent / scale), 0.0)
        every_code = np.arange(-INT8_LARGEST_CODE, INT8_LARGEST_CODE + 1, dtype=np.float32)
        levels = stored_int8(ops.convert_to_tensor(every_code) * scale, largest)
        return Quantised(ops.cast(codes, "int8"), levels, INT8_LARGEST_CODE).assignment


def _stored(latent: Tensor) -> Tensor:
    """The weights as int8 holds them."""
    return stored_int8(latent, _largest(latent))


def _largest(latent: Tensor) -> Tensor:
    """Half the range of the symmetric int8 codes; an empty range has no scale."""
    return ops.maximum(ops.max(ops.abs(latent)), 1e-8)
