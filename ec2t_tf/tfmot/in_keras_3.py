"""A tf_keras model rebuilt in Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.twins import (
    _RENAMED,
    _SHARED_ACTIVATIONS,
    CustomLayers,
    _copy_weights,
    _custom_twin,
    _fitting_config,
    _from_config,
    _is_symbolic,
    _no_twin,
    _policy_name,
)


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
