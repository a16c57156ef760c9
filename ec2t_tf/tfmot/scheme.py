"""Ternary kernels inside tfmot's quantize-aware training: which layer is wrapped, and how.

Knows tfmot's internals. Its wrapper, its quantizers and its registry of layers are used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize,
    quantize_aware_activation,
    quantize_layer,
    quantize_wrapper,
    quantizers,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import (
    QuantizeConfig,
)
from tf_keras import layers

from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.tfmot import activations, graph, integer_bias
from ec2t_tf.tfmot.quantize_config import (
    TERNARY_KERNELS,
    InFloat32,
    KnownRange,
    TernaryQuantizeConfig,
    TernaryQuantizer,
    connect,
    is_exporting,
)

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
# Layers beyond tfmot's registry whose output has a range of its own.
OUTPUT_QUANTISED = (
    *(layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
    layers.BatchNormalization,
)
# Layers beyond tfmot's registry that pass values on, at inference.
PASSED_ON = (
    *(layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout, layers.Identity),
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
    *(layers.RandomContrast, layers.RandomBrightness, layers.RandomCrop, layers.CenterCrop),
    layers.RepeatVector,
)
# Layers whose output has the range of their input, because their operator has one scale for both.
SAME_RANGE = (layers.AveragePooling2D, layers.UpSampling2D, layers.Resizing)
# Layers that only move values, and add zeros.
MOVING = (
    *(layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.Reshape, layers.Flatten, layers.Permute, layers.RepeatVector, layers.Identity),
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout),
)
# Activations that the converter makes one int8 operator of.
ACTIVATIONS = (
    *("linear", "relu", "softmax", "sigmoid", "tanh", "swish", "silu", "gelu"),
    *(activations.hard_silu.__name__, activations.hard_tanh.__name__),
)


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
        if limits is not None or not _moves(wrapped(layer)):
            return limits
        (tensor,) = layer.inbound_nodes[node_index].keras_inputs
    return None


class TernaryRegistry(default_8bit_quantize_registry.Default8BitQuantizeRegistry):
    """tfmot's 8-bit registry, with ternary configs for the layers named in `ternary`."""

    def __init__(self, ternary: dict[str, TernaryQuantizeConfig] | None = None) -> None:
        super().__init__()
        self._ternary = ternary or {}

    def supports(self, layer: layers.Layer) -> bool:
        if isinstance(layer, layers.Activation):
            return getattr(layer.activation, "__name__", "") in ACTIVATIONS
        if type(layer) in (*OUTPUT_QUANTISED, *SAME_RANGE) or _passes_on(layer):
            return True
        return super().supports(layer)

    def get_quantize_config(self, layer: layers.Layer) -> QuantizeConfig:
        if layer.name in self._ternary:
            return self._ternary[layer.name]
        if type(layer) in OUTPUT_QUANTISED or (
            isinstance(layer, layers.Activation)
            and layer.activation.__name__ not in ("linear", "softmax", "sigmoid", "tanh")
        ):
            # A batch normalisation gets here only where it follows no convolution.
            return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()
        if type(layer) in SAME_RANGE:
            return KnownRange(_role_of(layer))
        if _passes_on(layer):
            return default_8bit_quantize_configs.NoOpQuantizeConfig()
        return super().get_quantize_config(layer)


def _passes_on(layer: layers.Layer) -> bool:
    """Whether it passes values on at inference, by its type or by what its class says of itself."""
    return type(layer) in PASSED_ON or _says_it_moves_values_only(layer)


def _says_it_moves_values_only(layer: layers.Layer) -> bool:
    return bool(getattr(layer, "moves_values_only", False))


def plain_model(model: tf_keras.Model) -> tf_keras.Model:
    """The model without tfmot's layers, holding the latent weights."""
    twins: dict[int, layers.Layer] = {}

    def call(layer: layers.Layer, arguments: Any, options: dict[str, Any]) -> Any:
        if is_quantise_layer(layer):
            return arguments[0]
        options = {k.removeprefix("layer_"): value for k, value in options.items()}
        return twins[id(layer)](*arguments, **options)

    kept = [layer for layer in model.layers if not is_quantise_layer(layer)]
    with loading():
        twins.update({id(layer): _plain_layer(layer) for layer in kept})
        if isinstance(model, tf_keras.Sequential):
            plain = graph.rebuild_chain(model, [twins[id(layer)] for layer in kept])
        else:
            plain = graph.rebuild(model, call)
    for layer in kept:
        twin = twins[id(layer)]
        if not isinstance(layer, quantize_wrapper.QuantizeWrapper):
            twin.set_weights(layer.get_weights())
            continue
        values = {_last_name(variable): variable for variable in layer.weights}
        for variable in twin.weights:
            variable.assign(values[_last_name(variable)])
    return plain


