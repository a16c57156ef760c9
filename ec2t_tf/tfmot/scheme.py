"""Ternary kernels inside tfmot's quantize-aware training: which layer is wrapped, and how.

What is rounded where, and what an operator absorbs, is decided as in the native room: on a twin of
the model in Keras 3 (`native`). tfmot's wrapper and its quantizers are used, its registry of layers
and its graph transformations are not: they know neither shared layers nor the configs of others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
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
from tf_keras.src.layers.core import SlicingOpLambda, TFOpLambda

from ec2t_tf.layer_config import derive, give_weights
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.moving_range import GROWTH
from ec2t_tf.quantisation.fusion import Fusion
from ec2t_tf.quantisation.kinds import FIXED_RANGE, INTERPOLATING, kind_of
from ec2t_tf.quantisation.slopes import may_be_steep
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.native import Plan, plan_of
from ec2t_tf.tfmot.quantize_config import TERNARY_KERNELS, TernaryQuantizeConfig, connect
from ec2t_tf.tfmot.quantizers import FixedRange, KnownRange, TernaryQuantizer, kernel_owner
from ec2t_tf.tfmot.recurrent import PLAIN, ROUNDED, RecurrentQuantizeConfig
from ec2t_tf.tfmot.slopes import FiniteSlope
from ec2t_tf.tfmot.wrapper import (
    QuantizeInput,
    QuantizeWrapper,
    is_quantise_layer,
    last_name,
    loading,
    plain_activation,
    wrapped,
)

# tfmot's configs of an int8 kernel: with a scale for each channel, where its quantizer has them.
_INT8 = {
    **dict.fromkeys(
        (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D),
        default_8bit_quantize_registry.Default8BitConvQuantizeConfig,
    ),
    layers.Conv2DTranspose: default_8bit_quantize_registry.Default8BitConvTransposeQuantizeConfig,
}


def plain_model(model: tf_keras.Model) -> tf_keras.Model:
    """The model without tfmot's layers, holding the latent weights."""
    twins: dict[int, layers.Layer] = {}

    def call(layer: layers.Layer, arguments: Any, options: dict[str, Any]) -> Any:
        if only_trains(layer):
            return arguments[0]
        options = {k.removeprefix("layer_"): value for k, value in options.items()}
        return twins[id(layer)](*arguments, **options)

    def only_trains(layer: layers.Layer) -> bool:
        return is_quantise_layer(layer) or isinstance(layer, FiniteSlope)

    kept = [layer for layer in model.layers if not only_trains(layer)]
    with loading():
        twins.update({id(layer): _plain_layer(layer) for layer in kept})
        if isinstance(model, tf_keras.Sequential):
            plain = graph.rebuild_chain(model, [twins[id(layer)] for layer in kept])
        else:
            plain = graph.rebuild(model, call)
    for layer in kept:
        twin = twins[id(layer)]
        if not isinstance(layer, quantize_wrapper.QuantizeWrapper):
            give_weights(twin, layer.get_weights())
            continue
        values = {last_name(variable): variable for variable in layer.weights}
        for variable in twin.weights:
            variable.assign(values[last_name(variable)])
        derive(twin)
    return plain


def _plain_layer(layer: layers.Layer) -> layers.Layer:
    """A copy of the layer inside tfmot's wrapper, with the activation that it had there."""
    inner = wrapped(layer)
    changes = {}
    if getattr(inner, "activation", None) is not None:
        changes["activation"] = plain_activation(inner.activation)
    return graph.copy_layer(inner, inner.name, kind=PLAIN.get(type(inner)), **changes)


def quantise(
    model: tf_keras.Model,
    ternary: Mapping[str, TernaryMethod],
    *,
    untouched: Collection[str] = (),
    plan: Plan | None = None,
    values: Mapping[int, np.ndarray] | None = None,
    int8_inputs: Collection[str] = (),
) -> tf_keras.Model:
    """A copy of `model` for quantize-aware training: weights copied, `model` unchanged.

    Args:
      model: built Sequential or Functional model in which each layer is one operator (`rewrite`).
      ternary: the method for each layer that gets one, by the layer's name.
      untouched: names of the layers that stay float.
      plan: of the model, where it is known already.
      values: other values than their own, for variables of `model` by their id.
      int8_inputs: names of recurrent layers of which only the recurrent kernel gets the method.
    """
    plan = plan or plan_of(model)
    return _Quantising(model, ternary, frozenset(untouched), plan, values or {}, int8_inputs).run()


