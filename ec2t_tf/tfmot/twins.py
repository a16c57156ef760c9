"""What rebuilding a model in the other Keras shares: fitting configs, weights, comparisons."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from ec2t_tf import doors

TOLERANCE = 1e-5  # of float32 outputs, relative to the largest
HALF_PRECISION_TOLERANCE = 2e-2  # of float16 and bfloat16 outputs

CustomLayers = Mapping[Any, Any]


class _Names:
    """Names that are unique in one model: operators of Keras 3 may be called like a layer."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = set(taken)

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


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
    *("input_length", "implementation", "time_major", "ragged", "sparse", "synchronized", "fused"),
}


def _fitting_config(
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
    if hasattr(twin, "finalize_state"):  # Normalization derives its factors from its weights
        twin.finalize_state()


def _random_input(inputs: list[Any], structure: Any) -> Any:
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
        import keras

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
    if doors.is_keras_3(model):
        import keras

        return keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)
    return tf_keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)


# Activations whose definition the two Kerases share, by their name in Keras 3 and in tf_keras.
_SAME_NAME = (
    *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu"),
    *("sigmoid", "softmax", "softplus", "softsign", "tanh"),
)
_SHARED_ACTIVATIONS = {"silu": "swish"} | {name: name for name in _SAME_NAME}


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
