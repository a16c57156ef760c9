"""An equal model in which each layer is one operator of an int8 file.

| in the model                                  | instead                                   |
|-----------------------------------------------|-------------------------------------------|
| a model inside the model                      | its layers                                |
| an activation inside a layer that none fuses  | a layer of its own, `<name>_<activation>` |
| SeparableConv1D, SeparableConv2D              | `<name>_depthwise`, then `<name>`         |
| MultiHeadAttention, Bidirectional, ...        | see `opened`                              |
| a quotient of two values, a variance          | operations that have rules (compositions) |
| a class of the user's that is only made       | its class of Keras                        |
| otherwise than one of Keras                   |                                           |
| an activity regulariser of one of these       | an Activation("linear") that has it       |
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras
from keras.src.models.functional import Functional

from ec2t_tf.built_in import as_built_in, is_of_keras
from ec2t_tf.layer_config import config_of, give_weights
from ec2t_tf.quantisation import masks
from ec2t_tf.quantisation.compositions import composed
from ec2t_tf.quantisation.graph import Call, Graph, read
from ec2t_tf.quantisation.kinds import (
    FUSED,
    JOINS,
    KERNELS,
    RECURRENT,
    SEPARABLE,
    activation_name,
    class_name,
    ignores_training,
    kind_of,
)
from ec2t_tf.quantisation.opened import closed_by, opened_as
from ec2t_tf.quantisation.opening import Opened
from ec2t_tf.quantisation.unchanged import differs, require_unchanged
from ec2t_tf.quantisation.values import CellState, InTraining
from ec2t_tf.treatments import UnsupportedLayerError


def split(model: keras.Model) -> tuple[keras.Model, dict[str, keras.layers.Layer]]:
    """A functional copy of a built model, weights included, and its layers' origins.

    The origin of a layer, by its name, is the layer of `model` that it computes (a part of).
    """
    splitting = _Splitting(read(model))
    copy = splitting.run()
    origin = splitting.origin
    if splitting.has_opened:  # layers with insides of their own came out
        copy, parts = split(copy)
        origin = {name: origin.get(layer.name, layer) for name, layer in parts.items()}
    return copy, origin


class _Splitting:
    def __init__(self, graph: Graph) -> None:
        self._graph, self._masked = graph, masks.in_graph(graph)
        self._parts: dict[str, list[Any]] = {}
        self._made: list[Any] = []  # by each call
        self._names = {call.name for call in graph.calls} | set(graph.input_names)
        self.origin: dict[str, keras.layers.Layer] = {}
        self.has_opened = False

    def run(self) -> keras.Model:
        inputs = inputs_like(self._graph)
        outputs = self._graph.run(inputs, self._compute)
        copy = keras.Model(inputs, outputs, name=self._graph.name)
        done: set[int] = set()
        for call in self._graph.calls:
            if call.name in self._parts and call.is_layer and id(call.operation) not in done:
                done.add(id(call.operation))
                self._copy_weights(call)
        require_unchanged(self._graph, inputs, self._made)
        return copy

    def _compute(self, call: Call, args: tuple, kwargs: dict) -> Any:
        if call.number in self._masked:
            outputs = self._masked[call.number](*args, **kwargs)
            self._made.append(outputs)
            return outputs
        if call.name not in self._parts:
            try:
                self._parts[call.name] = self._make(call)
            except TypeError as error:  # a config with what was set on the layer later
                if not (call.is_layer and is_of_keras(type(call.operation))):
                    raise
                raise differs(call) from error
        first, *rest = self._parts[call.name]
        if ignores_training(_built_in(call.operation)):
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        if call.frozen and kind_of(_built_in(call.operation)) == "BatchNormalization":
            kwargs = {**kwargs, "training": False}
        try:
            outputs = first(*args, **kwargs)
        except (TypeError, ValueError) as error:
            if isinstance(first, Opened) or not call.is_layer:
                raise
            raise differs(call) from error
        if isinstance(first, Opened):
            self.origin.update({part.name: call.operation for part in first.parts})
        for part in rest:
            outputs = part(outputs)
        self._made.append(outputs)
        return outputs

    def _make(self, call: Call) -> list[Any]:
        origin, layer = call.operation, _built_in(call.operation)
        call = dataclasses.replace(call, operation=layer)
        if not call.is_layer:
            if (others := composed(call, call.name)) is not None:
                return [others]
            made = _sized(copy_operation(layer), call)
            return [_reshaped(made) if kind_of(made) == "Reshape" else made]
        if kind_of(layer) in JOINS and len(call.inputs) == 1:  # which is that value
            same = keras.layers.Identity(name=call.name)
            self.origin[same.name] = origin
            return [_OfOne(same), *self._regularised(call)]
        opened = opened_as(layer, call.args, call.kwargs)
        if opened is not None:
            self.has_opened = True
            try:
                made = opened(layer, call.name, self._unique)
            except UnsupportedLayerError:
                raise
            except (TypeError, ValueError) as error:  # of what it has inside
                raise UnsupportedLayerError(
                    "apply requires layers whose parts can be made again. Received: "
                    f"'{call.name}' ({type(layer).__name__}), of which {error}"
                ) from error
            return [made, *self._regularised(call)]
        kind, activation = kind_of(layer), activation_name(layer)
        if kind in SEPARABLE:
            parts = self._separable(call)
        elif kind not in KERNELS or activation in FUSED:
            parts = [_copy(call)]
        else:
            parts = [copy_layer(layer, call.name, activation=None, activity_regularizer=None)]
        if kind in (*KERNELS, *SEPARABLE) and activation not in FUSED:
            parts.append(self._activation(call, activation))
        if len(parts) > 1 or kind in RECURRENT:
            parts += self._regularised(call)
        self.origin.update({part.name: origin for part in parts})
        return parts

    def _regularised(self, call: Call) -> list[keras.layers.Layer]:
        """What has the activity regulariser of a layer that is several now."""
        regulariser = call.operation.activity_regularizer
        if regulariser is None:
            return []
        name = self._unique(f"{call.name}_regularised")
        return [keras.layers.Activation("linear", name=name, activity_regularizer=regulariser)]

    def _activation(self, call: Call, activation: str) -> keras.layers.Layer:
        name = self._unique(f"{call.name}_{activation or 'activation'}")
        if isinstance(call.operation.activation, keras.layers.Layer):
            return copy_layer(call.operation.activation, name)
        return keras.layers.Activation(
            call.operation.activation, name=name, dtype=call.operation.dtype_policy
        )

    def _unique(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _separable(self, call: Call) -> list[Any]:
        layer: Any = call.operation
        one = kind_of(layer) == "SeparableConv1D"
        config = config_of(layer, keras.activations.linear)
        shared = {"dtype": layer.dtype_policy, "data_format": layer.data_format}
        depthwise = (keras.layers.DepthwiseConv1D if one else keras.layers.DepthwiseConv2D)(
            layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            depthwise_regularizer=config["depthwise_regularizer"],
            depthwise_constraint=config["depthwise_constraint"],
            trainable=layer.trainable,
            name=self._unique(f"{call.name}_depthwise"),
            **shared,
        )
        activation = activation_name(layer)
        pointwise = (keras.layers.Conv1D if one else keras.layers.Conv2D)(
            layer.filters,
            1,
            use_bias=layer.use_bias,
            activation=activation if activation in FUSED else None,
            kernel_regularizer=config["pointwise_regularizer"],
            bias_regularizer=config["bias_regularizer"],
            kernel_constraint=config["pointwise_constraint"],
            bias_constraint=config["bias_constraint"],
            trainable=layer.trainable,
            name=call.name,
            **shared,
        )
        return [depthwise, pointwise]

    def _copy_weights(self, call: Call) -> None:
        try:
            self._take_weights(call)
        except ValueError as error:  # other weights than its config says
            raise differs(call) from error

    def _take_weights(self, call: Call) -> None:
        first = self._parts[call.name][0]
        if isinstance(first, Opened):
            first.take_weights(call.operation.get_weights())
            return
        parts = [part for part in self._parts[call.name] if part.weights]
        weights = call.operation.get_weights()
        if not weights:
            return
        if len(parts) == 2:
            parts[0].set_weights(weights[:1])
            weights = weights[1:]
        give_weights(parts[-1], weights)


def _copy(call: Call) -> keras.layers.Layer:
    """A copy of a layer that stays one."""
    try:
        return copy_layer(call.operation, call.name)
    except TypeError as error:
        why = closed_by(call.operation, call.args, call.kwargs)
        if not why:
            raise
        cause = error.__cause__ or error
        says = (str(cause).splitlines() or ["nothing"])[-1]
        says = "its class has none" if isinstance(cause, NotImplementedError) else says
        raise UnsupportedLayerError(
            "apply requires layers of operations that have rules, or float ones that their config "
            f"makes again. Received: '{call.name}' ({type(call.operation).__name__}) with "
            f"{' and '.join(why)}, and a config that does not: {says}. Write it in other "
            "operations, or write its get_config, whose keys its __init__ takes."
        ) from error


def _built_in(operation: Any) -> Any:
    """Of a layer whose class has no rule of the user's."""
    from ec2t_tf.export.lower.pending import RULES  # which reads graphs by this room

    has_own_rule = not is_of_keras(type(operation)) and class_name(operation) in RULES
    return operation if has_own_rule else as_built_in(operation)


