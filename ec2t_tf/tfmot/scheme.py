"""Ternary kernels inside tfmot's quantize-aware training: which layer is wrapped, and how.

Knows tfmot's internals. Its wrapper, its quantizers and its registry of layers are used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_aware_activation,
    quantize_wrapper,
    quantizers,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
)
from tf_keras import layers

from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.fusion import Fusion
from ec2t_tf.tfmot.quantize_config import TERNARY_KERNELS, TernaryQuantizeConfig, connect
from ec2t_tf.tfmot.quantizers import KnownRange, TernaryQuantizer
from ec2t_tf.tfmot.registry import TernaryRegistry
from ec2t_tf.tfmot.wrapper import (
    QuantizeInput,
    QuantizeWrapper,
    is_quantise_layer,
    loading,
    wrapped,
)

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


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
            # Latent weights train without weight decay (docs/specification.md).
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
