"""Layers of tf_keras that are several operators of an int8 file, opened as those of Keras 3 are
(`ec2t_tf.quantisation.opened`); and the user's layers and Lambdas, as what they call.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda, TFOpLambda

from ec2t_tf.built_in import built_in_class_of, is_of_keras
from ec2t_tf.quantisation.kinds import is_elementwise
from ec2t_tf.quantisation.opened import OPENED as ALL
from ec2t_tf.quantisation.opened import EveryStep, Product
from ec2t_tf.quantisation.opening import Library, Opened
from ec2t_tf.quantisation.tensorflow_functions import in_keras_ops
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.einsum import einsum, is_product
from ec2t_tf.tfmot.sizes import as_numbers

_OPS = SimpleNamespace(
    einsum=einsum,
    reshape=tf.reshape,
    expand_dims=tf.expand_dims,
    flip=lambda x, axis: tf.reverse(x, [axis]),
    sum=lambda x, axis: tf.reduce_sum(x, axis=axis),
)
TF_KERAS = Library(tf_keras.layers, _OPS, graph.copy_layer)
# All but a Softmax, which is several with a mask, and is refused with one.
OPENED = {name: kind for name, kind in ALL.items() if name != "Softmax"}


class ModelAtEveryStep(EveryStep):
    """A TimeDistributed of a model, whose own layers are called: the rewriting copies them."""

    def make(self) -> None:
        self.inner = self.layer.layer

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        inner = layer.layer
        one = not graph.is_nested(inner) or len(inner.inputs) == len(inner.outputs) == 1
        return [] if one else ["a model of several inputs or outputs inside"]


# Which compute the same with and without a mask.
_WITHOUT_MASKS = (EveryStep, ModelAtEveryStep, Product)


def _kind_of(layer: Any) -> type[Opened] | None:
    if is_users(layer):
        return None
    name = built_in_class_of(layer).__name__
    if name == "TimeDistributed" and isinstance(layer.layer, tf_keras.Model):
        return ModelAtEveryStep
    return OPENED.get(name)  # None too for a Lambda


def may_open(layer: Any) -> bool:
    """Whether a layer is several operators, or may be."""
    if isinstance(layer, tf_keras.layers.Lambda):
        options = layer.arguments or {}
        return hands_on(layer) or not is_elementwise(lambda x: layer.function(x, **options))
    if isinstance(layer, TFOpLambda):
        is_einsum = layer.get_config()["function"].split(".")[-1] == "einsum"
        return is_einsum and any(is_product(node.call_args[0]) for node in layer._inbound_nodes)
    if is_users(layer):
        flags = ("elementwise", "moves_values_only")
        return not any(getattr(layer, flag, False) for flag in flags) and not _has_rule(layer)
    kind = built_in_class_of(layer)
    return kind.__module__.startswith("tf_keras.") and kind.__name__ in OPENED


def hands_on(layer: Any) -> bool:
    """Whether a Lambda does nothing, but has a name; saved, it would be code to be trusted."""
    x = object()
    try:
        return layer.function(x, **(layer.arguments or {})) is x
    except Exception:
        return False


def is_written_by_users(layer: Any) -> bool:
    """Whether a layer may be several operators because its call, or a part of it, is the user's."""
    if graph.is_nested(layer):
        return any(map(is_written_by_users, layer.layers))
    if is_made_otherwise(layer):
        return True
    return may_open(layer) and type(layer).__name__ not in OPENED


def is_made_otherwise(layer: Any) -> bool:
    """Whether the user's class has nothing of its own but how it is made."""
    return built_in_class_of(layer) is not type(layer) and not _has_rule(layer)


def is_users(layer: Any) -> bool:
    is_ours = type(layer).__module__.split(".")[0] in ("tf_keras", "ec2t_tf")
    return not is_ours and not is_made_otherwise(layer)


def _has_rule(layer: Any) -> bool:
    from ec2t_tf.export.lower.pending import RULES  # which reads graphs by the native room

    return f"{type(layer).__module__}.{type(layer).__name__}" in RULES