class _Quantising:
    """One copy of a model, with every layer wrapped that does not stay float."""

    def __init__(
        self,
        model: tf_keras.Model,
        ternary: Mapping[str, TernaryMethod],
        untouched: frozenset[str],
        plan: Plan,
        values: Mapping[int, np.ndarray],
        int8_inputs: Collection[str],
    ) -> None:
        self._source, self._ternary, self._plan = model, ternary, plan
        self._values, self._int8_inputs = values, int8_inputs
        float_calls = {call.name for name in untouched for call in plan.calls.get(name, ())}
        self._fusion = Fusion(plan.graph, float_calls)
        self._names = graph.Names({layer.name for layer in model.layers})
        by_name = {layer.name: layer for layer in model.layers}
        self._sizes = {
            name: max(v.shape.num_elements() for v in _kernels(layer))
            for name, layer in by_name.items()
            if name in ternary
        }
        self._twins: dict[int, layers.Layer] = {}
        self._int8: dict[
            int, Any
        ] = {}  # by their ids, tensors that are int8: alive, so no id twice
        self._rounded: dict[Any, Any] = {}  # float tensors as the quantised layers see them
        # Behind an Embedding, with no normalisation between.
        self._begins_small: dict[int, Any] = {}

    def run(self) -> tf_keras.Model:
        is_chain = isinstance(self._source, tf_keras.Sequential)
        model = self._chain() if is_chain else graph.rebuild(self._source, self._call)
        for layer in self._source.layers:
            if layer.weights and id(layer) in self._twins:
                _copy_weights(layer, self._twins[id(layer)], self._values)
        return model

    def _how(self, layer: layers.Layer) -> str:
        """What happens to its output: see `Fusion.range_of`; or "float"."""
        calls = self._plan.calls[layer.name]
        if any(self._fusion.is_float(call) for call in calls):
            return "float"
        found = {self._fusion.range_of(call) for call in calls}
        return (found - {"none"} or found).pop()

    def _chain(self) -> tf_keras.Model:
        parts: list[layers.Layer] = []
        before, is_float = self._source.input_names[0], self._source.inputs[0].dtype.is_floating
        small = False
        for layer in self._source.layers:
            untouched = self._how(layer) == "float"
            if is_float and not untouched and not isinstance(layer, layers.Embedding):
                parts.append(self._quantise_input(before))
            small = _stays_small(layer, small)
            if not untouched and self._is_steep(layer):
                parts.append(self._finite_slope(layer))
            parts.append(self._twin(layer, small))
            before, is_float = layer.name, untouched
        return graph.rebuild_chain(self._source, parts)

    def _call(self, layer: layers.Layer, arguments: Any, options: dict[str, Any]) -> Any:
        how = self._how(layer)
        if how == "float":
            return self._twin(layer)(*arguments, **options)
        if not isinstance(layer, layers.Embedding):  # tokens may come as float32
            arguments, options = tf.nest.map_structure(self._as_int8, (arguments, options))
        if self._is_steep(layer):
            slope = self._finite_slope(layer)
            if arguments:
                arguments = (slope(arguments[0]), *arguments[1:])
            else:  # tf.sqrt(x=...): the value comes first
                name, value = next(iter(options.items()))
                options = {**options, name: slope(value)}
        given = tf.nest.flatten((arguments, options))
        small = _stays_small(layer, any(id(x) in self._begins_small for x in given))
        if isinstance(layer, TFOpLambda | SlicingOpLambda):  # a wrapper would not call it rightly
            outputs = self._twin(layer)(*arguments, **options)
            if how in ("own", "fixed"):
                outputs = self._range_behind(layer, how, small)(outputs)
        else:
            if options.get("training") is not None:
                # Of the layer: a frozen normalisation still has ranges to learn.
                options["layer_training"] = options.pop("training")
            outputs = self._twin(layer, small)(*arguments, **options)
        made = {id(x): x for x in tf.nest.flatten(outputs)}
        self._int8.update(made)
        self._begins_small.update(made if small else {})
        return outputs

    def _is_steep(self, layer: layers.Layer) -> bool:
        return any(map(may_be_steep, self._plan.calls[layer.name]))

    def _finite_slope(self, layer: layers.Layer) -> FiniteSlope:
        return FiniteSlope(name=self._names.unique(f"{layer.name}_slope"))

    def _as_int8(self, value: Any) -> Any:
        """What a quantised layer is given: a float input or output through a fake quantisation."""
        symbolic = tf.is_tensor(value) and tf_keras.backend.is_keras_tensor(value)
        if not symbolic or not value.dtype.is_floating or id(value) in self._int8:
            return value
        key = value._keras_history[:3]
        if key not in self._rounded:
            rounded = self._quantise_input(value._keras_history.layer.name)(value)
            self._rounded[key] = self._int8[id(rounded)] = rounded
        return self._rounded[key]

    def _quantise_input(self, source: str) -> QuantizeInput:
        name = self._names.unique(f"quantize_{source}")
        quantizer = quantizers.AllValuesQuantizer(
            num_bits=8, per_axis=False, symmetric=False, narrow_range=False
        )
        return QuantizeInput(quantizer, name=name, dtype="float32")

    def _range_behind(self, layer: layers.Layer, how: str, small: bool) -> QuantizeInput:
        """A range for what no wrapper is around."""
        if how == "own":
            quantizer: Any = quantizers.MovingAverageQuantizer(8, False, False, False)
        else:
            limits = FIXED_RANGE[kind_of(self._plan.calls[layer.name][0].operation)]
            quantizer = quantizers.FixedQuantizer(8, *limits, narrow_range=False)
        name = self._names.unique(f"{layer.name}_range")
        growth = GROWTH if small else 0.0
        return QuantizeInput(quantizer, name=name, dtype="float32", growth=growth)

    def _twin(self, layer: layers.Layer, small: bool = False) -> layers.Layer:
        """The copy of a layer, wrapped unless it stays float; the same one at every call.

        A layer without weights that has the range of its input is another one at every call.
        """
        if id(layer) not in self._twins:
            self._twins[id(layer)] = self._make(layer, layer.name, small)
        elif self._how(layer) == "same":
            return self._make(layer, self._names.unique(layer.name), small)
        return self._twins[id(layer)]

    def _make(self, layer: layers.Layer, name: str, small: bool) -> layers.Layer:
        how = self._how(layer)
        if how == "float" or isinstance(layer, TFOpLambda | SlicingOpLambda):
            return graph.copy_layer(layer, name)
        config: dict[str, Any] = {}
        if layer.name in self._ternary:
            # Latent weights train without weight decay (docs/specification.md).
            for kernel in _kernels(layer)[layer.name in self._int8_inputs :]:
                config[f"{last_name(kernel).removesuffix('_kernel')}_regularizer"] = None
        policy = layer.dtype_policy
        if isinstance(layer, layers.Embedding):
            policy = "float32"  # half precision would round tokens
        if type(layer) in ROUNDED:
            policy = config["dtype"] = "float32"
        copy = graph.copy_layer(layer, name, kind=ROUNDED.get(type(layer)), **config)
        growth = GROWTH if small else 0.0
        return QuantizeWrapper(copy, self._config(layer, how), dtype=policy, growth=growth)

    def _config(self, layer: layers.Layer, how: str) -> QuantizeConfig:
        """What tfmot's wrapper quantises of a layer."""
        kernel = TERNARY_KERNELS.get(type(layer), "")
        method = self._ternary.get(layer.name)
        relative_size = self._sizes.get(layer.name, 1) / max(self._sizes.values(), default=1)
        if type(layer) in ROUNDED:
            return RecurrentQuantizeConfig(method, relative_size, layer.name in self._int8_inputs)
        is_table = isinstance(layer, layers.Embedding)  # which has no activation
        activations = ["activation"] if how == "own" and not is_table else []
        own_output = how == "own" and is_table
        if method is not None:
            return TernaryQuantizeConfig(
                weight_attrs=[kernel],
                activation_attrs=activations,
                quantize_output=own_output,
                quantizer=TernaryQuantizer(method, relative_size),
            )
        if kernel:
            default = default_8bit_quantize_registry.Default8BitQuantizeConfig
            return _INT8.get(type(layer), default)([kernel], activations, own_output)
        twin = self._plan.calls[layer.name][0].operation
        if how == "own":
            return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()
        if how == "fixed":
            return FixedRange(*FIXED_RANGE[kind_of(twin)])
        if how == "same":
            interpolates = kind_of(twin) in INTERPOLATING
            return KnownRange("interpolate" if interpolates else "average")
        return default_8bit_quantize_configs.NoOpQuantizeConfig()


