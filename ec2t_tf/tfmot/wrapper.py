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
from tf_keras import layers

from ec2t_tf.tfmot import integer_bias
from ec2t_tf.tfmot.exporting import is_exporting
from ec2t_tf.tfmot.quantizers import InFloat32, KnownRange, TernaryQuantizer
from ec2t_tf.tfmot.registry import moves


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class QuantizeInput(quantize_layer.QuantizeLayer):
    """tfmot's layer at the model's input, which would create its weights twice when loaded."""

    quantizer: Any

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        self.quantizer = InFloat32(self.quantizer)

    def add_weight(self, *arguments: Any, **options: Any) -> tf.Variable:
        return super().add_weight(*arguments, **_same_on_every_replica(options))

    # Nothing in it needs AutoGraph, which takes most of the time that building a model takes.
    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return super().call(inputs, False if _infers_shapes() else training)

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
class QuantizeWrapper(quantize_wrapper.QuantizeWrapperV2):
    """tfmot's wrapper, with weights whose names and order survive saving and loading."""

    _weight_vars: list[tuple[tf.Variable, Any, Any]]
    _output_quantizers: list[Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if isinstance(self.quantize_config, KnownRange) and not self.built:
            self.quantize_config.follow(_range_behind(arguments[0]))
        return super().__call__(*arguments, **options)

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        self._weight_vars = [
            (variable, InFloat32(quantizer, self.compute_dtype), state)
            for variable, quantizer, state in self._weight_vars
        ]
        for activation in self._quantize_activations:
            activation.quantizer = InFloat32(activation.quantizer)
        self._output_quantizers = [InFloat32(one) for one in self._output_quantizers]

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
        if layer_training is None:
            return self._call(inputs, training, options)
        given = self.layer.call

        def call(inputs: Any, training: bool | None = None, **options: Any) -> Any:
            return given(inputs, training=layer_training, **options)

        object.__setattr__(self.layer, "call", call)  # past Keras, which would track it
        try:
            return self._call(inputs, training, options)
        finally:
            object.__delattr__(self.layer, "call")

    def _call(self, inputs: Any, training: bool | None, options: dict[str, Any]) -> Any:
        if _infers_shapes():
            return super().call(inputs, False, **options)
        if training is None:
            training = tf_keras.backend.learning_phase()
        known = not tf.is_tensor(training)
        rounded = None if known and training else rounded_bias(self)
        if rounded is None:
            return super().call(inputs, training, **options)
        name, value = rounded
        if not known:
            value = tf.where(tf.cast(training, tf.bool), getattr(self.layer, name), value)
        with integer_bias.replaced(self.layer, name, value):
            return super().call(inputs, training, **options)

    def build_from_config(self, config: dict) -> None:
        """Nothing: calling the layer builds it, with its name before those of its weights."""

    def get_config(self) -> dict:
        config = super().get_config()
        if getattr(self.layer, "synchronized", False):
            # BatchNormalization leaves it out of its own config.
            inner = config["layer"]
            config["layer"] = {**inner, "config": {**inner["config"], "synchronized": True}}
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
        with loading():
            return super().from_config({**config, "layer": inner})


def _infers_shapes() -> bool:
    """Whether Keras calls a layer only to learn the shape of its output.

    It leaves open then whether that is training, and the layer would be traced for both.
    """
    return str(getattr(tf.compat.v1.get_default_graph(), "name", "")).endswith("_scratch_graph")


def _same_on_every_replica(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `add_weight`: the replicas compute the same value, so that of the first is it."""
    return {"aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA, **options}


def rounded_bias(wrapper: QuantizeWrapper) -> tuple[str, tf.Tensor] | None:
    """Name and value of the variable that makes a layer's bias a whole number of its units.

    None for a layer that adds no bias in the file, in half precision, and where the unit is not
    known: shared layers, inputs without a range of their own. The file's bias is then up to half a
    unit off.
    """
    if wrapper.compute_dtype != "float32":
        return None
    if not is_exporting():
        return _rounded_bias(wrapper)
    with tf.init_scope():
        rounded = _rounded_bias(wrapper)
    # The converter is to meet a constant.
    return None if rounded is None else (rounded[0], tf.constant(rounded[1].numpy()))


def _rounded_bias(wrapper: QuantizeWrapper) -> tuple[str, tf.Tensor] | None:
    layer = wrapper.layer
    if isinstance(layer, layers.BatchNormalization):
        before = _only_input(wrapper)
        unit = None if before is None or not layer.center else _bias_unit(before)
        if before is None or unit is None:
            return None
        bias = before.layer.bias if before.layer.use_bias else 0.0
        return "beta", integer_bias.folded_offset(layer, bias, unit)
    if not getattr(layer, "use_bias", False) or _feeds_normalisation(wrapper):
        return None
    unit = _bias_unit(wrapper)
    return None if unit is None else ("bias", integer_bias.nearest(layer.bias, unit))


def _bias_unit(wrapper: layers.Layer) -> tf.Tensor | None:
    """Float32, () or (channels,), of a wrapped layer with a kernel."""
    if not isinstance(wrapper, QuantizeWrapper) or len(wrapper._weight_vars) != 1:
        return None
    limits, source = None, _only_input(wrapper)
    while source is not None and limits is None:
        limits, source = _output_range(source), _only_input(source)
    if limits is None:
        return None
    ((kernel, quantizer, variables),) = wrapper._weight_vars
    if isinstance(quantizer.quantizer, TernaryQuantizer):
        largest = quantizer.quantizer.largest_weight(kernel, variables)
    else:
        largest = variables["max_var"]
    if largest is None or largest.shape.num_elements() not in (1, wrapper.output.shape[-1]):
        return None
    return integer_bias.unit(limits, largest)


def _only_input(layer: layers.Layer) -> layers.Layer | None:
    """The layer before it, if it is used once and on one input."""
    if len(layer.inbound_nodes) != 1:
        return None
    before = layer.inbound_nodes[0].inbound_layers
    return before if isinstance(before, layers.Layer) else None


def _feeds_normalisation(layer: layers.Layer) -> bool:
    return any(
        isinstance(wrapped(node.outbound_layer), layers.BatchNormalization)
        for node in layer.outbound_nodes
    )


def _output_range(layer: layers.Layer) -> tuple[tf.Variable, tf.Variable] | None:
    """Limits of the fake quantisation of a layer's output, if it has one."""
    if is_quantise_layer(layer):
        variables = layer.quantizer_vars
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
        if limits is not None or not moves(wrapped(layer)):
            return limits
        (tensor,) = layer.inbound_nodes[node_index].keras_inputs
    return None


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


def left_float(model: tf_keras.Model) -> list[str]:
    """Names of the layers that `apply` left as they were; empty for a model it did not make."""
    if not is_quantised(model):
        return []
    ours = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer, layers.InputLayer)
    return [layer.name for layer in model.layers if not isinstance(layer, ours)]


def quantised_weights(wrapper: quantize_wrapper.QuantizeWrapper) -> list[tf.Variable]:
    """The variables that tfmot's wrapper quantises before each call: the kernel, if any."""
    return [variable for variable, _, _ in getattr(wrapper, "_weight_vars", ())]


def is_quantise_layer(layer: layers.Layer) -> bool:
    """Whether tfmot put this layer in to quantise the input."""
    return isinstance(layer, quantize_layer.QuantizeLayer)


def is_quantised(model: tf_keras.Model) -> bool:
    """Whether the model is one for quantize-aware training."""
    return any(isinstance(layer, quantize_wrapper.QuantizeWrapper) for layer in model.layers)