class Opener:
    """What layers are made of, as models; a layer that is called twice has its parts twice.

    Attributes:
      closed: by the id of a layer of the user's, why it is not what its call is written in.
    """

    def __init__(self) -> None:
        self.closed: dict[int, str] = {}
        self._opened: dict[int, Opened] = {}
        self._before: list[tuple[Any, int, int]] = []

    def inside(self, node: Any) -> tuple[tf_keras.Model, list[Any]] | None:
        """The model that computes a call of a layer, and the tensors that it is given; None where
        the layer stays as it is."""
        layer, sources = node.layer, {id(x): x for x in node.keras_inputs}
        if not may_open(layer):
            return None
        is_einsum = isinstance(layer, TFOpLambda)
        if is_einsum and not is_product(node.call_args[0]):
            return None
        kind = _kind_of(layer)
        arguments, options = graph.called_with(node)
        options = {k: v for k, v in options.items() if k != "training" and v is not None}
        if kind is not None and not kind.wanted(layer, arguments, options):
            return None
        if kind is not None and kind.missing(layer, arguments, options):
            return None
        masked = any(getattr(x, "_keras_mask", None) is not None for x in sources.values())
        if masked and kind not in _WITHOUT_MASKS:
            return None
        inputs = {
            key: tf_keras.Input(batch_shape=x.shape, dtype=x.dtype) for key, x in sources.items()
        }
        arguments, options = tf.nest.map_structure(
            lambda x: inputs.get(id(x), x), (arguments, options)
        )
        sides = list(inputs.values())
        self._before += [
            (one, len(one._inbound_nodes), len(one._outbound_nodes))
            for one in layer._flatten_layers(include_self=False)
        ]
        if is_einsum:
            model = tf_keras.Model(sides, einsum(*arguments))
        elif kind is None:
            model = self._composed(layer, sides, arguments, options)
        else:
            model = tf_keras.Model(sides, self._made(kind, layer, arguments, options))
        return None if model is None else (model, list(sources.values()))

    def _made(self, kind: type[Opened], layer: Any, arguments: Any, options: Any) -> Any:
        known = self._opened.get(id(layer))
        opened = known or kind(layer, layer.name, graph.Names().unique, TF_KERAS)
        outputs = opened(*arguments, **options)
        if known is None:
            opened.take_weights(layer.get_weights())
            self._opened[id(layer)] = opened
        return outputs

    def _composed(
        self, layer: Any, inputs: list[Any], arguments: Any, options: Any
    ) -> tf_keras.Model | None:
        """What the `call` of a user's layer makes of symbolic values; None if that is not all."""
        if not layer.built:
            return None
        if not is_of_keras(type(layer).__call__):
            self.closed[id(layer)] = "with a __call__ of its own"
            return None
        models = []
        for training in (True, None) if layer._expects_training_arg else (None,):
            if layer._expects_training_arg:
                options = {**options, "training": training}
            try:
                models.append(tf_keras.Model(inputs, _called(layer, arguments, options)))
            except Exception as error:  # it may do anything
                says = type(error).__name__
                self.closed[id(layer)] = f"whose call raises a {says} on symbolic values"
                return None
        why = _why_closed(models, layer)
        if why:
            self.closed[id(layer)] = why
        return None if why else models[-1]

    def forget(self) -> None:
        """Leaves the user's layers as they were: without the calls made here."""
        for layer, entering, leaving in self._before:
            del layer._inbound_nodes[entering:], layer._outbound_nodes[leaving:]


def _called(layer: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """With sizes as numbers where it can be called with them."""
    try:
        with as_numbers():
            return layer.call(*arguments, **options)
    except Exception:  # it may do anything
        return layer.call(*arguments, **options)


def _steps(model: tf_keras.Model) -> list[Any]:
    """What a model calls; layers without weights may be made anew at each call."""
    called = [node.layer for node in graph.nodes(model)]
    return [id(x) if x.weights else getattr(x, "symbol", type(x).__name__) for x in called]


def _why_closed(models: list[tf_keras.Model], layer: Any) -> str:
    """What keeps models from being all of a layer: its weights have to be those of layers that they
    call, and the functions between need rules; "" if nothing does."""
    # A weight's regulariser is a partial function, of what comes to its own words below.
    losses = [x for x in layer._callable_losses if not isinstance(x, functools.partial)]
    if layer._losses or losses or layer._metrics:
        return "which adds losses or metrics of its own"
    if len({str(_steps(model)) for model in models}) > 1:
        return "whose call computes otherwise in training"
    called = [node.layer for node in graph.nodes(models[-1])]
    functions = [x for x in called if isinstance(x, TFOpLambda | SlicingOpLambda)]
    names = sorted({str(x.get_config()["function"]) for x in functions})
    unknown = [f"tf.{x.replace('compat.v1.', '')}" for x in names if not in_keras_ops(x)]
    held = {id(v) for one in called for v in one.weights}
    own = [v.name.split("/")[-1].split(":")[0] for v in layer.weights if id(v) not in held]
    if own:
        return (
            f"whose weights {', '.join(own)} are its own: put them into layers that it calls "
            "(Dense, Embedding, DepthwiseConv1D), or build the model in Keras 3, where they may be"
        )
    return f"with {', '.join(unknown)} inside" if unknown else ""