def _plain_layer(layer: layers.Layer) -> layers.Layer:
    """A copy of the layer inside tfmot's wrapper, with the activation that it had there."""
    inner = wrapped(layer)
    changes = {}
    if "activation" in inner.get_config():
        changes["activation"] = _plain_activation(inner.get_config()["activation"])
    return graph.copy_layer(inner, inner.name, **changes)


def _plain_activation(activation: object) -> object:
    """What tfmot's activation wrapper holds; a convolution before a batch norm has none."""
    while isinstance(activation, dict) and "activation" in activation.get("config", {}):
        activation = activation["config"]["activation"]
    if isinstance(activation, dict) and activation["class_name"] == "NoOpActivation":
        return "linear"
    return activation


def has_int8_rule(layer: layers.Layer) -> bool:
    """Whether tfmot can train this layer with int8 weights and activations."""
    return TernaryRegistry().supports(layer)


def quantise(
    model: tf_keras.Model,
    ternary: Mapping[str, TernaryMethod],
    *,
    untouched: Collection[str] = (),
) -> tf_keras.Model:
    """A copy of `model` for quantize-aware training: weights copied, `model` unchanged.

    Each layer is wrapped as tfmot would wrap it. tfmot's own graph transformations are not used:
    they know neither shared layers nor the configs of another registry (a layer that feeds a
    concatenation would lose its ternary one), and they rebuild the model half a dozen times.

    Args:
      model: built Sequential or Functional model.
      ternary: the method for each layer that gets one, by the layer's name.
      untouched: names of the layers that stay float.
    """
    by_name = {layer.name: layer for layer in model.layers}
    sizes = {
        name: getattr(by_name[name], TERNARY_KERNELS[type(by_name[name])][0]).shape.num_elements()
        for name in ternary
    }
    configs = {}
    for name, method in ternary.items():
        kernel, per_channel = TERNARY_KERNELS[type(by_name[name])]
        relative_size = sizes[name] / max(sizes.values())
        quantizer = TernaryQuantizer(method, relative_size, per_channel)
        configs[name] = TernaryQuantizeConfig(weight_attrs=[kernel], quantizer=quantizer)
    return _Quantising(model, configs, frozenset(untouched)).run()


