"""An equal tf_keras model in which each layer is one operator of an int8 file.

| in the model                                  | instead                                   |
|-----------------------------------------------|-------------------------------------------|
| a model inside the model                      | its layers                                |
| an activation inside a layer that none fuses  | a layer of its own, `<name>_<activation>` |
| SeparableConv1D, SeparableConv2D              | `<name>_depthwise`, `<name>_pointwise`    |
| MultiHeadAttention, Bidirectional, ...        | see `ec2t_tf.quantisation.opened`         |
| a layer of the user's that calls layers       | those layers                              |
| a Lambda of several values                    | the functions that it calls               |
| a class of the user's that is only made       | its class of tf_keras                     |
| otherwise than one of tf_keras                |                                           |
| a layer without weights that is called again  | another such layer                        |
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda

from ec2t_tf.built_in import built_in_class_of
from ec2t_tf.layer_config import config_of, give_weights
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.as_layers import as_layer
from ec2t_tf.tfmot.graph import copy_layer
from ec2t_tf.tfmot.opened import Opener, is_made_otherwise, is_users, may_open
from ec2t_tf.tfmot.quantize_config import TERNARY_KERNELS
from ec2t_tf.tfmot.unchanged import require_unchanged
from ec2t_tf.treatments import UnsupportedLayerError

# What an operator with a kernel computes on the way out; tfmot's wrapper knows them by name.
FUSED = (None, tf_keras.activations.linear, tf_keras.activations.relu, tf.nn.relu)


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """An equivalent model and where its layers come from.

    Attributes:
      model: the new model, or the given one where nothing had to change.
      origin: new layer name -> the layer of the given model that it computes (a part of).
      notes: one sentence for each layer that was replaced.
      closed: new name of a layer of the user's -> why it is not what its call is written in.
    """

    model: tf_keras.Model
    origin: dict[str, layers.Layer]
    notes: tuple[str, ...]
    closed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def rewrite(model: tf_keras.Model) -> Rewritten:
    """Replaces what is more than one operator by equivalent layers.

    Args:
      model: built tf_keras `Sequential` or functional model; it is not changed.

    Returns:
      The new model with its weights. Layer names are kept; what a layer is split into is called
      after it.

    Raises:
      UnsupportedLayerError, ValueError: see `require_unchanged`.
    """
    if not any(map(_is_more_than_one, model.layers)) and not _has_other_calls(model):
        return Rewritten(model, {layer.name: layer for layer in model.layers}, ())
    rewriting = _Rewriting(model)
    new_model = rewriting.run()
    require_unchanged(model, new_model)
    return Rewritten(new_model, rewriting.origin, tuple(rewriting.notes), rewriting.closed)


# Which of one value are that value.
_JOINS = (
    *(layers.Concatenate, layers.Add, layers.Multiply),
    *(layers.Average, layers.Maximum, layers.Minimum),
)


def _has_other_calls(model: tf_keras.Model) -> bool:
    """Whether a layer that has a range for each call is called again."""
    called = [id(node.layer) for node in graph.nodes(model) if _is_of_each_call(node.layer)]
    return len(set(called)) < len(called)


def _is_of_each_call(layer: layers.Layer) -> bool:
    """Whether each call is a layer of its own, with the range of its own values."""
    return not layer.weights and not hasattr(layer, "_random_generator")


def _is_more_than_one(layer: layers.Layer) -> bool:
    is_separable = isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D)
    is_made_of_some = graph.is_nested(layer) or may_open(layer)
    is_made_of_some = is_made_of_some or _has_ellipsis(layer) or is_made_otherwise(layer)
    of_one = any(_is_of_one(node) for node in layer._inbound_nodes)
    is_other = any(
        as_layer(node) is not None or _is_quotient(node) for node in layer._inbound_nodes
    )
    return is_made_of_some or is_separable or of_one or is_other or _has_own_activation(layer)


def _is_quotient(node: Any) -> bool:
    """Whether a call is a division by a value."""
    if getattr(node.layer, "symbol", "").split(".")[-1] not in ("truediv", "divide"):
        return False
    return hasattr(_operands(node).get("y"), "_keras_history")


def _operands(node: Any) -> dict[str, Any]:
    """What a function of x and y is called with, by names."""
    return dict(zip(("x", "y"), node.call_args, strict=False)) | node.call_kwargs


def _is_of_one(node: Any) -> bool:
    """Whether a layer that joins values is called on a list of one: tf_keras saves no such list,
    and cannot load what it saved."""
    values = node.call_args[0] if node.call_args else None
    return isinstance(node.layer, _JOINS) and isinstance(values, list | tuple) and len(values) == 1


def _has_own_activation(layer: layers.Layer) -> bool:
    kind = built_in_class_of(layer)
    return kind in TERNARY_KERNELS and getattr(layer, "activation", None) not in FUSED


class _Rewriting:
    """One walk over the graph of a model, and of the models inside it."""

    def __init__(self, model: tf_keras.Model) -> None:
        self._source = model
        self.notes: list[str] = []
        self.origin: dict[str, layers.Layer] = {}
        self.closed: dict[str, str] = {}
        self._names = graph.Names()
        self._made: dict[int, Any] = {}
        self._parts: dict[int, list[layers.Layer]] = {}
        self._weights: list[tuple[layers.Layer, list[np.ndarray]]] = []
        self._walked: list[tf_keras.Model] = []
        self._training: bool | None = None  # what a call of a model inside says
        self._opener = Opener()
        self._owner: layers.Layer | None = None  # the layer that is being opened
        self._prefix = ""  # of the names of what a user's layer calls

    def run(self) -> tf_keras.Model:
        inputs = []
        for tensor, name in zip(self._source.inputs, self._source.input_names, strict=True):
            new = tf_keras.Input(
                batch_shape=graph.any_batch(tensor.shape),
                dtype=tensor.dtype,
                name=self._names.unique(name),
            )
            self._made[id(tensor)] = new
            inputs.append(new)
        self._walk(self._source)
        packed_inputs = tf.nest.pack_sequence_as(self._source._nested_inputs, inputs)
        outputs = tf.nest.map_structure(self._there, self._source._nested_outputs)
        model = tf_keras.Model(packed_inputs, outputs, name=self._source.name)
        for layer, weights in self._weights:
            give_weights(layer, weights)
        for walked in self._walked:
            graph.keep_aside(walked, model, self._there, self._names.unique)
        self._opener.forget()
        return model

    def _there(self, value: Any) -> Any:
        return self._made.get(id(value), value)

    def _walk(self, model: tf_keras.Model) -> None:
        self._walked.append(model)
        for node in graph.nodes(model):
            is_model = graph.is_nested(node.layer)
            results = self._inlined(node) if is_model else self._opened(node)
            if results is None:
                results = self._of_one(node) if _is_of_one(node) else None
                results = (
                    results or self._as_layer(node) or self._quotient(node) or self._called(node)
                )
            for tensor, result in zip(tf.nest.flatten(node.outputs), results, strict=True):
                self._made[id(tensor)] = result

    def _inlined(self, node: Any) -> list[Any]:
        """What the layers of a nested model give."""
        self._note(node.layer, "a model in the model, its layers took its place")
        return self._in_place(node, node.layer, node.keras_inputs)

    def _in_place(self, node: Any, inner: tf_keras.Model, sources: list[Any]) -> list[Any]:
        for tensor, given in zip(inner.inputs, sources, strict=True):
            self._made[id(tensor)] = self._there(given)
        before, self._training = self._training, self._mode(node)
        self._walk(inner)
        self._training = before
        return [self._there(output) for output in inner.outputs]

    def _opened(self, node: Any) -> list[Any] | None:
        """What the layers give that a layer is made of; None where it stays one."""
        layer = node.layer
        with _policy_of(layer):
            found = self._opener.inside(node)
        if found is None:
            return None
        self._note(layer, "the layers that it is made of took its place")
        before = self._owner, self._prefix
        self._owner = self._owner or layer
        if is_users(layer) or isinstance(layer, layers.Lambda):
            self._prefix += f"{layer.name}_"
        results = self._in_place(node, *found)
        self._owner, self._prefix = before
        for part in self._regularised(layer):
            results = [part(one) for one in results]
        return results

    def _of_one(self, node: Any) -> list[Any]:
        self._note(node.layer, "of one value, it does nothing")
        same = layers.Activation("linear", name=self._names.unique(self._prefix + node.layer.name))
        self.origin[same.name] = self._owner or node.layer
        return [same(self._there(node.call_args[0][0]))]

    def _as_layer(self, node: Any) -> list[Any] | None:
        found = as_layer(node)
        if found is None:
            return None
        self._note(node.layer, f"a {found.kind.__name__}")
        layer = found.kind(**found.options, name=self._names.unique(self._prefix + node.layer.name))
        self.origin[layer.name] = self._owner or node.layer
        return [layer(self._there(found.value))]

    def _quotient(self, node: Any) -> list[Any] | None:
        if not _is_quotient(node):
            return None
        self._note(node.layer, "a product with a reciprocal")
        given = _operands(node)
        x, y = (self._there(given[name]) for name in ("x", "y"))
        return [x * tf.math.reciprocal(y)]

    def _regularised(self, layer: layers.Layer) -> list[layers.Layer]:
        """What has the activity regulariser of a layer that is several now."""
        regulariser = layer.activity_regularizer
        if regulariser is None:
            return []
        name = self._names.unique(f"{layer.name}_regularised")
        return [layers.Activation("linear", name=name, activity_regularizer=regulariser)]

    def _called(self, node: Any) -> list[Any]:
        layer = node.layer
        if id(layer) not in self._parts or _is_of_each_call(layer):
            with _policy_of(layer):
                self._parts[id(layer)] = self._made_of(layer)
            origin = self._owner or layer
            self.origin.update({part.name: origin for part in self._parts[id(layer)]})
        first, *rest = self._parts[id(layer)]
        arguments, options = tf.nest.map_structure(self._there, graph.called_with(node))
        if isinstance(layer, SlicingOpLambda):
            arguments = _without_ellipsis(*arguments)
        if self._mode(node) is not None and first._expects_training_arg:
            options["training"] = self._mode(node)  # False freezes statistics
        result = first(*arguments, **options)
        for part in rest:
            result = part(result)
        return tf.nest.flatten(result)

    def _mode(self, node: Any) -> bool | None:
        """`training` as this call, or the call of the model that it is in, gives it."""
        training = graph.called_with(node)[1].get("training")
        return self._training if training is None else training

    def _made_of(self, layer: Any) -> list[layers.Layer]:
        """The layers that compute it, one after the other."""
        if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
            parts = self._separable(layer)
        else:
            changes: dict[str, Any] = {}
            if _has_own_activation(layer):
                changes = {"activation": "linear", "activity_regularizer": None}
            name = self._names.unique(self._prefix + layer.name)
            why = self._opener.closed.get(id(layer), "")
            self.closed |= {name: why} if why else {}
            parts = [_copy(layer, name, changes, why)]
            self._weights.append((parts[0], layer.get_weights()))
            if not changes:
                return parts
        if getattr(layer, "activation", None) not in FUSED:
            parts.append(self._activation(layer))
        return parts + self._regularised(layer)

    def _activation(self, layer: Any) -> layers.Layer:
        function = layer.activation
        name = getattr(function, "__name__", type(function).__name__)
        self._note(layer, f"its activation {name} became a layer")
        name = self._names.unique(f"{layer.name}_{name.strip('<>')}")
        if isinstance(function, layers.Layer):
            return copy_layer(function, name)
        return layers.Activation(function, name=name)

    def _note(self, layer: layers.Layer, what: str) -> None:
        line = f"'{layer.name}': {what}"
        if line not in self.notes:
            self.notes.append(line)

    def _separable(self, layer: Any) -> list[layers.Layer]:
        """Depthwise, then pointwise with the bias; TensorFlow computes it so too."""
        self._note(layer, "split into a depthwise and a 1x1 convolution")
        one = isinstance(layer, layers.SeparableConv1D)
        config, parts = config_of(layer, tf_keras.activations.linear), []
        shared = {key: config[key] for key in ("data_format", "trainable")}
        fused = layer.activation in FUSED
        padding = layer.padding
        if padding == "causal":
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            pad = self._names.unique(f"{layer.name}_pad")
            parts.append(layers.ZeroPadding1D((before, 0), name=pad))
            padding = "valid"
        kinds = (layers.DepthwiseConv1D, layers.Conv1D) if one else None
        depthwise, pointwise = kinds or (layers.DepthwiseConv2D, layers.Conv2D)
        parts.append(
            depthwise(
                layer.kernel_size,
                strides=layer.strides,
                padding=padding,
                dilation_rate=layer.dilation_rate,
                depth_multiplier=layer.depth_multiplier,
                use_bias=False,
                depthwise_regularizer=layer.depthwise_regularizer,
                depthwise_constraint=layer.depthwise_constraint,
                name=self._names.unique(f"{layer.name}_depthwise"),
                **shared,
            )
        )
        parts.append(
            pointwise(
                layer.filters,
                1,
                use_bias=layer.use_bias,
                activation=layer.activation if fused else None,
                kernel_regularizer=layer.pointwise_regularizer,
                kernel_constraint=layer.pointwise_constraint,
                bias_regularizer=layer.bias_regularizer,
                bias_constraint=layer.bias_constraint,
                name=self._names.unique(f"{layer.name}_pointwise"),
                **shared,
            )
        )
        first, *rest = layer.get_weights()
        self._weights += [(parts[-2], [first]), (parts[-1], rest)]
        return parts


def _copy(layer: Any, name: str, changes: dict[str, Any], why: str) -> layers.Layer:
    """A copy of a layer that stays one."""
    try:
        return copy_layer(layer, name, **changes)
    except (TypeError, NotImplementedError) as error:
        if not why:
            raise
        raise UnsupportedLayerError(
            "apply requires layers that are written in operations with rules, or that their config "
            f"makes again. Received: '{layer.name}' ({type(layer).__name__}), {why}; and "
            f"from_config(get_config()) says: {(str(error) or 'nothing').splitlines()[-1]}."
        ) from error


def _has_ellipsis(layer: layers.Layer) -> bool:
    keys = [tuple(node.call_args)[1:] for node in layer._inbound_nodes]
    return isinstance(layer, SlicingOpLambda) and any(
        part is Ellipsis for part in tf.nest.flatten(keys)
    )


def _without_ellipsis(x: Any, key: Any) -> tuple[Any, tuple]:
    """The arguments of a slice as slices of each axis: tf_keras saves no Ellipsis."""
    parts = key if isinstance(key, tuple | list) else (key,)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is None:
        return x, key
    taken = sum(part is not None for part in parts) - 1
    every = [{"start": None, "stop": None, "step": None}] * (len(x.shape) - taken)
    return x, (*parts[:at], *every, *parts[at + 1 :])


@contextlib.contextmanager
def _policy_of(layer: layers.Layer) -> Iterator[None]:
    """New layers compute in the dtypes of `layer`."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(layer.dtype_policy)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
