"""ECP: entropy-constrained pruning, EC2T's assignment without its quantisation (ec2t.md 2.7).

Weights that EC2T assigns to zero become zero; all others keep their values, as int8.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import tensorflow as tf

from ec2t_tf.methods.base import INT8_LARGEST_CODE, Assignment, State
from ec2t_tf.methods.ec2t import EC2T

INT8_BITS = 8


class ECP(EC2T):
    """Entropy-constrained pruning. The options are those of `EC2T`.

    The latent gradient is scaled as in EC2T, also of the weights that keep their values. The
    centroids only place the thresholds here, so no gradient reaches them.
    """

    name = "ecp"
    is_ternary: ClassVar[bool] = False

    def _ternary_weights(
        self,
        latent: tf.Tensor,
        step: tf.Tensor,
        centroids: tf.Tensor,
        negative: tf.Tensor,
        positive: tf.Tensor,
        learns: bool | tf.Tensor,
    ) -> tf.Tensor:
        largest = _largest(latent)
        stored = tf.quantization.fake_quant_with_min_max_vars(
            latent, -largest, largest, num_bits=INT8_BITS, narrow_range=True
        )

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
        kept = self._codes(latent, state, relative_size) != 0
        largest = _largest(latent)
        scale = largest / INT8_LARGEST_CODE
        codes = tf.where(kept, tf.round(latent / scale), 0.0)
        every_code = np.arange(-INT8_LARGEST_CODE, INT8_LARGEST_CODE + 1, dtype=np.float32)
        levels = tf.quantization.fake_quant_with_min_max_vars(
            every_code * scale, -largest, largest, num_bits=INT8_BITS, narrow_range=True
        )
        return Assignment(codes.numpy().astype(np.int8), levels.numpy(), INT8_LARGEST_CODE)


def _largest(latent: tf.Tensor) -> tf.Tensor:
    """Half the range of the symmetric int8 codes; TensorFlow refuses an empty range."""
    return tf.maximum(tf.reduce_max(tf.abs(latent)), 1e-8)
