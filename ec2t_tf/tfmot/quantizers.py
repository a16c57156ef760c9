"""Quantizers of tfmot: a ternary method as one, and ranges that another layer has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_config,
    quantizers,
)
from tf_keras import layers
from tf_keras.src.mixed_precision import autocast_variable

from ec2t_tf import methods
from ec2t_tf.methods.base import Assignment, Member, State, TernaryMethod
from ec2t_tf.tfmot import ranges


class InFloat32:
    """One of tfmot's quantizers, in float32, with ranges of `ranges` over all replicas.

    Under a mixed precision policy tensors come and go in the compute dtype, and so do weights,
    which are variables here; what is quantised, and with which range, is decided in float32.

    Args:
      quantizer: tfmot's, or a `TernaryQuantizer`.
      dtype: of what is returned for a variable; a tensor keeps its own.
      growth: of a range that moves, as `moving_range.moved` has it.
    """

    def __init__(
        self, quantizer: quantizers.Quantizer, dtype: str | None = None, growth: float = 0.0
    ) -> None:
        self.quantizer, self.growth = quantizer, growth
        self.dtype = dtype

    def __call__(
        self, inputs: tf.Tensor | tf.Variable, training: bool, weights: State, **options: object
    ) -> tf.Tensor:
        with autocast_variable.enable_auto_cast_variables(None):
            if isinstance(inputs, tf.Variable):
                value = self._of_weights(inputs, training, weights, options)
                return tf.cast(value, self.dtype or value.dtype)
            values = tf.cast(inputs, tf.float32)
            replica = tf.distribute.get_replica_context()
            many = replica is not None and replica.num_replicas_in_sync > 1
            follows = ranges.learns(self.quantizer, weights)
            if training and (many or follows):
                extremes = tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
                extremes = tf.stop_gradient(ranges.without_infinity(extremes, values))
                if many:
                    extremes = replica.all_gather(extremes, axis=0)
                if follows:
                    updated = ranges.update(self.quantizer, extremes, weights, self.growth)
                else:
                    updated = self.quantizer(extremes, True, weights, **options)
                with tf.control_dependencies([updated]):
                    values = self.quantizer(values, False, weights, **options)
            else:
                values = self.quantizer(values, training, weights, **options)
            return tf.cast(values, inputs.dtype)

    def _of_weights(
        self, variable: tf.Variable, training: bool, weights: State, options: dict
    ) -> tf.Tensor:
        if isinstance(self.quantizer, TernaryQuantizer) or len(variable.shape) != 3:
            return self.quantizer(variable, training, weights, **options)
        # tfmot's have no kernels of one dimension.
        return self.quantizer(tf.expand_dims(variable, 0), training, weights, **options)[0]


def kernel_owner(layer: layers.Layer) -> layers.Layer:
    """What holds the kernels of a layer: the cell of a recurrent one."""
    return getattr(layer, "cell", layer)


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class TernaryQuantizer(quantizers.Quantizer):
    """tfmot's view of a ternary method for one layer.

    Args:
      method: a `TernaryMethod`, or what `methods.serialize` made of it.
      relative_size: weights of the layer / weights of the largest ternary layer.
      per_channel: of files of v0.1.0, of no effect.
    """

    def __init__(
        self, method: TernaryMethod | dict, relative_size: float, per_channel: bool | None = None
    ) -> None:
        self.method = methods.deserialize(method) if isinstance(method, dict) else method
        self.relative_size = float(relative_size)
        # All ternary layers of the network, and whether this one speaks for them; see `connect`.
        self.members: Sequence[Member] | None = None
        self.leads = False

    def get_config(self) -> dict:
        return {
            "method": methods.serialize(self.method),
            "relative_size": self.relative_size,
        }

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> State:
        def add_weight(
            suffix: str, shape: tuple[int, ...] | None, trainable: bool, dtype: str = "float32"
        ) -> tf.Variable | None:
            if suffix.endswith(("_taken", "_seen")):
                return None  # a pass may write trained variables here, as v0.1.0's files expect
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=tensor_shape if shape is None else shape,
                dtype=dtype,
                initializer="zeros",
                trainable=trainable,
                # Every replica computes the same value from the same weights.
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

        state = self.method.build(add_weight)
        if type(self.method).losses is not TernaryMethod.losses:
            latent = getattr(kernel_owner(layer.layer), name)

            def loss() -> tf.Tensor:
                return tf.add_n(list(self.losses(latent, state).values()))

            layer.add_loss(loss)
        return state

    def losses(self, latent: tf.Variable, state: State) -> dict[str, tf.Tensor]:
        """The layer's regularisation losses by name."""
        with autocast_variable.enable_auto_cast_variables(None):
            return self.method.losses(
                tf.convert_to_tensor(latent), state, relative_size=self.relative_size
            )

    def __call__(
        self, inputs: tf.Variable, training: bool, weights: State, **kwargs: object
    ) -> tf.Tensor:
        if training and self.method.controls_network:
            self._before_pass()
        return self.method.quantise(
            tf.convert_to_tensor(inputs),
            weights,
            relative_size=self.relative_size,
            training=training,
        )

    def _before_pass(self) -> None:
        # Keras also traces layers while it builds a model, when they cannot be connected yet.
        tf.debugging.Assert(
            self.members is not None,
            [
                "The ternary layers of this model do not know each other, which they must to train "
                "towards a sparsity of the network. Load the model with ec2t_tf.load_model instead "
                "of tf_keras.models.load_model."
            ],
        )
        if self.members is not None and self.leads:
            self.method.before_pass(self.members)

    def assign(self, latent: tf.Variable, state: State) -> Assignment:
        return self.method.assign(latent, state, relative_size=self.relative_size)


