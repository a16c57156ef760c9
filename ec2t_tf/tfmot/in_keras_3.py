"""A tf_keras model rebuilt in Keras 3, node by node: weights, names and outputs stay."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from ec2t_tf.built_in import as_built_in
from ec2t_tf.layer_config import config_of, derive
from ec2t_tf.quantisation.tensorflow_functions import in_keras_ops
from ec2t_tf.tfmot import activations, graph
from ec2t_tf.treatments import UnsupportedLayerError

TOLERANCE = 1e-5  # of float32 outputs, relative to the largest
HALF_PRECISION_TOLERANCE = 2e-2  # of float16 and bfloat16 outputs

CustomLayers = Mapping[Any, Any]


def to_keras_3(
    model: tf_keras.Model,
    *,
    custom_layers: CustomLayers | None = None,
    tolerance: float = TOLERANCE,
) -> Any:
    """Rebuilds a tf_keras model in Keras 3: same graph, same names, same weights, same outputs.

    Args:
      model: a built tf_keras `Sequential` or functional model of plain layers.
      custom_layers: `{TfKerasLayer: Keras3Layer}`, made with `Keras3Layer.from_config(...)`.
      tolerance: largest difference between the outputs of the two models on random input, relative
        to the largest output.

    Returns:
      A new Keras 3 model.

    Raises:
      TypeError: `model` is not a tf_keras model with a graph.
      ValueError: it is not built, holds something without a twin, or the twin computes otherwise.
    """
    require_graph(model)
    for node in graph.nodes_aside(model):
        raise _no_twin(node.layer, "no output needs it, and Keras 3 has no model.add_loss")
    twin = ToKeras3(custom_layers or {}).model(model)
    feed = random_input(model.inputs, model._nested_inputs)
    _require_equal(model, twin, feed, tolerance)
    return twin


def _parameters(cls: type) -> dict[str, Any]:
    """Every argument that `cls` takes when made, its bases' too if it hands them on: defaults."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            for parameter in parameters:
                found.setdefault(parameter.name, parameter.default)
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
                break
    return found


def _is_default(value: Any, default: Any) -> bool:
    if value is None or value is False:
        return True
    try:
        return bool(np.all(value == default)) or tuple(value) == (default,) * len(value)
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> Any:
    """A serialised Keras object without the module path that only one of the two Kerases has."""
    if isinstance(value, Mapping) and "class_name" in value and "config" in value:
        return {"class_name": value["class_name"], "config": _plain(value["config"])}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _policy_name(dtype: Any) -> str | None:
    """`float32`, `mixed_float16`, ... of a layer's serialised dtype policy."""
    if isinstance(dtype, Mapping):
        dtype = dtype.get("config", {}).get("name")
    return dtype if isinstance(dtype, str) else None


# Argument names that differ; the values mean the same.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
# Config entries that say nothing about what the layer computes once its weights are copied.
_IRRELEVANT = {
    *("trainable", "dtype", "seed", "rng_type", "build_config", "batch_input_shape", "batch_shape"),
    *("input_length", "implementation", "ragged", "sparse", "synchronized", "fused"),
    *("query_shape", "key_shape", "value_shape"),
}


