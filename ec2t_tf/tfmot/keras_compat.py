"""The only file that knows tf_keras from Keras 3.

tfmot, and so everything in this package that trains, works on tf_keras. `to_tf_keras` rebuilds a
Keras 3 model there, node by node, and `to_keras_3` goes back. Both copy the weights with a check of
every shape and compare the outputs of the two models on random input before they return.

Keras 3 is imported where it is used: users of tf_keras do not pay for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from ec2t_tf.tfmot import activations

TOLERANCE = 1e-5  # of float32 outputs, relative to the largest
HALF_PRECISION_TOLERANCE = 2e-2  # of float16 and bfloat16 outputs

CustomLayers = Mapping[Any, Any]


def is_keras_3(model: object) -> bool:
    """True for a model of Keras 3, whether or not this process has imported it elsewhere."""
    return any(
        base.__module__.startswith("keras.") and base.__name__ == "Model"
        for base in type(model).__mro__
    )


def is_tf_keras(model: object) -> bool:
    """True for a model of tf_keras (Keras 2)."""
    return isinstance(model, tf_keras.Model)


def to_tf_keras(
    model: Any, *, custom_layers: CustomLayers | None = None, tolerance: float = TOLERANCE
) -> tf_keras.Model:
    """Rebuilds a Keras 3 model in tf_keras: same graph, same names, same weights, same outputs.

    Args:
      model: a built Keras 3 `Sequential` or functional model; nested models, shared layers, several
        inputs and outputs and graphs written with `keras.ops` are rebuilt as they are.
      custom_layers: twins of what only the user knows: `{Keras3Layer: TfKerasLayer}`. The twin is
        made with `TfKerasLayer.from_config(layer.get_config())`. Activation functions of the user
        are listed the same way.
      tolerance: largest difference between the outputs of the two models on random input, relative
        to the largest output.

    Returns:
      A new tf_keras model. The given one is untouched.

    Raises:
      TypeError: `model` is not a Keras 3 model with a graph.
      ValueError: it is not built, holds something without a twin, or the twin computes otherwise.
    """
    _require_keras_3_graph(model)
    twin = _ToTfKeras(custom_layers or {}).model(model)
    structure = getattr(model, "_functional", model)._inputs_struct
    _require_equal(model, twin, _random_input(model.inputs, structure), tolerance)
    return twin


def to_keras_3(
    model: tf_keras.Model,
    *,
    custom_layers: CustomLayers | None = None,
    tolerance: float = TOLERANCE,
) -> Any:
    """Rebuilds a tf_keras model in Keras 3: the way back from `to_tf_keras`.

    Args:
      model: a built tf_keras `Sequential` or functional model of plain layers.
      custom_layers: `{TfKerasLayer: Keras3Layer}`, made with `Keras3Layer.from_config(...)`.
      tolerance: as in `to_tf_keras`.

    Returns:
      A new Keras 3 model.

    Raises:
      TypeError: `model` is not a tf_keras model with a graph.
      ValueError: it is not built, holds something without a twin, or the twin computes otherwise.
    """
    _require_tf_keras_graph(model)
    twin = _ToKeras3(custom_layers or {}).model(model)
    feed = _random_input(model.inputs, model._nested_inputs)
    _require_equal(model, twin, feed, tolerance)
    return twin


# ---------------------------------------------------------------------------------------------
# What both directions share


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
    if is_keras_3(model):
        import keras

        return keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)
    return tf_keras.Model(model.inputs, tensor)(tf.nest.flatten(feed), training=False)


# ---------------------------------------------------------------------------------------------
# Keras 3 -> tf_keras


def _require_keras_3_graph(model: Any) -> None:
    import keras
    from keras.src.models.functional import Functional

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras 3 model. Received: {type(model).__module__}."
            f"{type(model).__name__}."
        )
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:
            raise ValueError(
                f"The model must be built. Received: unbuilt '{model.name}'. Call it once on data, "
                f"or put keras.Input(shape) in front."
            )
        return
    if not isinstance(model, Functional) or type(model).call is not Functional.call:
        raise TypeError(
            f"The model must be a Keras 3 Sequential or functional model, whose graph can be read. "
            f"Received: '{model.name}' of the class {type(model).__name__} with a `call` of its "
            f"own. Rebuild it as keras.Model(inputs, outputs)."
        )


def _keras_3_nodes(function: Any) -> Iterator[Any]:
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


def _input_name(tensor: Any) -> str:
    return str(tensor._keras_history.operation.name)


class _ToTfKeras:
    """One rebuilding: remembers the twins of layers and models, so that shared ones stay shared."""

    def __init__(self, custom_layers: CustomLayers) -> None:
        import keras

        self._keras = keras
        self._custom = custom_layers
        self._twins: dict[int, Any] = {}

    def model(self, model: Any) -> tf_keras.Model:
        _require_keras_3_graph(model)
        if isinstance(model, self._keras.Sequential):
            twin = self._sequential(model)
        else:
            twin = self._functional(model)
        for layer in model.layers:
            if not isinstance(layer, (self._keras.Model, self._keras.layers.InputLayer)):
                _copy_weights(layer, self._twins[id(layer)], self._keras.ops.convert_to_numpy)
        return twin

    def _sequential(self, model: Any) -> tf_keras.Model:
        (source,) = model.inputs
        first = tf_keras.layers.InputLayer(
            batch_input_shape=source.shape, dtype=source.dtype, name=_input_name(source)
        )
        layers = [self.layer(layer) for layer in model.layers]
        return tf_keras.Sequential([first, *layers], name=model.name)

    def _functional(self, model: Any) -> tf_keras.Model:
        keras = self._keras
        names = _Names({layer.name for layer in model.layers})
        made: dict[int, Any] = {
            id(tensor): tf_keras.Input(
                batch_shape=tensor.shape, dtype=tensor.dtype, name=_input_name(tensor)
            )
            for tensor in model.inputs
        }

        def twin_of(value: Any) -> Any:
            return made[id(value)] if isinstance(value, keras.KerasTensor) else value

        for node in _keras_3_nodes(model):
            arguments = keras.tree.map_structure(twin_of, node.arguments.args)
            options = keras.tree.map_structure(twin_of, node.arguments.kwargs)
            if isinstance(node.operation, keras.layers.Layer):
                # `training` is passed down at run time and overrides what the node says.
                options = {k: v for k, v in options.items() if v is not None and k != "training"}
                outputs = self.layer(node.operation)(*arguments, **options)
            else:
                outputs = _operator_to_tf_keras(node.operation, arguments, options, names)
            for tensor, output in zip(node.outputs, tf.nest.flatten(outputs), strict=True):
                made[id(tensor)] = output

        inputs, outputs = (
            keras.tree.map_structure(lambda tensor: made[id(tensor)], structure)
            for structure in (model._inputs_struct, model._outputs_struct)
        )
        return tf_keras.Model(inputs, outputs, name=model.name)

    def layer(self, layer: Any) -> Any:
        """The twin of a layer or nested model; the same one each time."""
        if id(layer) not in self._twins:
            is_model = isinstance(layer, self._keras.Model)
            twin = self.model(layer) if is_model else self._make(layer)
            if not is_model:
                twin.trainable = layer.trainable
            self._twins[id(layer)] = twin
        return self._twins[id(layer)]

    def _make(self, layer: Any) -> Any:
        twin_class = _custom_twin(layer, self._custom)
        if twin_class is not None:
            return _from_config(layer, twin_class, layer.get_config())
        name = type(layer).__name__
        if not type(layer).__module__.startswith("keras."):
            raise _no_twin(layer, "a class of your own")
        twin_class = getattr(tf_keras.layers, name, None)
        if twin_class is None:
            raise _no_twin(layer, "tf_keras has no layer of this name")
        config = _fitting_config(layer, layer.get_config(), twin_class, _RENAMED.get(name, {}))
        for key in config:
            if key == "activation" or key.endswith("_activation"):
                config[key] = self._activation(layer, getattr(layer, key))
        policy = _policy_name(layer.get_config().get("dtype"))
        if policy not in (None, "float32"):
            config["dtype"] = policy
        if name == "Bidirectional":
            config["layer"] = self._make(layer.forward_layer)
            config["backward_layer"] = self._make(layer.backward_layer)
            return twin_class(**config)
        if name == "Lambda":
            return twin_class(layer.function, name=layer.name, arguments=layer.arguments)
        if name == "RNN" and hasattr(layer, "cell"):
            config["cell"] = self._make(layer.cell)
            return twin_class(**config)
        if name == "StackedRNNCells":
            return twin_class([self._make(cell) for cell in layer.cells], name=layer.name)
        if isinstance(layer, self._keras.layers.Wrapper):
            config["layer"] = self.layer(layer.layer)
            return twin_class(**config)
        return _from_config(layer, twin_class, config)

    def _activation(self, layer: Any, function: Any) -> Any:
        twin = _custom_twin(function, self._custom)
        if twin is not None:
            return twin
        name = getattr(function, "__name__", type(function).__name__)
        if function is not self._keras.activations.get(name if _is_known(name) else "linear"):
            raise _no_twin(layer, f"its activation {name!r} is a function of your own")
        return _activation_to_tf_keras(layer, name)


def _is_known(name: str) -> bool:
    return name in activations.KERAS_3_ONLY or name in _SHARED_ACTIVATIONS


# Activations whose definition the two Kerases share, by their name in Keras 3 and in tf_keras.
_SAME_NAME = (
    *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu"),
    *("sigmoid", "softmax", "softplus", "softsign", "tanh"),
)
_SHARED_ACTIVATIONS = {"silu": "swish"} | {name: name for name in _SAME_NAME}


def _activation_to_tf_keras(layer: Any, name: str) -> Any:
    if name in activations.KERAS_3_ONLY:
        return activations.KERAS_3_ONLY[name]
    if name in _SHARED_ACTIVATIONS:
        return tf_keras.activations.get(_SHARED_ACTIVATIONS[name])
    raise _no_twin(layer, f"tf_keras has no activation {name!r}")


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


# ---------------------------------------------------------------------------------------------
# Operators of keras.ops -> layers of tf_keras where there are some (tfmot knows those), else
# TensorFlow functions, which tf_keras records as layers that save and load by themselves.


def _operator_to_tf_keras(
    operation: Any, arguments: list[Any], options: dict[str, Any], names: _Names
) -> Any:
    kind = type(operation).__name__
    name = names.unique(operation.name)
    values = [*arguments, *options.values()]
    if kind in _ARITHMETIC and len(values) == 2:
        return _arithmetic(kind, values[0], values[1], name)
    if kind in _OPERATORS:
        return _OPERATORS[kind](operation, name, *arguments, **options)
    raise ValueError(
        f"Every operator must exist in both Kerases. Received: keras.ops '{operation.name}' of "
        f"the class {kind}. Known are {', '.join(sorted({*_ARITHMETIC, *_OPERATORS}))}. Put it "
        f"into a layer of your own and name its twin in custom_layers."
    )


def _is_symbolic(value: Any) -> bool:
    return tf.is_tensor(value) and tf_keras.backend.is_keras_tensor(value)


# Two-argument operators: the merging layer of tf_keras, if any, and the TensorFlow function.
_ARITHMETIC: dict[str, tuple[Any, Callable[..., Any]]] = {
    "Add": (tf_keras.layers.Add, tf.math.add),
    "Subtract": (tf_keras.layers.Subtract, tf.math.subtract),
    "Multiply": (tf_keras.layers.Multiply, tf.math.multiply),
    "Divide": (None, tf.math.divide),
    "TrueDivide": (None, tf.math.divide),
    "Maximum": (tf_keras.layers.Maximum, tf.math.maximum),
    "Minimum": (tf_keras.layers.Minimum, tf.math.minimum),
    "Power": (None, tf.math.pow),
    "Matmul": (None, tf.linalg.matmul),
}


def _arithmetic(kind: str, left: Any, right: Any, name: str) -> Any:
    layer, function = _ARITHMETIC[kind]
    if _is_symbolic(left) and _is_symbolic(right):
        if layer is not None and len(left.shape) == len(right.shape):
            return layer(name=name)([left, right])
        return function(left, right, name=name)
    tensor, constant = (left, right) if _is_symbolic(left) else (right, left)
    constant = _as_array(constant)
    tensor_first = _is_symbolic(left)
    affine = {  # the constant as a scale and an offset
        "Add": (1.0, constant),
        "Subtract": (1.0, -constant) if tensor_first else (-1.0, constant),
        "Multiply": (constant, 0.0),
        "Divide": (1.0 / constant, 0.0) if tensor_first and np.all(constant) else None,
        "TrueDivide": (1.0 / constant, 0.0) if tensor_first and np.all(constant) else None,
    }.get(kind)
    if affine is not None and constant.ndim < len(tensor.shape):
        scale, offset = (np.asarray(factor).tolist() for factor in affine)
        return tf_keras.layers.Rescaling(scale, offset, name=name)(tensor)
    constant = tf.constant(constant, tensor.dtype)
    pair = (tensor, constant) if tensor_first else (constant, tensor)
    return function(*pair, name=name)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda operation, name, x: function(x, name=name)


def _layer(make: Callable[[Any, str], Any]) -> Callable[..., Any]:
    return lambda operation, name, x: make(operation, name)(x)


def _named_activation(function_name: str) -> Callable[..., Any]:
    return lambda operation, name, x: tf_keras.layers.Activation(
        _activation_to_tf_keras(operation, function_name), name=name
    )(x)


def _axes(operation: Any, rank: int) -> tuple[int, ...]:
    axis = operation.axis
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(one % rank for one in axes))


def _reduction(function: Callable[..., Any], pooling: Mapping[int, Any]) -> Callable[..., Any]:
    """A reduction; over all spatial axes and with a pooling layer for the rank, that layer."""

    def apply(operation: Any, name: str, x: Any) -> Any:
        rank = len(x.shape)
        axes = _axes(operation, rank)
        if rank in pooling and axes == tuple(range(1, rank - 1)):
            return pooling[rank](keepdims=bool(operation.keepdims), name=name)(x)
        return function(x, axis=list(axes), keepdims=bool(operation.keepdims), name=name)

    return apply


def _reshape(operation: Any, name: str, x: Any) -> Any:
    shape = tuple(operation.newshape)
    # A reshape that keeps the batch is a layer; -1 stands for the batch as long as the rest fits.
    inner = x.shape[1:]
    known = all(size is not None for size in inner) and all(size > 0 for size in shape[1:])
    if shape and (
        (shape[0] == -1 and known and np.prod(inner) == np.prod(shape[1:]))
        or (shape[0] is None or shape[0] == x.shape[0])
    ):
        return tf_keras.layers.Reshape(shape[1:], name=name)(x)
    return tf.reshape(x, [-1 if size is None else size for size in shape], name=name)


def _pad(operation: Any, name: str, x: Any, constant_values: Any = None) -> Any:
    rank = len(x.shape)
    width = np.asarray(operation.pad_width, np.int64)
    width = np.broadcast_to(width, (rank, 2)).tolist()
    zero = operation.mode == "constant" and not constant_values
    if zero and rank in (3, 4) and width[0] == [0, 0] and width[-1] == [0, 0]:
        if rank == 4:
            return tf_keras.layers.ZeroPadding2D(tuple(map(tuple, width[1:3])), name=name)(x)
        return tf_keras.layers.ZeroPadding1D(tuple(width[1]), name=name)(x)
    return tf.pad(x, width, operation.mode.upper(), constant_values=constant_values or 0, name=name)


def _transpose(operation: Any, name: str, x: Any) -> Any:
    axes = operation.axes or tuple(reversed(range(len(x.shape))))
    axes = tuple(axis % len(x.shape) for axis in axes)
    if axes[0] == 0:
        return tf_keras.layers.Permute(axes[1:], name=name)(x)
    return tf.transpose(x, axes, name=name)


def _concatenate(operation: Any, name: str, xs: Any) -> Any:
    return tf_keras.layers.Concatenate(axis=operation.axis, name=name)(list(xs))


def _get_item(operation: Any, name: str, x: Any, key: Any) -> Any:
    return x[key]


def _pooling(average: bool) -> Callable[..., Any]:
    def apply(operation: Any, name: str, inputs: Any) -> Any:
        kind = "AveragePooling" if average else "MaxPooling"
        layer = getattr(tf_keras.layers, f"{kind}{len(inputs.shape) - 2}D")
        return layer(
            operation.pool_size,
            operation.strides,
            operation.padding,
            operation.data_format,
            name=name,
        )(inputs)

    return apply


_AVERAGE = {
    3: tf_keras.layers.GlobalAveragePooling1D,
    4: tf_keras.layers.GlobalAveragePooling2D,
    5: tf_keras.layers.GlobalAveragePooling3D,
}
_MAXIMUM = {
    3: tf_keras.layers.GlobalMaxPooling1D,
    4: tf_keras.layers.GlobalMaxPooling2D,
    5: tf_keras.layers.GlobalMaxPooling3D,
}

_OPERATORS: dict[str, Callable[..., Any]] = {
    "Relu": _layer(lambda operation, name: tf_keras.layers.ReLU(name=name)),
    "Relu6": _layer(lambda operation, name: tf_keras.layers.ReLU(6.0, name=name)),
    "LeakyRelu": _layer(
        lambda operation, name: tf_keras.layers.LeakyReLU(operation.negative_slope, name=name)
    ),
    "Elu": _layer(lambda operation, name: tf_keras.layers.ELU(operation.alpha, name=name)),
    "Softmax": _layer(lambda operation, name: tf_keras.layers.Softmax(operation.axis, name=name)),
    "Sigmoid": _named_activation("sigmoid"),
    "Tanh": _named_activation("tanh"),
    "Silu": _named_activation("silu"),
    "HardSigmoid": _named_activation("hard_sigmoid"),
    "HardSilu": _named_activation("hard_silu"),
    "Softplus": _named_activation("softplus"),
    "Gelu": lambda operation, name, x: tf.nn.gelu(x, approximate=operation.approximate, name=name),
    "Mean": _reduction(tf.reduce_mean, _AVERAGE),
    "Max": _reduction(tf.reduce_max, _MAXIMUM),
    "Min": _reduction(tf.reduce_min, {}),
    "Sum": _reduction(tf.reduce_sum, {}),
    "Reshape": _reshape,
    "Pad": _pad,
    "Transpose": _transpose,
    "Concatenate": _concatenate,
    "GetItem": _get_item,
    "MaxPool": _pooling(average=False),
    "AveragePool": _pooling(average=True),
    "ExpandDims": lambda operation, name, x: tf.expand_dims(x, operation.axis, name=name),
    "Squeeze": lambda operation, name, x: tf.squeeze(x, operation.axis, name=name),
    "Stack": lambda operation, name, x: tf.stack(list(x), operation.axis, name=name),
    "Clip": lambda operation, name, x: tf.clip_by_value(
        x, operation.x_min, operation.x_max, name=name
    ),
    "Cast": lambda operation, name, x: tf.cast(x, operation.dtype, name=name),
    "Negative": _layer(lambda operation, name: tf_keras.layers.Rescaling(-1.0, name=name)),
    "Absolute": _elementwise(tf.abs),
    "Abs": _elementwise(tf.abs),
    "Square": _elementwise(tf.square),
    "Sqrt": _elementwise(tf.sqrt),
    "Rsqrt": _elementwise(tf.math.rsqrt),
    "Exp": _elementwise(tf.exp),
    "Log": _elementwise(tf.math.log),
}


# ---------------------------------------------------------------------------------------------
# tf_keras -> Keras 3


def _require_tf_keras_graph(model: Any) -> None:
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


class _ToKeras3:
    """The mirror image of `_ToTfKeras`."""

    def __init__(self, custom_layers: CustomLayers) -> None:
        import keras

        self._keras = keras
        self._custom = custom_layers
        self._twins: dict[int, Any] = {}

    def model(self, model: tf_keras.Model) -> Any:
        _require_tf_keras_graph(model)
        if isinstance(model, tf_keras.Sequential):
            twin = self._sequential(model)
        else:
            twin = self._functional(model)
        for layer in model.layers:
            if layer.weights and not isinstance(layer, tf_keras.Model):
                _copy_weights(layer, self._twins[id(layer)], lambda weight: weight.numpy())
        return twin

    def _input(self, tensor: Any, name: str) -> Any:
        return self._keras.Input(
            batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name, name=name
        )

    def _sequential(self, model: tf_keras.Sequential) -> Any:
        (source,) = model.inputs
        layers = [
            part for layer in model.layers for part in (self.layer(layer), *self._rest(layer))
        ]
        first = self._input(source, model.input_names[0])
        return self._keras.Sequential([first, *layers], name=model.name)

    def _functional(self, model: tf_keras.Model) -> Any:
        made: dict[int, Any] = {
            id(tensor): self._input(tensor, name)
            for tensor, name in zip(model.inputs, model.input_names, strict=True)
        }

        def twin_of(value: Any) -> Any:
            return made[id(value)] if _is_symbolic(value) else value

        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                arguments = tf.nest.map_structure(twin_of, node.call_args)
                options = tf.nest.map_structure(twin_of, node.call_kwargs)
                outputs = self._call(node.layer, arguments, options)
                flat = self._keras.tree.flatten(outputs)
                for tensor, output in zip(tf.nest.flatten(node.outputs), flat, strict=True):
                    made[id(tensor)] = output

        inputs, outputs = (
            tf.nest.map_structure(lambda tensor: made[id(tensor)], structure)
            for structure in (model._nested_inputs, model._nested_outputs)
        )
        return self._keras.Model(inputs, outputs, name=model.name)

    def _call(self, layer: Any, arguments: Any, options: dict[str, Any]) -> Any:
        kind = type(layer).__name__
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            function = layer.get_config()["function"]
            if function not in _FUNCTIONS:
                raise _no_twin(layer, f"keras.ops has no tf.{function}")
            options = {k: v for k, v in options.items() if k != "name"}
            return _FUNCTIONS[function](self._keras.ops, *arguments, **options)
        options = {k: v for k, v in options.items() if v is not None and k != "training"}
        outputs = self.layer(layer)(*arguments, **options)
        for part in self._rest(layer):
            outputs = part(outputs)
        return outputs

    def layer(self, layer: Any) -> Any:
        """The twin of a layer or nested model; the same one each time."""
        if id(layer) not in self._twins:
            is_model = isinstance(layer, tf_keras.Model)
            twin = self.model(layer) if is_model else self._make(layer)
            if not is_model:
                twin.trainable = layer.trainable
            self._twins[id(layer)] = twin
        return self._twins[id(layer)]

    def _rest(self, layer: Any) -> list[Any]:
        """tf_keras' hard_sigmoid(x) is Keras 3's hard_sigmoid(1.2 x): two layers after the twin."""
        if getattr(layer, "activation", None) is not tf_keras.activations.hard_sigmoid:
            return []
        return [
            self._keras.layers.Rescaling(1.2, name=f"{layer.name}_rescaling"),
            self._keras.layers.Activation("hard_sigmoid", name=f"{layer.name}_hard_sigmoid"),
        ]

    def _make(self, layer: Any) -> Any:
        twin_class = _custom_twin(layer, self._custom)
        if twin_class is not None:
            return _from_config(layer, twin_class, layer.get_config())
        name = type(layer).__name__
        if not type(layer).__module__.startswith("tf_keras."):
            raise _no_twin(layer, "a class of your own")
        twin_class = getattr(self._keras.layers, name, None)
        if twin_class is None:
            raise _no_twin(layer, "Keras 3 has no layer of this name")
        renamed = {there: here for here, there in _RENAMED.get(name, {}).items()}
        config = _fitting_config(layer, layer.get_config(), twin_class, renamed)
        for key in config:
            if key == "activation" or key.endswith("_activation"):
                config[key] = self._activation(layer, key)
        policy = _policy_name(layer.get_config().get("dtype"))
        if policy not in (None, "float32"):
            config["dtype"] = policy
        if name == "BatchNormalization" and not isinstance(config["axis"], int):
            (config["axis"],) = config["axis"]
        if name == "Bidirectional":
            config["layer"] = self._make(layer.forward_layer)
            config["backward_layer"] = self._make(layer.backward_layer)
            return twin_class(**config)
        if name == "Lambda":
            return twin_class(layer.function, name=layer.name, arguments=layer.arguments)
        if name == "RNN":
            config["cell"] = self._make(layer.cell)
            return twin_class(**config)
        if name == "StackedRNNCells":
            return twin_class([self._make(cell) for cell in layer.cells], name=layer.name)
        if isinstance(layer, tf_keras.layers.Wrapper):
            config["layer"] = self.layer(layer.layer)
            return twin_class(**config)
        return _from_config(layer, twin_class, config)

    def _activation(self, layer: Any, key: str) -> Any:
        function = getattr(layer, key)
        twin = _custom_twin(function, self._custom)
        if twin is not None:
            return twin
        for name, ours in activations.KERAS_3_ONLY.items():
            if function is ours:
                return name
        for name, there in _SHARED_ACTIVATIONS.items():
            if function is tf_keras.activations.get(there):
                return name
        if key == "activation" and function is tf_keras.activations.hard_sigmoid:
            return "linear"  # `_rest` adds it
        name = getattr(function, "__name__", type(function).__name__)
        raise _no_twin(layer, f"Keras 3 has no activation {name!r} that computes the same")


def _key(slice_spec: Any) -> Any:
    """The key of `x[key]`; tf_keras records each slice in it as a dictionary."""
    if isinstance(slice_spec, (tuple, list)):
        return tuple(_key(part) for part in slice_spec)
    if isinstance(slice_spec, Mapping):
        return slice(slice_spec["start"], slice_spec["stop"], slice_spec["step"])
    return slice_spec


# TensorFlow functions that tf_keras records in a graph, by the name it gives them.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "math.add": lambda ops, x, y: ops.add(x, y),
    "math.subtract": lambda ops, x, y: ops.subtract(x, y),
    "math.multiply": lambda ops, x, y: ops.multiply(x, y),
    "math.divide": lambda ops, x, y: ops.divide(x, y),
    "math.truediv": lambda ops, x, y: ops.divide(x, y),
    "math.maximum": lambda ops, x, y: ops.maximum(x, y),
    "math.minimum": lambda ops, x, y: ops.minimum(x, y),
    "math.pow": lambda ops, x, y: ops.power(x, y),
    "math.negative": lambda ops, x: ops.negative(x),
    "linalg.matmul": lambda ops, a, b: ops.matmul(a, b),
    "nn.relu": lambda ops, features: ops.relu(features),
    "nn.relu6": lambda ops, features: ops.relu6(features),
    "nn.silu": lambda ops, features: ops.silu(features),
    "nn.gelu": lambda ops, features, approximate=False: ops.gelu(features, approximate),
    "nn.softmax": lambda ops, logits, axis=-1: ops.softmax(logits, axis),
    "math.sigmoid": lambda ops, x: ops.sigmoid(x),
    "math.tanh": lambda ops, x: ops.tanh(x),
    "math.abs": lambda ops, x: ops.abs(x),
    "math.square": lambda ops, x: ops.square(x),
    "math.sqrt": lambda ops, x: ops.sqrt(x),
    "math.rsqrt": lambda ops, x: ops.rsqrt(x),
    "math.exp": lambda ops, x: ops.exp(x),
    "math.log": lambda ops, x: ops.log(x),
    "math.reduce_mean": lambda ops, x, axis=None, keepdims=False: ops.mean(x, axis, keepdims),
    "math.reduce_sum": lambda ops, x, axis=None, keepdims=False: ops.sum(x, axis, keepdims),
    "math.reduce_max": lambda ops, x, axis=None, keepdims=False: ops.max(x, axis, keepdims),
    "math.reduce_min": lambda ops, x, axis=None, keepdims=False: ops.min(x, axis, keepdims),
    "reshape": lambda ops, tensor, shape: ops.reshape(tensor, tuple(int(n) for n in shape)),
    "concat": lambda ops, values, axis: ops.concatenate(list(values), axis),
    "stack": lambda ops, values, axis=0: ops.stack(list(values), axis),
    "expand_dims": lambda ops, x, axis: ops.expand_dims(x, axis),
    "squeeze": lambda ops, x, axis=None: ops.squeeze(x, axis),
    "transpose": lambda ops, a, perm=None: ops.transpose(a, perm),
    "pad": lambda ops, tensor, paddings, mode="CONSTANT", constant_values=0: ops.pad(
        tensor,
        paddings,
        mode.lower(),
        **({"constant_values": constant_values} if mode == "CONSTANT" else {}),
    ),
    "clip_by_value": lambda ops, t, clip_value_min, clip_value_max: ops.clip(
        t, clip_value_min, clip_value_max
    ),
    "cast": lambda ops, x, dtype: ops.cast(x, tf.as_dtype(dtype).name),
    "__operators__.getitem": lambda ops, tensor, slice_spec: tensor[_key(slice_spec)],
}
