"""ECP: entropy-constrained pruning, EC2T's assignment without its quantisation (ec2t.md 2.7).

Weights that EC2T assigns to zero become zero; all others keep their values, as int8.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from ec2t_tf.methods.base import INT8_LARGEST_CODE, Assignment, State, straight_through
from ec2t_tf.methods.checks import optimiser_step, require_moment
from ec2t_tf.methods.ec2t import EC2T
from ec2t_tf.schedule import StepCounter

INT8_BITS = 8


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
        self, latent: tf.Tensor, state: State, *, relative_size: float, training: bool
    ) -> tf.Tensor:
        pruned = super().quantise(latent, state, relative_size=relative_size, training=training)
        if self.pruning_step is None:
            return pruned
        return tf.where(self._prunes(state), pruned, straight_through(_stored(latent), latent))

    def _prunes(self, state: State) -> bool | tf.Tensor:
        if self.pruning_step is None:
            return True
        return StepCounter.read(state, training=False) >= self.pruning_step

    def _ternary_weights(
        self,
        latent: tf.Tensor,
        step: tf.Tensor,
        centroids: tf.Tensor,
        negative: tf.Tensor,
        positive: tf.Tensor,
        learns: bool | tf.Tensor,
    ) -> tf.Tensor:
        stored = _stored(latent)

        @tf.custom_gradient
        def assigned(latent: tf.Tensor, step: tf.Tensor) -> tuple:
            def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                scale = tf.where(positive, centroids[1], tf.where(negative, centroids[0], 1.0))
                if learns is not True:
                    scale = tf.where(learns, scale, 0.0)
                return scale * g, tf.zeros_like(step)

            return tf.where(tf.logical_or(positive, negative), stored, 0.0), gradient

        return assigned(latent, step)

    def assign(self, latent: tf.Tensor, state: State, *, relative_size: float) -> Assignment:
        latent = tf.convert_to_tensor(latent)
        non_zero = self._codes(latent, state, relative_size) != 0
        kept = tf.logical_or(non_zero, tf.logical_not(self._prunes(state)))
        largest = _largest(latent)
        scale = largest / INT8_LARGEST_CODE
        codes = tf.where(kept, tf.round(latent / scale), 0.0)
        every_code = np.arange(-INT8_LARGEST_CODE, INT8_LARGEST_CODE + 1, dtype=np.float32)
        levels = tf.quantization.fake_quant_with_min_max_vars(
            every_code * scale, -largest, largest, num_bits=INT8_BITS, narrow_range=True
        )
        return Assignment(codes.numpy().astype(np.int8), levels.numpy(), INT8_LARGEST_CODE)


def _stored(latent: tf.Tensor) -> tf.Tensor:
    """The weights as int8 holds them."""
    largest = _largest(latent)
    return tf.quantization.fake_quant_with_min_max_vars(
        latent, -largest, largest, num_bits=INT8_BITS, narrow_range=True
    )


def _largest(latent: tf.Tensor) -> tf.Tensor:
    """Half the range of the symmetric int8 codes; TensorFlow refuses an empty range."""
    return tf.maximum(tf.reduce_max(tf.abs(latent)), 1e-8)