def fitting_config(
    layer: Any, config: dict[str, Any], twin_class: type, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """The part of `config` that `twin_class` takes; the rest has to be default.

    Initialisers are left out: the weights are copied, and Keras 3 gave them new arguments.
    """
    accepted = {*_parameters(twin_class), "name"} - {"dtype", "self", "kwargs", "args"}
    if issubclass(twin_class, tf_keras.layers.RNN):
        accepted.add("zero_output_for_mask")  # taken from its **kwargs
    own_defaults = _parameters(type(layer))
    kept, lost = {}, {}
    for key, value in config.items():
        key_there = renamed.get(key, key)
        if key.endswith("_initializer"):
            continue
        if key_there in accepted:
            kept[key_there] = _plain(value)
        elif key == "data_format" and value == "channels_last":
            continue  # the default of both, which some layers leave unsaid
        elif key not in _IRRELEVANT and not _is_default(value, own_defaults.get(key)):
            lost[key] = value
    if lost:
        raise ValueError(
            f"Every setting of a layer must exist in both Kerases. "
            f"Received: layer '{layer.name}' ({type(layer).__name__}) with {lost}. "
            f"Leave it at its default, or name a twin in custom_layers."
        )
    return kept


def _layer_weights(layer: Any) -> list[Any]:
    """The weights of a layer, without the states of random generators that Keras 3 counts in."""
    return [w for w in layer.weights if "seed_generator" not in getattr(w, "path", w.name)]


def _short_name(weight: Any) -> str:
    return str(getattr(weight, "path", weight.name)).split("/")[-1].split(":")[0]


def _copy_weights(source: Any, twin: Any, to_numpy: Callable[[Any], np.ndarray]) -> None:
    """Copies the weights of one layer to its twin; by name where the names tell them apart."""
    have, want = _layer_weights(source), _layer_weights(twin)
    names = [_short_name(w) for w in want]
    by_name = {_short_name(w): w for w in have}
    if len(by_name) == len(have) and set(by_name) == set(names):
        have = [by_name[name] for name in names]
    shapes = [tuple(w.shape) for w in have], [tuple(w.shape) for w in want]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"A layer and its twin must have weights of the same shapes. Received: layer "
            f"'{source.name}' ({type(source).__name__}) with {shapes[0]}, its twin "
            f"{type(twin).__name__} with {shapes[1]}. Name a fitting twin in custom_layers."
        )
    for weight, value in zip(want, have, strict=True):
        weight.assign(to_numpy(value))
    derive(twin)


def random_input(inputs: list[Any], structure: Any) -> Any:
    """Seeded random arrays for the inputs, in the structure that the model is called with."""
    random = np.random.default_rng(0)
    arrays: dict[int, np.ndarray] = {}
    for tensor in inputs:
        shape = [2] + [64 if size is None else int(size) for size in tensor.shape[1:]]
        dtype = tf.as_dtype(tensor.dtype)
        if tensor.shape[0] is not None:
            shape[0] = int(tensor.shape[0])
        if dtype.is_floating:
            arrays[id(tensor)] = random.standard_normal(shape).astype(dtype.as_numpy_dtype)
        elif dtype.is_integer or dtype.is_bool:
            arrays[id(tensor)] = random.integers(0, 2, shape).astype(dtype.as_numpy_dtype)
        else:
            raise ValueError(
                f"Inputs must be numbers, so that the two models can be compared. Received: "
                f"input '{tensor.name}' of {dtype.name}. Split the model after its text layers."
            )
    return tf.nest.map_structure(lambda tensor: arrays[id(tensor)], structure)


def _as_array(value: Any) -> np.ndarray:
    """A tensor or variable of either Keras (any backend of Keras 3) as a float64 array."""
    if not tf.is_tensor(value) and not isinstance(value, (np.ndarray, np.generic)):
        value = keras.ops.convert_to_numpy(value)
    return np.asarray(tf.cast(value, tf.float64) if tf.is_tensor(value) else value, np.float64)


