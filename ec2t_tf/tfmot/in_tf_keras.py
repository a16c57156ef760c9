"""A Keras 3 model rebuilt in tf_keras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.graph import Names
from ec2t_tf.tfmot.in_keras_3 import (
    _RENAMED,
    _SHARED_ACTIVATIONS,
    TOLERANCE,
    CustomLayers,
    _copy_weights,
    _custom_twin,
    _from_config,
    _no_twin,
    _policy_name,
    _require_equal,
    fitting_config,
    random_input,
)
from ec2t_tf.tfmot.operators import _activation_to_tf_keras, _operator_to_tf_keras


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
    _require_equal(model, twin, random_input(model.inputs, structure), tolerance)
    return twin


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
        names = Names({layer.name for layer in model.layers})
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
        config = fitting_config(layer, layer.get_config(), twin_class, _RENAMED.get(name, {}))
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
