"""Batch normalisation whose averages follow a training that has just changed all weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ec2t_tf.moving_average import growing_momentum
from ec2t_tf.quantisation.fake_quant import STATE
from ec2t_tf.quantisation.registered import registered

Tensor = Any


@registered
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer with averages that forget the float net at once.

    The momentum grows from `apply` on to the user's (`moving_average`): with one of 0.99 the
    averages otherwise stay behind the weights for hundreds of batches, and validation accuracy with
    them. A batch with NaN or infinity does not change the averages.

    Args:
      frozen: computes with its averages and never changes them, as in a call with `training=False`
        (which `fit` of Keras 3 overrules, so that the call alone does not say it).
      options: those of `keras.layers.BatchNormalization`.
    """

    momentum: Any

    def __init__(self, *, frozen: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.frozen = bool(frozen)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.batches = self.add_weight((), "zeros", name="batches", **STATE)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        if not training or not self.trainable or self.frozen:
            return super().call(inputs, training=False, mask=mask)
        averages = (self.moving_mean, self.moving_variance)
        before = [average.value * 1.0 for average in averages]  # not a reference
        batches: Tensor = self.batches.value
        own = self.momentum
        try:
            self.momentum = growing_momentum(own, batches, ops.shape(inputs)[0])
            outputs = super().call(inputs, training=True, mask=mask)
        finally:
            self.momentum = own
        after = [average.value * 1.0 for average in averages]
        finite = ops.all(ops.isfinite(after[0])) & ops.all(ops.isfinite(after[1]))
        for average, old, new in zip(averages, before, after, strict=True):
            average.assign(ops.where(finite, new, old))
        self.batches.assign(batches + ops.cast(finite, "float32"))
        return outputs

    def get_config(self) -> dict:
        return {**super().get_config(), "frozen": self.frozen}