def largest_difference(output: Any, twin_output: Any) -> float:
    """The largest difference of two (nests of) arrays, relative to the largest value of each."""
    worst = 0.0
    for one, other in zip(tf.nest.flatten(output), tf.nest.flatten(twin_output), strict=True):
        first, second = _as_array(one), _as_array(other)
        if first.shape != second.shape:
            return float("inf")
        if first.size == 0:
            continue
        if np.all((first == second) | (np.isnan(first) & np.isnan(second))):
            continue  # infinite and undefined ones too
        scale = max(float(np.max(np.abs(first))), 1e-6)
        difference = float(np.max(np.abs(first - second))) / scale
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def _require_equal(model: Any, twin: Any, feed: Any, tolerance: float) -> None:
    output = model(feed, training=False)
    if any("16" in str(leaf.dtype) for leaf in tf.nest.flatten(output)) or any(
        "16" in str(getattr(layer, "compute_dtype", "")) for layer in model.layers
    ):
        tolerance = max(tolerance, HALF_PRECISION_TOLERANCE)
    difference = largest_difference(output, twin(feed, training=False))
    if difference > tolerance:
        raise ValueError(
            f"A model and its twin must compute the same on random input, to {tolerance:g} of the "
            f"largest output. Received: '{model.name}' with a difference of {difference:.3g}; "
            f"{_first_difference(model, twin, feed, tolerance)}. "
            f"Name a twin of that layer in custom_layers."
        )


def _first_difference(model: Any, twin: Any, feed: Any, tolerance: float) -> str:
    """Names the first layer whose output differs, walking down the layers of both models."""
    there = {layer.name: layer for layer in twin.layers}
    for layer in model.layers:
        try:
            mine, other = layer.output, there[layer.name].output
        except (AttributeError, KeyError, ValueError):  # called more than once, or replaced
            continue
        outputs = _probe(model, mine, feed), _probe(twin, other, feed)
        difference = largest_difference(*outputs)
        if difference > tolerance:
            return (
                f"the first layer that differs is '{layer.name}' ({type(layer).__name__}), "
                f"by {difference:.3g}"
            )
    return "no single layer differs, the wiring does"


def _probe(model: Any, tensor: Any, feed: Any) -> Any:
    if isinstance(model, keras.Model):
        return keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)
    return tf_keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)


def _custom_twin(key: Any, custom_layers: CustomLayers) -> Any:
    """What the user named for a layer (by its class) or for a function."""
    for candidate, twin in custom_layers.items():
        if candidate is type(key) or candidate is key:
            return twin
    return None


def _from_config(layer: Any, twin_class: Any, config: dict[str, Any]) -> Any:
    try:
        return twin_class.from_config(config)
    except Exception as error:
        raise ValueError(
            f"A layer's twin must take its settings. Received: layer '{layer.name}' "
            f"({type(layer).__name__}), refused by {twin_class.__module__}."
            f"{twin_class.__name__}: {error}. Name a fitting twin in custom_layers."
        ) from error


def _no_twin(layer: Any, why: str) -> ValueError:
    kind = type(layer).__name__
    return ValueError(
        f"Every layer must exist in both Kerases. Received: '{layer.name}' of the class {kind}: "
        f"{why}. Pass custom_layers={{{kind}: ItsTwin}}, where ItsTwin.from_config takes what "
        f"{kind}.get_config gives, or rebuild the model without it."
    )


def _is_symbolic(value: Any) -> bool:
    return tf.is_tensor(value) and tf_keras.backend.is_keras_tensor(value)


# Activations whose definition the two Kerases share, by their name in Keras 3 and in tf_keras.
_SAME_NAME = (
    *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu"),
    *("sigmoid", "softmax", "softplus", "softsign", "tanh"),
)
_SHARED_ACTIVATIONS = {"silu": "swish"} | {name: name for name in _SAME_NAME}


def require_graph(model: Any) -> None:
    if not isinstance(model, tf_keras.Model):
        raise TypeError(
            f"`model` must be a tf_keras model. Received: {type(model).__module__}."
            f"{type(model).__name__}."
        )
    if not model.built or not model.inputs:
        raise ValueError(
            f"The model must be built. Received: unbuilt '{model.name}'. Call model.build(shape)."
        )
    if not model._is_graph_network:
        raise TypeError(
            f"The model must be a tf_keras Sequential or functional model. Received: "
            f"'{model.name}' of the class {type(model).__name__}."
        )


def name_of(layer: Any) -> str:
    """A layer's name in Keras 3, which takes no slashes."""
    return str(layer.name).replace("/", "_")