class _Quantising:
    """One copy of a model, with every layer wrapped that does not stay float."""

    def __init__(
        self,
        model: tf_keras.Model,
        ternary: Mapping[str, TernaryQuantizeConfig],
        untouched: frozenset[str],
    ) -> None:
        self._source = model
        self._ternary = ternary
        self._untouched = untouched
        self._registry = TernaryRegistry(dict(ternary))
        self._fusion = Fusion(model, untouched)
        self._names = {layer.name for layer in model.layers}
        self._twins: dict[int, layers.Layer] = {}
        self._inputs: dict[Any, Any] = {}  # float tensors as the quantised layers see them

    def run(self) -> tf_keras.Model:
        is_chain = isinstance(self._source, tf_keras.Sequential)
        model = self._chain() if is_chain else graph.rebuild(self._source, self._call)
        for layer in self._source.layers:
            if layer.weights:
                _copy_weights(layer, self._twins[id(layer)])
        return model

    def _chain(self) -> tf_keras.Model:
        parts: list[layers.Layer] = []
        before, is_float = self._source.input_names[0], self._source.inputs[0].dtype.is_floating
        for layer in self._source.layers:
            if is_float and layer.name not in self._untouched:
                parts.append(self._quantise_input(before))
            parts.append(self._twin(layer))
            before, is_float = layer.name, layer.name in self._untouched
        return graph.rebuild_chain(self._source, parts)

    def _call(self, layer: layers.Layer, arguments: Any, options: dict[str, Any]) -> Any:
        if layer.name not in self._untouched:
            arguments, options = tf.nest.map_structure(self._int8, (arguments, options))
            if options.get("training") is not None:
                # Of the layer: a frozen normalisation still has ranges to learn.
                options["layer_training"] = options.pop("training")
        return self._twin(layer)(*arguments, **options)

    def _int8(self, value: Any) -> Any:
        """What a quantised layer is given: a float input or output through a fake quantisation."""
        symbolic = tf.is_tensor(value) and tf_keras.backend.is_keras_tensor(value)
        if not symbolic or not value.dtype.is_floating:
            return value
        source = value._keras_history.layer
        if isinstance(source, (QuantizeWrapper, QuantizeInput)):
            return value
        key = value._keras_history[:3]
        if key not in self._inputs:
            self._inputs[key] = self._quantise_input(source.name)(value)
        return self._inputs[key]

    def _quantise_input(self, source: str) -> QuantizeInput:
        name = self._unique(f"quantize_{source}")
        quantizer = quantizers.AllValuesQuantizer(
            num_bits=8, per_axis=False, symmetric=False, narrow_range=False
        )
        return QuantizeInput(quantizer, name=name, dtype="float32")

    def _unique(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _twin(self, layer: layers.Layer) -> layers.Layer:
        """The copy of a layer, wrapped unless it stays float; the same one at every call.

        A layer without weights that has the range of its input is another one at every call.
        """
        if id(layer) not in self._twins:
            self._twins[id(layer)] = self._make(layer, layer.name)
        elif layer in self._fusion.known_ranges:
            return self._make(layer, self._unique(layer.name))
        return self._twins[id(layer)]

    def _make(self, layer: layers.Layer, name: str) -> layers.Layer:
        if layer.name in self._untouched:
            return graph.copy_layer(layer, name)
        config: dict[str, Any] = {}
        if layer.name in self._ternary:
            # Latent weights train without weight decay (ec2t.md pitfall 15).
            config["kernel_regularizer"] = None
        copy = graph.copy_layer(layer, name, **config)
        if layer in self._fusion.without_activation:
            copy.activation = quantize_aware_activation.NoOpActivation()
        if layer in self._fusion.known_ranges:
            quantize_config = KnownRange(self._fusion.known_ranges[layer])
        elif layer in self._fusion.passed_on:
            quantize_config = default_8bit_quantize_configs.NoOpQuantizeConfig()
        else:
            quantize_config = self._registry.get_quantize_config(layer)
        if layer in self._fusion.without_output:
            options = {**quantize_config.get_config(), "activation_attrs": []}
            quantize_config = type(quantize_config).from_config(options)
        return QuantizeWrapper(copy, quantize_config, dtype=layer.dtype_policy)


class Fusion:
    """Between which layers no fake quantisation may be: the converter makes one operator of them.

    Attributes:
      without_activation: layers whose weights are quantised, but neither their output nor what
        they compute before a batch normalisation or an activation.
      without_output: layers whose weights are quantised, but not their output.
      passed_on: layers of which nothing is quantised.
      known_ranges: layers whose operator prescribes the range of its output: the role of each in
        `KnownRange`.
    """

    def __init__(self, model: tf_keras.Model, untouched: Collection[str] = ()) -> None:
        self.without_activation: set[layers.Layer] = set()
        self.without_output: set[layers.Layer] = set()
        self.passed_on: set[layers.Layer] = set()
        self.known_ranges: dict[layers.Layer, str] = {}
        self._registry = TernaryRegistry()
        self._followers: dict[layers.Layer, list[list[layers.Layer | None]]] = {}
        consumers = graph.consumers(model)
        for node in graph.nodes(model):
            uses = [consumers.get(id(tensor), []) for tensor in tf.nest.flatten(node.outputs)]
            self._followers.setdefault(node.layer, []).extend(uses)
        # A layer that stays float ends every fusion.
        quantised = [layer for layer in self._followers if layer.name not in untouched]
        self._quantised = set(quantised)
        self._any_concatenation = any(type(layer) is layers.Concatenate for layer in quantised)
        for layer in quantised:
            self._decide(layer)
            role = self._role(layer)
            if role is not None:
                self.known_ranges[layer] = role

    def _decide(self, layer: layers.Layer) -> None:
        kind = type(layer)
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        if kind in TERNARY_KERNELS:
            fused = [_is_relu] if kind is layers.Dense else [_is_relu, _is_normalisation]
            follows = kind is not layers.Conv2DTranspose and self._only_before(layer, *fused)
            if activation == "linear" and follows:
                self.without_activation.add(layer)
            elif activation in ("linear", "relu") and self._only_concatenated(layer):
                self.without_output.add(layer)
        else:
            before_relu = kind in (layers.Add, layers.BatchNormalization)
            before_relu = before_relu and self._only_before(layer, _is_relu)
            if before_relu or (self._has_output_range(layer) and self._only_concatenated(layer)):
                self.passed_on.add(layer)

    def _role(self, layer: layers.Layer) -> str | None:
        """In `KnownRange`; None for a layer whose output has a range that is learnt, or none."""
        if _moves(layer):
            return "move" if self._any_concatenation else None
        if type(layer) in SAME_RANGE:
            return _role_of(layer)
        return None

    def _has_output_range(self, layer: layers.Layer) -> bool:
        """Whether the layer's operator gives its output a range of its own."""
        if self._role(layer) is not None or not self._registry.supports(layer):
            return False
        return bool(self._registry.get_quantize_config(layer).get_output_quantizers(layer))

    def _only_concatenated(self, layer: layers.Layer) -> bool:
        """Whether each output of the layer only ends in a concatenation, which gives it its range.

        Its values may be moved before. Rounded here, they would be rounded twice: the converter
        gives the operator the range of the concatenation.
        """
        return self._only_before(layer, self._concatenates)

    def _concatenates(self, layer: layers.Layer) -> bool:
        return type(layer) is layers.Concatenate or (
            _moves(layer) and self._only_concatenated(layer)
        )

    def _only_before(self, layer: layers.Layer, *kinds: Callable[[layers.Layer], bool]) -> bool:
        """Whether each output of the layer has one use, all of them by layers of one kind."""
        uses = self._followers[layer]
        if any(len(use) != 1 or use[0] not in self._quantised for use in uses):
            return False
        return any(all(kind(use[0]) for use in uses) for kind in kinds)


def _moves(layer: layers.Layer) -> bool:
    """Whether a layer's values are those of its input, and zeros."""
    if type(layer) in MOVING or _says_it_moves_values_only(layer):
        return True
    return type(layer) in SAME_RANGE and getattr(layer, "interpolation", "") == "nearest"


def _role_of(layer: layers.Layer) -> str:
    """In `KnownRange`, of a layer whose output has the range of its input."""
    if _moves(layer):
        return "move"
    return "average" if type(layer) is layers.AveragePooling2D else "interpolate"


def _is_normalisation(layer: layers.Layer) -> bool:
    return type(layer) is layers.BatchNormalization


def _is_relu(layer: layers.Layer) -> bool:
    is_activation = isinstance(layer, layers.Activation)
    return type(layer) is layers.ReLU or (
        is_activation and getattr(layer.activation, "__name__", "") == "relu"
    )


def _copy_weights(source: layers.Layer, target: layers.Layer) -> None:
    """The weights of a layer into its copy, or into the wrapper around its copy."""
    if not isinstance(target, QuantizeWrapper):
        target.set_weights(source.get_weights())
        return
    variables = {_last_name(variable): variable for variable in target.weights}
    for variable in source.weights:
        variables[_last_name(variable)].assign(variable)


def _last_name(variable: tf.Variable) -> str:
    """`quant_conv1/kernel_centroids:0` -> `kernel_centroids`: scopes differ, layers do not."""
    return variable.name.split("/")[-1].split(":")[0]


def load(path: str, *, safe_mode: bool = True) -> tf_keras.Model:
    """A saved model of ours, with tfmot's classes and ours known to Keras."""
    with loading():
        model = tf_keras.models.load_model(path, safe_mode=safe_mode)
    connect(model)
    return model


def in_float32(model: tf_keras.Model) -> tf_keras.Model:
    """The same model computing in float32 throughout; the given one where it does already."""
    if not any(getattr(layer, "compute_dtype", None) in HALF for layer in model.layers):
        return model
    twins = {}
    with loading():
        for layer in model.layers:
            config = _in_float32(layer.get_config())
            twins[id(layer)] = type(layer).from_config(config)
    if isinstance(model, tf_keras.Sequential):
        twin = graph.rebuild_chain(model, [twins[id(layer)] for layer in model.layers])
    else:

        def call(layer: layers.Layer, arguments: Any, options: dict[str, Any]) -> Any:
            return twins[id(layer)](*arguments, **options)

        twin = graph.rebuild(model, call)
    twin.set_weights(model.get_weights())
    connect(twin)
    return twin


def _in_float32(config: Any) -> Any:
    """A layer's config, and those of layers inside it, with the policy float32."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if key == "dtype" and _policy_name(value) in HALF else _in_float32(value)
        for key, value in config.items()
    }


def _policy_name(dtype: Any) -> str:
    name = dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype
    return str(name)


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
