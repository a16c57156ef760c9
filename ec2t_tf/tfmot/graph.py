"""Reading and rebuilding the graph of a tf_keras model, layer call by layer call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.engine.base_layer import AddLoss, AddMetric
from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda, TFOpLambda

from ec2t_tf.built_in import as_built_in
from ec2t_tf.layer_config import config_of, give_weights

# What a layer is called with in the new graph -> what it gives there.
Call = Callable[[layers.Layer, Any, dict[str, Any]], Any]


class Names:
    """Names that are unique in one model."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = set(taken)

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def is_nested(layer: Any) -> bool:
    """Whether a layer is a model of layers that it knows; a subclassed one has only a `call`."""
    is_model = isinstance(layer, tf_keras.Model)
    return is_model and (isinstance(layer, tf_keras.Sequential) or layer._is_graph_network)


def called_with(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer is called with, `training` and what stands behind it by their names."""
    places, named = tuple(node.call_args), dict(node.call_kwargs)
    if len(places) < 2 or isinstance(node.layer, TFOpLambda | SlicingOpLambda):
        return places, named
    names = list(inspect.signature(node.layer.call).parameters)[: len(places)]
    if len(names) < len(places) or "training" not in names[1:]:
        return places, named
    first = names.index("training")
    return places[:first], dict(zip(names[first:], places[first:], strict=True)) | named


def nodes(model: tf_keras.Model) -> Iterator[Any]:
    """The calls of a model's layers in the order they run, inputs left out."""
    needed = _needed(model)
    return (node for node in _all_nodes(model) if id(node) in needed)


def nodes_aside(model: tf_keras.Model) -> list[Any]:
    """Those that no output needs: of `model.add_loss` and `model.add_metric`."""
    needed = _needed(model)
    return [node for node in _all_nodes(model) if id(node) not in needed]


def _all_nodes(model: tf_keras.Model) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _needed(model: tf_keras.Model) -> set[int]:
    """Ids of the nodes that the outputs come from."""
    histories = [tensor._keras_history for tensor in model.outputs]
    left = [one.layer._inbound_nodes[one.node_index] for one in histories]
    found: set[int] = set()
    while left:
        node = left.pop()
        if id(node) not in found:
            found.add(id(node))
            left += node.parent_nodes
    return found


def keep_aside(
    model: tf_keras.Model,
    new_model: tf_keras.Model,
    there: Callable[[Any], Any],
    named: Callable[[str], str] = str,
) -> None:
    """The losses and metrics that were added to a model, added to its copy.

    Args:
      there: a tensor of the model in the graph of the copy.
      named: a layer's name there.
    """
    made: dict[int, Any] = {}

    def moved(value: Any) -> Any:
        return made[id(value)] if id(value) in made else there(value)

    for node in nodes_aside(model):
        layer = node.layer
        arguments = tf.nest.map_structure(moved, node.call_args)
        if isinstance(layer, AddLoss):
            new_model.add_loss(arguments[0])
        elif isinstance(layer, AddMetric):
            new_model.add_metric(
                arguments[0], name=layer.metric_name, aggregation=layer.aggregation
            )
        else:
            copy = copy_layer(layer, named(layer.name))
            results = copy(*arguments, **tf.nest.map_structure(moved, node.call_kwargs))
            give_weights(copy, layer.get_weights())
            for old, new in zip(
                tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True
            ):
                made[id(old)] = new


def consumers(model: tf_keras.Model) -> dict[int, list[layers.Layer | None]]:
    """Who uses each tensor (by its id), one entry a use; None stands for the model's output."""
    found: dict[int, list[layers.Layer | None]] = {}
    for tensor in model.outputs:
        found.setdefault(id(tensor), []).append(None)
    for node in nodes(model):
        for tensor in node.keras_inputs:
            found.setdefault(id(tensor), []).append(node.layer)
    return found


def any_batch(shape: Any) -> tuple[int | None, ...]:
    """The batch open, but of single examples: a Sequential that was not started with an Input has
    the batch that it was first given."""
    first, *rest = shape
    return (first if first == 1 else None, *rest)


def rebuild(model: tf_keras.Model, call: Call) -> tf_keras.Model:
    """A functional model with the same inputs, outputs and calls.

    Args:
      model: built Sequential or functional model.
      call: gives the outputs of a call from its layer, its arguments and its options, tensors
        replaced by those of the new graph.
    """
    made: dict[int, Any] = {}
    inputs = []
    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        shape = any_batch(tensor.shape)
        inputs.append(tf_keras.Input(batch_shape=shape, dtype=tensor.dtype, name=name))
        made[id(tensor)] = inputs[-1]

    def there(value: Any) -> Any:
        return made.get(id(value), value)

    for node in nodes(model):
        arguments, options = tf.nest.map_structure(there, called_with(node))
        results = tf.nest.flatten(call(node.layer, arguments, options))
        for old, new in zip(tf.nest.flatten(node.outputs), results, strict=True):
            made[id(old)] = new
    packed_inputs = tf.nest.pack_sequence_as(model._nested_inputs, inputs)
    outputs = tf.nest.map_structure(there, model._nested_outputs)
    rebuilt = tf_keras.Model(packed_inputs, outputs, name=model.name)
    keep_aside(model, rebuilt, there)
    return rebuilt


def rebuild_chain(
    model: tf_keras.Sequential, parts: list[layers.Layer], **options: Any
) -> tf_keras.Sequential:
    """A Sequential model with the same input and these layers."""
    (source,), (name,) = model.inputs, model.input_names
    first = layers.InputLayer(batch_input_shape=source.shape, dtype=source.dtype, name=name)
    return tf_keras.Sequential([first, *parts], name=model.name, **options)


INSIDE: dict[type, str] = {layers.TimeDistributed: "layer", layers.RNN: "cell"}


def copy_layer(layer: layers.Layer, name: str, *, kind: Any = None, **changes: Any) -> layers.Layer:
    """A new layer with the same settings but for `changes`; it has no weights yet.

    Of the same class (Keras' own, where it computes the same: see `built_in`), or of another `kind`
    that takes the same config.
    """
    if isinstance(layer, layers.Lambda):  # whose config has the function's bytes, without its names
        return _copy_lambda(layer, name)
    if isinstance(layer, TFOpLambda | SlicingOpLambda):
        config = layer.get_config()  # from which it makes its function
    else:
        layer = as_built_in(layer)
        inside = INSIDE.get(type(layer), "")
        config = config_of(layer, tf_keras.activations.linear, without=inside)
    config.update(changes)
    if getattr(layer, "synchronized", False):
        config["synchronized"] = True  # which BatchNormalization leaves out of its config
    if "name" in config:
        config["name"] = name
    if type(layer) in INSIDE:  # whose config holds that of another layer
        inner = getattr(layer, INSIDE[type(layer)])
        config[INSIDE[type(layer)]] = copy_layer(inner, inner.name)
        copy = type(layer)(**config)
    else:
        copy = (kind or type(layer)).from_config(config)
    copy._name = name  # not every layer has its name in its config, or its activity regulariser
    if "activity_regularizer" not in changes:
        copy._activity_regularizer = layer._activity_regularizer
    return copy


def _copy_lambda(layer: layers.Lambda, name: str) -> layers.Lambda:
    copy = type(layer)(
        layer.function,
        layer._output_shape,
        layer.mask,
        layer.arguments,
        name=name,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
    )
    copy._activity_regularizer = layer._activity_regularizer
    return copy