def inputs_like(graph: Graph) -> Any:
    """New inputs of a model with the structure of the graph's."""
    values = keras.tree.flatten(graph.inputs)
    inputs = [
        keras.Input(batch_shape=value.shape, dtype=value.dtype, name=name)
        for value, name in zip(values, graph.input_names, strict=True)
    ]
    return keras.tree.pack_sequence_as(graph.inputs, inputs)


_INSIDE: dict[type, str] = {
    keras.layers.TimeDistributed: "layer",
    keras.layers.RNN: "cell",
    InTraining: "layer",
    CellState: "layer",
}


def copy_layer(layer: keras.layers.Layer, name: str, **changes: Any) -> keras.layers.Layer:
    """A new layer with the same settings but for `changes`; it has no weights yet.

    Raises:
      TypeError: the class cannot be made from its own config.
    """
    layer = _built_in(layer)
    if type(layer) is keras.layers.Identity:  # whose config is only how it was made
        return keras.layers.Identity(name=name)
    if type(layer) in (keras.Model, Functional, keras.Sequential) and layer.built:
        # From its config it would need the classes of the user's registered.
        copy = keras.models.clone_model(layer, clone_function=lambda x: copy_layer(x, x.name))
        copy.name = name
        return copy
    inside = _INSIDE.get(type(layer), "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a lambda, which no file sees here
        try:
            config = config_of(layer, keras.activations.linear, without=inside)
        except Exception as error:
            raise _not_rebuildable(layer, error) from error
        config |= {"name": name, **changes}
    if type(layer) is keras.layers.Lambda:
        names = ("name", "dtype", "trainable")
        shared = {key: config[key] for key in names if key in config}
        shared["arguments"] = layer.arguments
        return keras.layers.Lambda(layer.function, output_shape=layer._output_shape, **shared)
    if inside:  # whose config holds that of another layer
        inner = getattr(layer, inside)
        config |= {inside: copy_layer(inner, inner.name), "dtype": layer.dtype_policy}
        return type(layer)(**config)
    try:
        return type(layer).from_config(config)
    except Exception as error:
        raise _not_rebuildable(layer, error) from error


def _not_rebuildable(layer: Any, error: Exception) -> TypeError:
    kind = type(layer).__name__
    return TypeError(
        f"Layers must be rebuildable from their config. Received: '{layer.name}', a {kind}, for "
        f"which {kind}.from_config(get_config()) says: {error}. Write its get_config."
    )


def _sized(operation: keras.Operation, call: Call) -> keras.Operation:
    """A reshape by the sizes of its result where it has None for the open batch, as a layer of the
    user's gives one that reads the sizes of its input."""
    if kind_of(operation) == "Reshape" and None in getattr(operation, "newshape", ()):
        (made,) = call.results
        return type(operation)((-1, *made.shape[1:]), name=operation.name)
    return operation


class _OfOne:
    """A layer for the value of a list of one."""

    weights: tuple[()] = ()

    def __init__(self, layer: keras.layers.Layer) -> None:
        self._layer = layer

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._layer(keras.tree.flatten((args, options))[0])


def _reshaped(operation: Any) -> Any:
    """A reshape; nothing where it is to the shape that is there."""

    def compute(x: Any, *args: Any, **options: Any) -> Any:
        shape = tuple(getattr(operation, "newshape", ()))
        is_there = x.shape[0] is None and None not in x.shape[1:] and shape == (-1, *x.shape[1:])
        return x if is_there else operation(x, *args, **options)

    return compute


def copy_operation(operation: keras.Operation) -> keras.Operation:
    """An operation of keras.ops for another graph; itself where it has no config."""
    try:
        return type(operation).from_config(operation.get_config())
    except Exception:
        return operation
