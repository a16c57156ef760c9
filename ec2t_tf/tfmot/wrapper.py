"""tfmot's wrapper of a layer, and its layer at an input, as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize,
    quantize_layer,
    quantize_wrapper,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_aware_activation import (
    NoOpActivation,
    QuantizeAwareActivation,
)
from tf_keras import layers
from tf_keras.src.layers.core import SlicingOpLambda, TFOpLambda

from ec2t_tf.tfmot import normalisation
from ec2t_tf.tfmot.quantizers import FixedRange, InFloat32, KnownRange


class _OfRanges:
    """Has ranges, which may grow fast where values begin near 0 (`moving_range.moved`)."""

    growth = 0.0

    def __init__(self, *arguments: Any, growth: float = 0.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.growth = float(growth)

    def get_config(self) -> dict:
        given: dict = super().get_config()  # type: ignore[misc]
        return {**given, "growth": self.growth} if self.growth else given


class _NotPrunable(_OfRanges):
    """Answers `prune_low_magnitude`, which asks each layer what it may zero."""

    def get_prunable_weights(self) -> list:
        raise ValueError(
            "prune_low_magnitude requires a float model. Received: one that ec2t_tf.apply has "
            "treated, which makes its own zeros. Say how many: ec2t_tf.apply(float_model, "
            "ec2t_tf.methods.EC2T(target_sparsity=0.8)), or schedule=PolynomialDecay(...) in it."
        )


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class QuantizeInput(_NotPrunable, quantize_layer.QuantizeLayer):
    """tfmot's layer at the model's input, which would create its weights twice when loaded."""

    quantizer: Any

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        self.quantizer = InFloat32(self.quantizer, growth=self.growth)

    def add_weight(self, *arguments: Any, **options: Any) -> tf.Variable:
        return super().add_weight(*arguments, **_same_on_every_replica(options))

    # Nothing in it needs AutoGraph, which takes most of the time that building a model takes.
    @tf.autograph.experimental.do_not_convert
    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        return super().call(inputs, False if _infers_shapes() else training)

    def compute_mask(self, inputs: tf.Tensor, mask: Any = None) -> Any:
        """It goes on as it comes."""
        return mask

    def get_config(self) -> dict:
        quantizer = self.quantizer
        if not isinstance(quantizer, InFloat32):
            return super().get_config()
        self.quantizer = quantizer.quantizer
        try:
            return super().get_config()
        finally:
            self.quantizer = quantizer

    @classmethod
    def from_config(cls, config: dict) -> QuantizeInput:
        with loading():
            return super().from_config(config)

    def build_from_config(self, config: dict) -> None:
        """Nothing: calling the layer builds it, with its name before those of its weights."""


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class QuantizeWrapper(_NotPrunable, quantize_wrapper.QuantizeWrapperV2):
    """tfmot's wrapper, with weights whose names and order survive saving and loading."""

    _weight_vars: list[tuple[tf.Variable, Any, Any]]
    _output_quantizers: list[Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if isinstance(self.quantize_config, KnownRange) and not self.built:
            self.quantize_config.follow(_range_behind(arguments[0]))
        return super().__call__(*arguments, **options)

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        # Keras applies it around a layer's `call`, which here is the wrapper's.
        self._activity_regularizer = self.layer.activity_regularizer
        self._weight_vars = [
            (variable, InFloat32(quantizer, self.compute_dtype), state)
            for variable, quantizer, state in self._weight_vars
        ]
        for activation in self._quantize_activations:
            activation.quantizer = InFloat32(activation.quantizer, growth=self.growth)
        self._output_quantizers = [
            InFloat32(one, growth=self.growth) for one in self._output_quantizers
        ]

    def add_weight(self, *arguments: Any, **options: Any) -> tf.Variable:
        return super().add_weight(*arguments, **_same_on_every_replica(options))

    # Nothing in it needs AutoGraph, which takes most of the time that building a model takes.
    @tf.autograph.experimental.do_not_convert
    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        layer_training: bool | None = None,
        **options: Any,
    ) -> Any:
        """The layer on quantised weights, and its output quantised.

        `layer_training` is what the layer inside is told, if not the same as its quantizers.
        """
        if _infers_shapes():
            training = False
        if not self.layer._expects_mask_arg:
            options.pop("mask", None)
        if layer_training is None:
            return self._call(inputs, training, options, self.layer.trainable)
        given = self.layer.call

        def call(inputs: Any, training: bool | None = None, **options: Any) -> Any:
            return given(inputs, training=layer_training, **options)

        object.__setattr__(self.layer, "call", call)  # past Keras, which would track it
        try:
            return self._call(inputs, training, options, layer_training and self.layer.trainable)
        finally:
            object.__delattr__(self.layer, "call")

    def _call(
        self, inputs: Any, training: bool | None, options: dict[str, Any], layer_learns: bool
    ) -> Any:
        if training is None:
            training = tf_keras.backend.learning_phase()
        known = not tf.is_tensor(training)
        if known and training and layer_learns and self._is_normalisation:
            with normalisation.following(self.layer, self.optimizer_step, tf.shape(inputs)[0]):
                return super().call(inputs, training, **options)
        return super().call(inputs, training, **options)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of the layer inside; None where it loses it, as plain Keras does."""
        if isinstance(self.layer, layers.Masking) or getattr(self.layer, "mask_zero", False):
            return self.layer.compute_mask(inputs)
        return self.layer.compute_mask(inputs, mask) if self.layer.supports_masking else None

    @property
    def _is_normalisation(self) -> bool:
        return isinstance(self.layer, layers.BatchNormalization) and not self.layer.renorm

    def build_from_config(self, config: dict) -> None:
        """Nothing: calling the layer builds it, with its name before those of its weights."""

    def get_config(self) -> dict:
        config = super().get_config()
        inner, unsaid = config["layer"], {}
        if getattr(self.layer, "synchronized", False):
            unsaid["synchronized"] = True  # BatchNormalization leaves it out of its own config
        regulariser = self.layer.activity_regularizer
        is_activation = isinstance(self.layer, layers.Activation)  # which leaves this out
        if is_activation and hasattr(regulariser, "get_config"):
            unsaid["activity_regularizer"] = tf_keras.regularizers.serialize(regulariser)
        config["layer"] = {**inner, "config": {**inner["config"], **unsaid}}
        return config

    # tfmot's lists the kernel among its own trainable weights, also of a frozen layer.
    @property
    def trainable_weights(self) -> list:
        return super().trainable_weights if self.layer.trainable else []

    @property
    def non_trainable_weights(self) -> list:
        frozen = [] if self.layer.trainable else super().trainable_weights
        return frozen + super().non_trainable_weights

    @classmethod
    def from_config(cls, config: dict) -> QuantizeWrapper:
        inner = {key: value for key, value in config["layer"].items() if key != "build_config"}
        known = inner.get("registered_name")
        if known and tf_keras.saving.get_registered_object(known) is None:
            raise ValueError(
                f"A registered layer class is required. Received: '{known}', which is unknown. "
                "Decorate it with tf_keras.saving.register_keras_serializable, and import its "
                "module before loading."
            )
        if known:
            inner["class_name"] = known  # by which files of v2, .h5 among them, find a class
        with loading():
            return super().from_config({**config, "layer": inner})


def last_name(variable: tf.Variable) -> str:
    """`quant_conv1/kernel_centroids:0` -> `kernel_centroids`: scopes differ, layers do not."""
    return str(variable.name).split("/")[-1].split(":")[0]


def _infers_shapes() -> bool:
    """Whether Keras calls a layer only to learn the shape of its output.

    It leaves open then whether that is training, and the layer would be traced for both.
    """
    return str(getattr(tf.compat.v1.get_default_graph(), "name", "")).endswith("_scratch_graph")


def _same_on_every_replica(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `add_weight`: the replicas compute the same value, so that of the first is it."""
    return {"aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA, **options}


def _output_range(layer: layers.Layer) -> tuple[tf.Variable, tf.Variable] | None:
    """Limits of the fake quantisation of a layer's output, if it has one."""
    if is_quantise_layer(layer):
        variables = layer.quantizer_vars
    elif isinstance(getattr(layer, "quantize_config", None), FixedRange):
        return layer.quantize_config.limits
    elif not isinstance(layer, QuantizeWrapper):
        return None
    elif isinstance(layer.quantize_config, KnownRange) and layer.quantize_config.limits is not None:
        return layer.quantize_config.limits
    elif layer._output_quantizers:
        variables = layer._output_quantizer_vars
    else:
        after = (getattr(a, "_post_activation_vars", None) for a in layer._quantize_activations)
        variables = next((found for found in after if found), None)
    return None if variables is None else (variables["min_var"], variables["max_var"])


def _range_behind(tensor: Any) -> tuple[tf.Variable, tf.Variable] | None:
    """Limits of the last fake quantisation of a tensor, if its values have only moved since."""
    while tf.is_tensor(tensor) and tf_keras.backend.is_keras_tensor(tensor):
        layer, node_index, _ = tensor._keras_history
        limits = _output_range(layer)
        given = layer.inbound_nodes[node_index].keras_inputs
        if limits is not None or len(given) != 1 or not _only_moves(layer):
            return limits
        (tensor,) = given
    return None


def _only_moves(layer: layers.Layer) -> bool:
    """Whether its values are those of its input: nothing of it is rounded, then."""
    if not isinstance(layer, QuantizeWrapper):
        return isinstance(layer, TFOpLambda | SlicingOpLambda)
    rounded = layer._weight_vars or layer._quantize_activations or layer._output_quantizers
    return not rounded and not layer.layer.weights


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Keras knows tfmot's classes and ours inside."""
    with (
        quantize.quantize_scope(),
        tf_keras.saving.custom_object_scope(
            {"QuantizeLayer": QuantizeInput, "QuantizeWrapperV2": QuantizeWrapper}
        ),
    ):
        yield


def wrapped(layer: layers.Layer) -> layers.Layer:
    """The layer inside tfmot's wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, quantize_wrapper.QuantizeWrapper) else layer


def plain_activation(function: Any) -> Any:
    """What tfmot's activation wrapper holds; a convolution before a batch norm has none."""
    while isinstance(function, QuantizeAwareActivation):
        function = function.activation
    return "linear" if isinstance(function, NoOpActivation) else function


def quantised_weights(wrapper: quantize_wrapper.QuantizeWrapper) -> list[tf.Variable]:
    """The variables that tfmot's wrapper quantises before each call: the kernel, if any."""
    return [variable for variable, _, _ in getattr(wrapper, "_weight_vars", ())]


def is_quantise_layer(layer: layers.Layer) -> bool:
    """Whether tfmot put this layer in to quantise the input."""
    return isinstance(layer, quantize_layer.QuantizeLayer)


def is_quantised(model: tf_keras.Model) -> bool:
    """Whether the model is one for quantize-aware training."""
    return any(isinstance(layer, quantize_wrapper.QuantizeWrapper) for layer in model.layers)