def _stays_small(layer: layers.Layer, before: bool) -> bool:
    """Whether what a layer computes begins near 0, as what it is given does."""
    is_table = isinstance(layer, layers.Embedding)
    return is_table or (before and "Normalization" not in type(layer).__name__)


def _kernels(layer: layers.Layer) -> list[tf.Variable]:
    is_loop = type(layer) in ROUNDED
    names = RecurrentQuantizeConfig.weight_attrs if is_loop else [TERNARY_KERNELS[type(layer)]]
    return [getattr(kernel_owner(layer), name) for name in names]


def _copy_weights(
    source: layers.Layer, target: layers.Layer, values: Mapping[int, np.ndarray]
) -> None:
    """The weights of a layer into its copy, or into the wrapper around its copy."""
    if not isinstance(target, QuantizeWrapper):
        give_weights(target, source.get_weights())
        return
    variables = {last_name(variable): variable for variable in target.weights}
    for variable in source.weights:
        variables[last_name(variable)].assign(values.get(id(variable), variable))
    derive(target)


def load(path: str, *, safe_mode: bool = True) -> tf_keras.Model:
    """A saved model of ours, with tfmot's classes and ours known to Keras."""
    with loading():
        model = tf_keras.models.load_model(path, safe_mode=safe_mode)
    connect(model)
    return model
