"""One walk over the graph of a model, and what the rules of rewriting are written with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.tfmot import activations, graph
from ec2t_tf.tfmot.graph import copy_layer


class Tensor:
    """A tensor of the new graph, as the old graph sees it and as convolutions see it.

    `flat` has the rank of the old graph. `image` is the same data as (1, T, C) or (1, 1, C), made
    when a layer asks for it; so convolution, normalisation and activation stay next to each other,
    which is what tfmot looks for.
    """

    def __init__(self, names: _Names, name: str, *, flat: Any = None, image: Any = None) -> None:
        self._names, self._name = names, name
        self._flat, self._image = flat, image
        self._flat_rank = len(flat.shape) if flat is not None else 0

    @classmethod
    def lifted(cls, names: _Names, name: str, image: Any, rank: int) -> Tensor:
        tensor = cls(names, name, image=image)
        tensor._flat_rank = rank
        return tensor

    @property
    def rank(self) -> int:
        return self._flat_rank

    @property
    def is_lifted(self) -> bool:
        return self._image is not None and self.rank < 4

    @property
    def flat(self) -> Any:
        if self._flat is None:
            shape = self._image.shape[4 - self.rank + 1 :]
            name = self._names.unique(f"{self._name}_flat")
            self._flat = layers.Reshape(_with_free_length(shape), name=name)(self._image)
        return self._flat

    @property
    def image(self) -> Any:
        if self.rank == 4:
            return self.flat
        if self._image is None:
            shape = (1,) * (4 - self.rank) + tuple(self._flat.shape[1:])
            name = self._names.unique(f"{self._name}_image")
            self._image = layers.Reshape(_with_free_length(shape), name=name)(self._flat)
        return self._image


def _with_free_length(shape: Any) -> tuple[int, ...]:
    """One dimension may be unknown: the length of a sequence."""
    return tuple(-1 if size is None else int(size) for size in shape)


class _Names:
    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


class Rewriting:
    """One walk over the graph of a model, and of the models inside it."""

    def __init__(self, model: tf_keras.Model) -> None:
        self.source = model
        self.notes: list[str] = []
        self.origin: dict[str, layers.Layer] = {}
        self._names = _Names()
        self._made: dict[int, Tensor] = {}
        self._shared: dict[tuple, Any] = {}  # (layer id, part) -> new layer
        self._weights: list[tuple[layers.Layer, list[np.ndarray]]] = []
        self._consumers: dict[int, list[Any]] = {}
        self._outputs: set[int] = set()
        self._calls: dict[int, int] = {}
        self._folded: set[int] = set()  # outputs of transposed convolutions
        self._training: bool | None = None  # what a call of a model inside says

    # -- the walk ------------------------------------------------------------------------------

    def run(self) -> tf_keras.Model:
        inputs = []
        for tensor, name in zip(self.source.inputs, self.source.input_names, strict=True):
            new = tf_keras.Input(
                batch_shape=tensor.shape, dtype=tensor.dtype, name=self._names.unique(name)
            )
            self._made[id(tensor)] = Tensor(self._names, name, flat=new)
            inputs.append(new)
        self._count(self.source)
        self._walk(self.source)
        packed_inputs = tf.nest.pack_sequence_as(self.source._nested_inputs, inputs)
        outputs = tf.nest.map_structure(
            lambda tensor: self._made[id(tensor)].flat, self.source._nested_outputs
        )
        model = tf_keras.Model(packed_inputs, outputs, name=self.source.name)
        for layer, weights in self._weights:
            layer.set_weights(weights)
        return model

    def _count(self, model: tf_keras.Model) -> None:
        """Who takes which tensor, and how often each layer is called."""
        self._outputs |= {id(tensor) for tensor in model.outputs}
        for node in graph.nodes(model):
            self._calls[id(node.layer)] = self._calls.get(id(node.layer), 0) + 1
            for tensor in node.keras_inputs:
                self._consumers.setdefault(id(tensor), []).append(node.layer)
            if isinstance(node.layer, tf_keras.Model):
                self._count(node.layer)

    def _walk(self, model: tf_keras.Model) -> None:
        for node in graph.nodes(model):
            if isinstance(node.layer, tf_keras.Model):
                self._inline(node)
            else:
                results = self._layer(node)
                for tensor, result in zip(tf.nest.flatten(node.outputs), results, strict=True):
                    self._made[id(tensor)] = result

    def _inline(self, node: Any) -> None:
        """The layers of a nested model in place of the model."""
        inner = node.layer
        self.note(inner, "a model in the model, its layers took its place")
        given = [self._made[id(tensor)] for tensor in node.keras_inputs]
        for tensor, value in zip(inner.inputs, given, strict=True):
            self._made[id(tensor)] = value
        before, self._training = self._training, self._mode(node)
        self._walk(inner)
        self._training = before
        for tensor, output in zip(tf.nest.flatten(node.outputs), inner.outputs, strict=True):
            self._made[id(tensor)] = self._made[id(output)]

    def _layer(self, node: Any) -> list[Tensor]:
        layer = node.layer
        from ec2t_tf.tfmot.rewriting_rules import RULES

        rule = RULES.get(type(layer))
        if rule is not None:
            result = rule(self, layer, node)
            if result is not None:
                return [result]
        return self._as_it_is(layer, node)

    # -- what the rules are written with -------------------------------------------------------

    def given(self, node: Any) -> list[Tensor]:
        return [self._made[id(tensor)] for tensor in node.keras_inputs]

    def note(self, layer: layers.Layer, what: str) -> None:
        line = f"'{layer.name}': {what}"
        if line not in self.notes:
            self.notes.append(line)

    def part(
        self,
        layer: layers.Layer,
        suffix: str,
        make: Callable[[str], layers.Layer],
        weights: Callable[[], list[np.ndarray]] | None = None,
    ) -> layers.Layer:
        """A new layer that computes (a part of) `layer`; the same one at every call of `layer`."""
        key = (id(layer), suffix)
        if key not in self._shared:
            name = self._names.unique(layer.name + suffix)
            with _policy_of(layer):
                new = make(name)
            self._shared[key] = new
            self.origin[name] = layer
            if weights is not None:
                self._weights.append((new, weights()))
        return self._shared[key]

    def flat(self, layer: layers.Layer, value: Any) -> Tensor:
        return Tensor(self._names, layer.name, flat=value)

    def image(self, layer: layers.Layer, value: Any, rank: int) -> Tensor:
        if rank == 4:
            return self.flat(layer, value)
        return Tensor.lifted(self._names, layer.name, value, rank)

    def only_consumer(self, node: Any) -> layers.Layer | None:
        """The layer that alone takes what the node gives, if its own layer is called once."""
        (tensor,) = tf.nest.flatten(node.outputs)
        consumers = self._consumers.get(id(tensor), [])
        alone = len(consumers) == 1 and id(tensor) not in self._outputs
        if not alone or self._calls[id(node.layer)] > 1 or self._calls[id(consumers[0])] > 1:
            return None
        return consumers[0]

    def _mode(self, node: Any) -> bool | None:
        """`training` as this call, or the call of the model that it is in, gives it."""
        training = node.call_kwargs.get("training")
        return self._training if training is None else training

    def call(self, copy: layers.Layer, value: Any, node: Any) -> Any:
        """The copy of a layer called as the layer was: `training=False` freezes statistics."""
        mode = self._mode(node)
        if mode is None or not copy._expects_training_arg:
            return copy(value)
        return copy(value, training=mode)

    def _as_it_is(self, layer: layers.Layer, node: Any) -> list[Tensor]:
        def value(argument: Any) -> Any:
            made = self._made.get(id(argument))
            return argument if made is None else made.flat

        copy = self.part(layer, "", lambda name: copy_layer(layer, name), layer.get_weights)
        arguments = tf.nest.map_structure(value, node.call_args)
        options = tf.nest.map_structure(value, node.call_kwargs)
        if self._mode(node) is not None and copy._expects_training_arg:
            options["training"] = self._mode(node)
        results = tf.nest.flatten(copy(*arguments, **options))
        return [self.flat(layer, result) for result in results]

    def activation(self, layer: layers.Layer, x: Tensor) -> Tensor:
        """What `layer.activation` computes, in layers of its own."""
        function = layer.activation
        name = name_of(function)
        image = x.image if x.is_lifted else None
        value = x.flat if image is None else image

        def give(result: Any) -> Tensor:
            return self.flat(layer, result) if image is None else self.image(layer, result, x.rank)

        if name == "linear":
            return x
        if function is activations.relu6:
            return give(self.part(layer, "_relu6", lambda n: layers.ReLU(6.0, name=n))(value))
        if function is activations.leaky_relu:
            leaky = self.part(layer, "_leaky_relu", lambda n: layers.LeakyReLU(0.2, name=n))
            return give(leaky(value))
        slope = {activations.hard_sigmoid: 1.0, tf_keras.activations.hard_sigmoid: 1.2}.get(
            function
        )
        if slope is not None:
            self.note(layer, "hard sigmoid as relu6(x + 3) / 6 in depthwise convolutions")
            x = self.affine(layer, "_plus", give(value), slope, 3.0)
            six = self.part(layer, "_relu6", lambda n: layers.ReLU(6.0, name=n))(x.image)
            return self.affine(layer, "_sixth", self.image(layer, six, x.rank), 1 / 6, 0.0)
        make = layers.Activation
        return give(self.part(layer, f"_{name}", lambda n: make(function, name=n))(value))

    def affine(
        self, layer: layers.Layer, suffix: str, x: Tensor, scale: Any, offset: Any
    ) -> Tensor:
        """scale * x + offset for each channel: a 1x1 depthwise convolution that is not trained."""
        channels = x.image.shape[-1]
        kernel, bias = (
            np.broadcast_to(np.asarray(value, np.float32), (channels,)) for value in (scale, offset)
        )
        convolution = self.part(
            layer,
            suffix,
            lambda name: layers.DepthwiseConv2D(1, name=name, trainable=False),
            lambda: [kernel.reshape(1, 1, channels, 1), bias],
        )
        return self.image(layer, convolution(x.image), x.rank)


@contextlib.contextmanager
def _policy_of(layer: layers.Layer) -> Iterator[None]:
    """New layers compute in the dtypes of `layer`."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(layer.dtype_policy)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "swish" if name == "silu" else str(name)