# Average poolings have fewer positions; float32 is closer than this to a whole or half code.
_TIE = 1e-3
Limits = tuple[tf.Tensor | tf.Variable, tf.Tensor | tf.Variable]


class OutputRange(quantize_config.QuantizeConfig):
    """Quantises nothing of a layer but its output."""

    def get_weights_and_quantizers(self, layer: layers.Layer) -> list:
        return []

    def get_activations_and_quantizers(self, layer: layers.Layer) -> list:
        return []

    def set_quantize_weights(self, layer: layers.Layer, quantize_weights: list) -> None:
        """Nothing: it has none."""

    def set_quantize_activations(self, layer: layers.Layer, quantize_activations: list) -> None:
        """Nothing: it has none."""


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class KnownRange(OutputRange):
    """The output range of a layer whose operator has one scale for input and output in the file.

    Args:
      role: "average" and "interpolate": the output has the range of the input, and its values are
        rounded to it; where the range of the input is not known it learns one of its own. "move",
        in files of v0.1.0: the same, but there is nothing to round.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self.quantizer = _KnownRangeQuantizer(role)

    def follow(self, limits: Limits | None) -> None:
        """The range of the input, once that is known; None if it never will be."""
        # In a function, where Keras does not find them: they are weights of another layer.
        if limits is not None:
            self.quantizer.limits = lambda: limits

    @property
    def limits(self) -> Limits | None:
        """Least and largest output; None as long as there is no known range."""
        found = self.quantizer.limits
        return None if found is None else found()

    def get_output_quantizers(self, layer: layers.Layer) -> list:
        nothing_to_say = self.limits is None and self.role == "move"
        return [] if nothing_to_say else [self.quantizer]

    def get_config(self) -> dict:
        return {"role": self.role}


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class FixedRange(OutputRange):
    """The output range that a layer's operator prescribes."""

    def __init__(self, least: float, most: float) -> None:
        self.limits = tf.constant(least), tf.constant(most)
        self._quantizer = quantizers.FixedQuantizer(8, least, most, narrow_range=False)

    def get_output_quantizers(self, layer: layers.Layer) -> list:
        return [self._quantizer]

    def get_config(self) -> dict:
        return {"least": self._quantizer.init_min, "most": self._quantizer.init_max}


class _KnownRangeQuantizer(quantizers.MovingAverageQuantizer):
    """int8 by limits that another layer has, else by limits of its own."""

    def __init__(self, role: str) -> None:
        super().__init__(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        self.role = role
        self.limits: Callable[[], Limits] | None = None

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: layers.Layer) -> State:
        return super().build(tensor_shape, name, layer) if self.limits is None else {}

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: State, **kwargs: object
    ) -> tf.Tensor:
        if self.limits is None:
            return super().__call__(inputs, training, weights, **kwargs)
        if self.role == "move":
            return inputs
        return nearest_code(inputs, *self.limits(), ties_away=self.role == "average")


def nearest_code(
    values: tf.Tensor, smallest: tf.Tensor, largest: tf.Tensor, *, ties_away: bool
) -> tf.Tensor:
    """Values as int8 codes stand for them, rounded as TensorFlow Lite's operators round.

    Args:
      values: float32, of any shape, within the range.
      smallest, largest: float32, (); the range of a fake quantisation with 256 codes.
      ties_away: ties go away from code 0, as in averages; else up, as in interpolations.

    Returns:
      float32, shape of `values`; gradients pass unchanged.
    """
    scale = (largest - smallest) / 255.0
    zero_point = tf.clip_by_value(tf.round(-smallest / scale), 0.0, 255.0) - 128.0
    codes = values / scale + zero_point
    if ties_away:
        rounded = tf.sign(codes) * tf.floor(tf.abs(codes) + 0.5 + _TIE)
    else:
        rounded = tf.floor(codes + 0.5 + _TIE)
    rounded = tf.clip_by_value(rounded, -128.0, 127.0)
    return values + tf.stop_gradient((rounded - zero_point) * scale - values)


def unwrapped(quantizer: quantizers.Quantizer | InFloat32) -> quantizers.Quantizer:
    """The quantizer that our wrapper computes in float32, or that tfmot's wrapper has as it is."""
    return quantizer.quantizer if isinstance(quantizer, InFloat32) else quantizer
