"""A ternary method as a tfmot `Quantizer` under a `QuantizeConfig`. Knows tfmot's internals."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import quantizers
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import (
    QuantizeWrapper,
)

from ec2t_tf import methods
from ec2t_tf.methods.base import Assignment, State, TernaryMethod

_EXPORTING: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Functions traced inside hold ternary weights as constants under a fake quantisation.

    The converter stores a weight as int8 only if it meets a constant there. What is computed is the
    same, bit for bit.
    """
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class TernaryQuantizer(quantizers.Quantizer):
    """tfmot's view of a ternary method for one layer.

    Args:
      method: a `TernaryMethod`, or what `methods.serialize` made of it.
      relative_size: weights of the layer / weights of the largest ternary layer.
      per_channel: whether the exported fake quantisation has a scale for each output channel (last
        axis), as the converter needs to fold a batch normalisation. All scales are equal.
    """

    def __init__(
        self, method: TernaryMethod | dict, relative_size: float, per_channel: bool
    ) -> None:
        self.method = methods.deserialize(method) if isinstance(method, dict) else method
        self.relative_size = float(relative_size)
        self.per_channel = bool(per_channel)

    def get_config(self) -> dict:
        return {
            "method": methods.serialize(self.method),
            "relative_size": self.relative_size,
            "per_channel": self.per_channel,
        }

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> State:
        def add_weight(suffix: str, shape: tuple[int, ...], trainable: bool) -> tf.Variable:
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=shape,
                initializer="zeros",
                trainable=trainable,
                # Every replica computes the same value from the same weights.
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

        return self.method.build(add_weight)

    def __call__(
        self, inputs: tf.Variable, training: bool, weights: State, **kwargs: object
    ) -> tf.Tensor:
        if not _EXPORTING.get():
            latent = tf.convert_to_tensor(inputs)
            return self.method.quantise(
                latent, weights, relative_size=self.relative_size, training=training
            )
        with tf.init_scope():
            assignment = self.assign(inputs, weights)
        values = assignment.dequantise()
        # TensorFlow's kernel refuses an empty range.
        largest = max(float(np.abs(assignment.levels).max()), 1e-8)
        if self.per_channel:
            limits = np.full(values.shape[-1], largest, np.float32)
            return tf.quantization.fake_quant_with_min_max_vars_per_channel(
                tf.constant(values), -limits, limits, num_bits=8, narrow_range=True
            )
        return tf.quantization.fake_quant_with_min_max_vars(
            tf.constant(values), -largest, largest, num_bits=8, narrow_range=True
        )

    def assign(self, latent: tf.Variable, state: State) -> Assignment:
        return self.method.assign(latent, state, relative_size=self.relative_size)


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class TernaryQuantizeConfig(default_8bit_quantize_registry.Default8BitQuantizeConfig):
    """Ternary kernel, tfmot's own int8 activations."""

    def __init__(
        self,
        weight_attrs: list[str],
        activation_attrs: list[str],
        quantize_output: bool,
        quantizer: TernaryQuantizer | dict,
    ) -> None:
        super().__init__(weight_attrs, activation_attrs, quantize_output)
        if isinstance(quantizer, dict):
            quantizer = TernaryQuantizer(**quantizer)
        self.weight_quantizer = quantizer

    def get_config(self) -> dict:
        return {**super().get_config(), "quantizer": self.weight_quantizer.get_config()}


class TernaryLayer:
    """The ternary kernel inside a wrapped layer: latent weights, state and method together."""

    def __init__(self, wrapper: QuantizeWrapper) -> None:
        self.wrapper = wrapper
        self.latent, self.quantizer, self.state = next(
            entry for entry in wrapper._weight_vars if isinstance(entry[1], TernaryQuantizer)
        )
        (self.kernel_name,) = wrapper.quantize_config.weight_attrs

    @property
    def name(self) -> str:
        return self.wrapper.layer.name

    @property
    def method(self) -> TernaryMethod:
        return self.quantizer.method

    @property
    def layer(self) -> tf_keras.layers.Layer:
        return self.wrapper.layer

    def initialise(self) -> None:
        """Set centroids and the like from the latent weights."""
        self.method.initialise(tf.convert_to_tensor(self.latent), self.state)

    def assign(self) -> Assignment:
        return self.quantizer.assign(self.latent, self.state)


def ternary_layers(model: tf_keras.Model) -> list[TernaryLayer]:
    """The ternary layers of a model that `apply` made, in order; empty for any other model."""
    return [
        TernaryLayer(layer)
        for layer in model.layers
        if isinstance(layer, QuantizeWrapper)
        and isinstance(layer.quantize_config, TernaryQuantizeConfig)
    ]