def _is_ours(error: BaseException) -> bool:
    """Whether this package raised it, and not Keras or TensorFlow."""
    (*_, (frame, _)) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("ec2t_tf.")


def _not_likewise(layer: Any, error: Exception) -> UnsupportedLayerError:
    says = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return UnsupportedLayerError(
        "Layers of tf_keras must be ones that Keras 3 calls likewise: files are written from "
        f"there. Received: '{layer.name}' ({type(layer).__name__}), of which it says: {says}"
    )


class ToKeras3:
    """One rebuilding: remembers the twins of layers and models, so that shared ones stay shared."""

    def __init__(self, custom_layers: CustomLayers) -> None:
        self._custom = custom_layers
        self._twins: dict[int, Any] = {}

    def model(self, model: tf_keras.Model) -> Any:
        require_graph(model)
        if isinstance(model, tf_keras.Sequential):
            twin = self._sequential(model)
        else:
            twin = self._functional(model)
        for layer in model.layers:
            if not graph.is_nested(layer):
                self._fill(layer)
        return twin

    def _fill(self, layer: Any) -> None:
        if layer.weights:
            _copy_weights(layer, self._twins[id(layer)], lambda weight: weight.numpy())

    def _input(self, tensor: Any, name: str) -> Any:
        shape = graph.any_batch(tensor.shape)
        return keras.Input(batch_shape=shape, dtype=tensor.dtype.name, name=name)

    def _sequential(self, model: tf_keras.Sequential) -> Any:
        (source,) = model.inputs
        layers = [
            part for layer in model.layers for part in (self.layer(layer), *self._rest(layer))
        ]
        first = self._input(source, model.input_names[0])
        return keras.Sequential([first, *layers], name=model.name)

    def _functional(self, model: tf_keras.Model) -> Any:
        made: dict[int, Any] = {
            id(tensor): self._input(tensor, name)
            for tensor, name in zip(model.inputs, model.input_names, strict=True)
        }

        def twin_of(value: Any) -> Any:
            return made[id(value)] if _is_symbolic(value) else value

        for node in graph.nodes(model):
            arguments, options = tf.nest.map_structure(twin_of, graph.called_with(node))
            try:
                outputs = keras.tree.flatten(self._node(node, arguments, options))
            except (TypeError, ValueError, AttributeError) as error:
                if _is_ours(error):
                    raise
                raise _not_likewise(node.layer, error) from error
            for tensor, output in zip(tf.nest.flatten(node.outputs), outputs, strict=True):
                made[id(tensor)] = output

        inputs, outputs = (
            tf.nest.map_structure(lambda tensor: made[id(tensor)], structure)
            for structure in (model._nested_inputs, model._nested_outputs)
        )
        return keras.Model(inputs, outputs, name=model.name)

    def _node(self, node: Any, arguments: Any, options: dict[str, Any]) -> Any:
        layer, kind = node.layer, type(node.layer).__name__
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            function = layer.get_config()["function"]
            if function.split(".")[-1] == "shape":
                raise UnsupportedLayerError(
                    "Sizes written as numbers are required, x.shape[1] where x has them and -1 for "
                    f"the batch: those of a file are fixed. Received: '{layer.name}', which "
                    f"computes them (tf.{function})."
                )
            compute = in_keras_ops(function)
            if compute is None:
                compute = self._without(layer, f"keras.ops has no tf.{function}")
            outputs = compute(*arguments, **options)
            for output in keras.tree.flatten(outputs):  # a layer may have the name of its own
                output._keras_history.operation.name = name_of(layer)
            return outputs
        options = {k: v for k, v in options.items() if v is not None and k != "training"}
        outputs = self.layer(layer)(*arguments, **options)
        for part in self._rest(layer):
            outputs = part(outputs)
        return outputs

    def layer(self, layer: Any) -> Any:
        """The twin of a layer or nested model; the same one each time."""
        if id(layer) not in self._twins:
            is_model = graph.is_nested(layer)
            twin = self.model(layer) if is_model else self._make(layer)
            if not is_model:
                twin.trainable = layer.trainable
            self._twins[id(layer)] = twin
        return self._twins[id(layer)]

    def _without(self, layer: Any, why: str) -> Any:
        """What takes the place of a layer that Keras 3 does not have."""
        raise _no_twin(layer, why)

    def _rest(self, layer: Any) -> list[Any]:
        """tf_keras' hard_sigmoid(x) is Keras 3's hard_sigmoid(1.2 x): two layers after the twin."""
        if getattr(layer, "activation", None) is not tf_keras.activations.hard_sigmoid:
            return []
        return [
            keras.layers.Rescaling(1.2, name=f"{layer.name}_rescaling"),
            keras.layers.Activation("hard_sigmoid", name=f"{layer.name}_hard_sigmoid"),
        ]

    def _make(self, layer: Any, **changes: Any) -> Any:
        twin_class = _custom_twin(layer, self._custom)
        if twin_class is not None:
            return _from_config(layer, twin_class, layer.get_config())
        layer = as_built_in(layer)
        kind = type(layer).__name__
        if not type(layer).__module__.startswith("tf_keras."):
            return self._without(layer, "a class of your own")
        twin_class = getattr(keras.layers, kind, None)
        if twin_class is None:
            return self._without(layer, "Keras 3 has no layer of this name")
        if kind == "Lambda":
            options = {"name": name_of(layer), "arguments": layer.arguments}
            return keras.layers.Lambda(layer.function, **options)
        renamed = {there: here for here, there in _RENAMED.get(kind, {}).items()}
        config = {**self._config(layer, twin_class, renamed), **changes}
        config["name"] = name_of(layer)
        for key in config:
            if (key == "activation" or key.endswith("_activation")) and key not in changes:
                config[key] = self._activation(layer, key)
        if kind == "BatchNormalization" and not isinstance(config["axis"], int):
            if len(config["axis"]) > 1:
                return self._without(layer, "it normalises along several axes at once")
            (config["axis"],) = config["axis"]
        if kind == "Bidirectional":
            config["layer"] = self._make(layer.forward_layer)
            config["backward_layer"] = self._make(layer.backward_layer)
            return twin_class(**config)
        if kind == "RNN":
            config["cell"] = self._make(layer.cell)
            return twin_class(**config)
        if kind == "StackedRNNCells":
            return twin_class([self._make(cell) for cell in layer.cells], name=name_of(layer))
        if isinstance(layer, tf_keras.layers.Wrapper):
            config["layer"] = self.layer(layer.layer)
            return twin_class(**config)
        return _from_config(layer, twin_class, config)

    def _config(self, layer: Any, twin_class: type, renamed: Mapping[str, str]) -> dict[str, Any]:
        inside = graph.INSIDE.get(type(layer), "")  # a twin of its own comes in its place
        given = config_of(layer, tf_keras.activations.linear, without=inside)
        config = fitting_config(layer, given, twin_class, renamed)
        policy = _policy_name(given.get("dtype"))
        return config if policy in (None, "float32") else {**config, "dtype": policy}

    def _activation(self, layer: Any, key: str) -> Any:
        function = getattr(layer, key)
        twin = _custom_twin(function, self._custom)
        if twin is None and key == "activation" and self._rest(layer):
            return "linear"  # `_rest` adds it
        return self._function(layer, function) if twin is None else twin

    def _function(self, layer: Any, function: Any) -> Any:
        for name, ours in activations.KERAS_3_ONLY.items():
            if function is ours:
                return name
        for name, there in _SHARED_ACTIVATIONS.items():
            if function is tf_keras.activations.get(there):
                return name
        return self._without_function(layer, function)

    def _without_function(self, layer: Any, function: Any) -> Any:
        name = getattr(function, "__name__", type(function).__name__)
        raise _no_twin(layer, f"Keras 3 has no activation {name!r} that computes the same")
