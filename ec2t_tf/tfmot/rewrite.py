"""Equivalent graphs that tfmot and the TensorFlow Lite converter get right.

Both know fewer layers than Keras has, and some combinations end as float operators without a word.
`rewrite` replaces those, layer by layer, with others that compute the same:

| in the model                              | instead                                             |
|-------------------------------------------|-----------------------------------------------------|
| a model inside the model                  | its layers                                          |
| an activation inside a layer (not relu)   | a layer of its own                                  |
| SeparableConv1D, SeparableConv2D          | DepthwiseConv2D, then a 1x1 Conv2D                  |
| Conv1D, DepthwiseConv1D, 1-D pooling, ... | the same in two dimensions, (T, C) seen as (1, T, C)|
| Dense + BatchNormalization                | a 1x1 Conv2D + BatchNormalization, on (1, 1, C)     |
| Dense on images or sequences              | a 1x1 Conv2D                                        |
| BatchNormalization after anything else    | a depthwise convolution by 1 in front of it         |
| Conv2DTranspose + BatchNormalization      | the normalisation folded into kernel and bias       |
| Rescaling, Normalization                  | a 1x1 depthwise convolution that is not trained     |
| x + y, x * 2, ... written in Python       | Add, Subtract, Multiply, such convolutions          |
| hard sigmoid                              | relu6(x + 3) / 6 in such convolutions               |
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.layers.core import TFOpLambda

from ec2t_tf.tfmot import activations, graph
from ec2t_tf.tfmot.graph import copy_layer
from ec2t_tf.tfmot.keras_compat import HALF_PRECISION_TOLERANCE, largest_difference

# Rounding differs between a layer and its replacement; deep nets add that up.
TOLERANCE = 1e-4
# What tfmot quantises inside a layer; anything else becomes a layer of its own.
INLINE_ACTIVATIONS = ("linear", "relu", "softmax")


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """An equivalent model and where its layers come from.

    Attributes:
      model: the new model, or the given one where nothing had to change.
      origin: new layer name -> the layer of the given model that it computes (a part of).
      notes: one sentence for each layer that was replaced.
    """

    model: tf_keras.Model
    origin: dict[str, layers.Layer]
    notes: tuple[str, ...]


def rewrite(model: tf_keras.Model) -> Rewritten:
    """Replaces what tfmot or the converter gets wrong by equivalent layers.

    Args:
      model: built tf_keras `Sequential` or functional model; it is not changed.

    Returns:
      The new model with its weights. Layer names are kept; what a layer is split into is called
      after it.

    Raises:
      ValueError: the new model does not compute what the given one does, to 1e-4 of the largest
        output (a defect of this package).
    """
    rewriting = _Rewriting(model)
    new_model = rewriting.run()
    if not rewriting.notes:
        return Rewritten(model, {layer.name: layer for layer in model.layers}, ())
    arrays = [_random(tensor) for tensor in model.inputs]
    feed = tf.nest.pack_sequence_as(model._nested_inputs, arrays)
    difference = largest_difference(model(feed, training=False), new_model(feed, training=False))
    half = any("16" in str(layer.compute_dtype) for layer in new_model.layers)
    if difference > (HALF_PRECISION_TOLERANCE if half else TOLERANCE):
        raise ValueError(
            f"A rewritten model must compute the same. Received: '{model.name}', which differs by "
            f"{difference:.3g} of its largest output after: {'; '.join(rewriting.notes)}. "
            f"Please report this model."
        )
    return Rewritten(new_model, rewriting.origin, tuple(rewriting.notes))


def _random(tensor: Any) -> np.ndarray:
    random = np.random.default_rng(0)
    shape = [2 if tensor.shape[0] is None else tensor.shape[0]]
    shape += [64 if size is None else size for size in tensor.shape[1:]]
    if tensor.dtype.is_floating:
        return random.standard_normal(shape).astype(tensor.dtype.as_numpy_dtype)
    return random.integers(0, 2, shape).astype(tensor.dtype.as_numpy_dtype)


class _Tensor:
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
    def lifted(cls, names: _Names, name: str, image: Any, rank: int) -> _Tensor:
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


class _Rewriting:
    """One walk over the graph of a model, and of the models inside it."""

    def __init__(self, model: tf_keras.Model) -> None:
        self.source = model
        self.notes: list[str] = []
        self.origin: dict[str, layers.Layer] = {}
        self._names = _Names()
        self._made: dict[int, _Tensor] = {}
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
            self._made[id(tensor)] = _Tensor(self._names, name, flat=new)
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

    def _layer(self, node: Any) -> list[_Tensor]:
        layer = node.layer
        rule = _RULES.get(type(layer))
        if rule is not None:
            result = rule(self, layer, node)
            if result is not None:
                return [result]
        return self._as_it_is(layer, node)

    # -- what the rules are written with -------------------------------------------------------

    def given(self, node: Any) -> list[_Tensor]:
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

    def flat(self, layer: layers.Layer, value: Any) -> _Tensor:
        return _Tensor(self._names, layer.name, flat=value)

    def image(self, layer: layers.Layer, value: Any, rank: int) -> _Tensor:
        if rank == 4:
            return self.flat(layer, value)
        return _Tensor.lifted(self._names, layer.name, value, rank)

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

    def _as_it_is(self, layer: layers.Layer, node: Any) -> list[_Tensor]:
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

    def activation(self, layer: layers.Layer, x: _Tensor) -> _Tensor:
        """What `layer.activation` computes, in layers of its own."""
        function = layer.activation
        name = _name_of(function)
        image = x.image if x.is_lifted else None
        value = x.flat if image is None else image

        def give(result: Any) -> _Tensor:
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
        self, layer: layers.Layer, suffix: str, x: _Tensor, scale: Any, offset: Any
    ) -> _Tensor:
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


def _name_of(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "swish" if name == "silu" else str(name)


# ---------------------------------------------------------------------------------------------
# Rules. Each takes the rewriting, the layer and the node of one call; it returns the result, or
# None where the layer can stay as it is.


def _convolution(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Conv2D and DepthwiseConv2D: as they are, but for the activation."""
    if _name_of(layer.activation) in INLINE_ACTIVATIONS:
        return None
    rewriting.note(layer, f"its activation {_name_of(layer.activation)} became a layer")
    linear = rewriting.part(
        layer, "", lambda name: copy_layer(layer, name, activation="linear"), layer.get_weights
    )
    (x,) = rewriting.given(node)
    return rewriting.activation(layer, rewriting.flat(layer, linear(x.flat)))


def _two_dimensional_options(layer: Any) -> dict[str, Any]:
    """The options that a 1-D convolution shares with its 2-D form on an image of height 1."""
    return {
        "padding": "valid" if layer.padding == "causal" else layer.padding,
        "strides": (layer.strides[0],) * 2,
        "dilation_rate": (1, layer.dilation_rate[0]),
        "use_bias": layer.use_bias,
        "trainable": layer.trainable,
        "bias_regularizer": layer.bias_regularizer,
        "bias_constraint": layer.bias_constraint,
    }


def _causal(rewriting: _Rewriting, layer: Any, x: _Tensor) -> Any:
    if layer.padding != "causal":
        return x.image
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    padding = rewriting.part(
        layer, "_pad", lambda n: layers.ZeroPadding2D(((0, 0), (before, 0)), name=n)
    )
    return padding(x.image)


def _channels_last(layer: Any) -> bool:
    return layer.data_format == "channels_last"


def _conv_1d(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    if not _channels_last(layer):
        return None
    rewriting.note(layer, "Conv1D as a Conv2D on an image of height 1")
    inline = _name_of(layer.activation) in INLINE_ACTIVATIONS

    def weights() -> list[np.ndarray]:
        kernel, *bias = layer.get_weights()
        return [kernel[None], *bias]

    (x,) = rewriting.given(node)
    convolution = rewriting.part(
        layer,
        "",
        lambda name: layers.Conv2D(
            layer.filters,
            (1, layer.kernel_size[0]),
            groups=layer.groups,
            activation=layer.activation if inline else None,
            kernel_regularizer=layer.kernel_regularizer,
            kernel_constraint=layer.kernel_constraint,
            name=name,
            **_two_dimensional_options(layer),
        ),
        weights,
    )
    result = rewriting.image(layer, convolution(_causal(rewriting, layer, x)), 3)
    return result if inline else rewriting.activation(layer, result)


def _depthwise_1d(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    if not _channels_last(layer):
        return None
    rewriting.note(layer, "DepthwiseConv1D as a DepthwiseConv2D on an image of height 1")

    def weights() -> list[np.ndarray]:
        kernel, *bias = layer.get_weights()
        return [kernel[None], *bias]

    (x,) = rewriting.given(node)
    convolution = rewriting.part(
        layer,
        "",
        lambda name: layers.DepthwiseConv2D(
            (1, layer.kernel_size[0]),
            depth_multiplier=layer.depth_multiplier,
            name=name,
            **_two_dimensional_options(layer),
        ),
        weights,
    )
    result = rewriting.image(layer, convolution(_causal(rewriting, layer, x)), 3)
    return rewriting.activation(layer, result)


def _separable(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Depthwise, then pointwise with the bias and the activation; TensorFlow computes it so too."""
    if not _channels_last(layer):
        return None
    rewriting.note(layer, "split into a depthwise and a 1x1 convolution")
    one_dimensional = isinstance(layer, layers.SeparableConv1D)
    options = (
        _two_dimensional_options(layer)
        if one_dimensional
        else {
            "padding": layer.padding,
            "strides": layer.strides,
            "dilation_rate": layer.dilation_rate,
            "trainable": layer.trainable,
        }
    )
    kernel_size = (1, layer.kernel_size[0]) if one_dimensional else layer.kernel_size
    depthwise_options = {
        key: options[key] for key in ("padding", "strides", "dilation_rate", "trainable")
    }
    depthwise_kernel, pointwise_kernel, *bias = layer.get_weights()
    if one_dimensional:
        depthwise_kernel, pointwise_kernel = depthwise_kernel[None], pointwise_kernel[None]
    depthwise = rewriting.part(
        layer,
        "_depthwise",
        lambda name: layers.DepthwiseConv2D(
            kernel_size,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            depthwise_regularizer=layer.depthwise_regularizer,
            depthwise_constraint=layer.depthwise_constraint,
            name=name,
            **depthwise_options,
        ),
        lambda: [depthwise_kernel],
    )
    inline = _name_of(layer.activation) in INLINE_ACTIVATIONS
    pointwise = rewriting.part(
        layer,
        "_pointwise",
        lambda name: layers.Conv2D(
            layer.filters,
            1,
            use_bias=layer.use_bias,
            activation=layer.activation if inline else None,
            kernel_regularizer=layer.pointwise_regularizer,
            kernel_constraint=layer.pointwise_constraint,
            bias_regularizer=layer.bias_regularizer,
            bias_constraint=layer.bias_constraint,
            trainable=layer.trainable,
            name=name,
        ),
        lambda: [pointwise_kernel, *bias],
    )
    (x,) = rewriting.given(node)
    source = _causal(rewriting, layer, x) if one_dimensional else x.flat
    result = rewriting.image(layer, pointwise(depthwise(source)), 3 if one_dimensional else 4)
    return result if inline else rewriting.activation(layer, result)


def _dense(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    (x,) = rewriting.given(node)
    normalised = isinstance(rewriting.only_consumer(node), layers.BatchNormalization)
    if x.rank > 4 or (x.rank == 2 and not normalised):
        inline = _name_of(layer.activation) in INLINE_ACTIVATIONS
        if inline:
            return None
        rewriting.note(layer, f"its activation {_name_of(layer.activation)} became a layer")
        linear = rewriting.part(
            layer, "", lambda name: copy_layer(layer, name, activation="linear"), layer.get_weights
        )
        return rewriting.activation(layer, rewriting.flat(layer, linear(x.flat)))
    before = "BatchNormalization" if normalised else f"input of rank {x.rank}"
    rewriting.note(layer, f"Dense with {before} as a 1x1 Conv2D")
    inline = _name_of(layer.activation) in INLINE_ACTIVATIONS

    def weights() -> list[np.ndarray]:
        kernel, *bias = layer.get_weights()
        return [kernel[None, None], *bias]

    convolution = rewriting.part(
        layer,
        "",
        lambda name: layers.Conv2D(
            layer.units,
            1,
            use_bias=layer.use_bias,
            activation=layer.activation if inline else None,
            kernel_regularizer=layer.kernel_regularizer,
            kernel_constraint=layer.kernel_constraint,
            bias_regularizer=layer.bias_regularizer,
            bias_constraint=layer.bias_constraint,
            trainable=layer.trainable,
            name=name,
        ),
        weights,
    )
    result = rewriting.image(layer, convolution(x.image), x.rank)
    return result if inline else rewriting.activation(layer, result)


def _transposed(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Folds the batch normalisation that follows; its own rule then passes the result on."""
    normalisation: Any = rewriting.only_consumer(node)
    linear = _name_of(layer.activation) == "linear"
    fold = linear and isinstance(normalisation, layers.BatchNormalization)
    if not fold and _name_of(layer.activation) in INLINE_ACTIVATIONS:
        return None
    (x,) = rewriting.given(node)
    if not fold:
        rewriting.note(layer, f"its activation {_name_of(layer.activation)} became a layer")
        new = rewriting.part(
            layer, "", lambda name: copy_layer(layer, name, activation="linear"), layer.get_weights
        )
        return rewriting.activation(layer, rewriting.flat(layer, new(x.flat)))
    rewriting.note(
        layer,
        f"'{normalisation.name}' folded into kernel and bias: it no longer follows the batches",
    )

    def weights() -> list[np.ndarray]:
        kernel, *bias = layer.get_weights()
        scale, offset = _scale_and_offset(normalisation)
        folded_bias = offset + scale * (bias[0] if bias else 0.0)
        return [kernel * scale[:, None], folded_bias.astype(np.float32)]

    new = rewriting.part(layer, "", lambda name: copy_layer(layer, name, use_bias=True), weights)
    (output,) = tf.nest.flatten(node.outputs)
    rewriting._folded.add(id(output))
    return rewriting.flat(layer, new(x.flat))


def _scale_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a batch normalisation does to each channel at inference: float32, shape (C,)."""
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma.numpy()
    offset = -mean * scale
    if layer.center:
        offset = offset + layer.beta.numpy()
    return scale.astype(np.float32), offset.astype(np.float32)


def _normalisation(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    (x,) = rewriting.given(node)
    (source,) = node.keras_inputs
    if id(source) in rewriting._folded:
        return x
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if x.rank > 4 or axis not in (-1, x.rank - 1):
        return None
    value = x.image
    producer = value._keras_history.layer
    follows_convolution = (
        isinstance(producer, (layers.Conv2D, layers.DepthwiseConv2D))
        and not isinstance(producer, layers.Conv2DTranspose)
        and _name_of(producer.activation) == "linear"
        and len(rewriting._consumers[id(source)]) == 1
        and id(source) not in rewriting._outputs
    )
    if follows_convolution and x.rank == 4:
        return None
    if not follows_convolution:
        rewriting.note(layer, "stands alone: a depthwise convolution by 1 in front of it")
        channels = value.shape[-1]
        by_one = rewriting.part(
            layer,
            "_by_one",
            lambda name: layers.DepthwiseConv2D(1, use_bias=False, trainable=False, name=name),
            lambda: [np.ones((1, 1, channels, 1), np.float32)],
        )
        value = by_one(value)
    copy = rewriting.part(
        layer, "", lambda name: copy_layer(layer, name, axis=-1), layer.get_weights
    )
    return rewriting.image(layer, rewriting.call(copy, value, node), x.rank)


def _elementwise(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Layers that do the same to every value: they stay with the convolution before them."""
    given = rewriting.given(node)
    ranks = {x.rank for x in given}
    shaped = getattr(layer, "noise_shape", None) is not None
    if len(ranks) != 1 or shaped or not any(x.is_lifted for x in given):
        return None
    copy = rewriting.part(layer, "", lambda name: copy_layer(layer, name), layer.get_weights)
    images = [x.image for x in given]
    result = rewriting.call(copy, images if len(images) > 1 else images[0], node)
    return rewriting.image(layer, result, ranks.pop())


def _concatenate(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    given = rewriting.given(node)
    rank = given[0].rank
    if rank > 3 or not any(x.is_lifted for x in given):
        return None
    axis = layer.axis - rank if layer.axis > 0 else layer.axis
    copy = rewriting.part(layer, "", lambda name: copy_layer(layer, name, axis=axis))
    return rewriting.image(layer, copy([x.image for x in given]), rank)


def _activation(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    if layer.activation in (activations.relu6, activations.leaky_relu):
        rewriting.note(layer, f"{_name_of(layer.activation)} as a layer that tfmot knows")
    elif layer.activation not in (activations.hard_sigmoid, tf_keras.activations.hard_sigmoid):
        return _elementwise(rewriting, layer, node)
    (x,) = rewriting.given(node)
    return rewriting.activation(layer, x)


def _order_of_data(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Flatten and Reshape read the values in order, whatever the shape before."""
    (x,) = rewriting.given(node)
    if not x.is_lifted or getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    copy = rewriting.part(layer, "", lambda name: copy_layer(layer, name))
    return rewriting.flat(layer, copy(x.image))


def _pooling_1d(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    if not _channels_last(layer):
        return None
    two_dimensional = (
        layers.MaxPooling2D if isinstance(layer, layers.MaxPooling1D) else layers.AveragePooling2D
    )
    rewriting.note(layer, f"{type(layer).__name__} in two dimensions")
    pooling = rewriting.part(
        layer,
        "",
        lambda name: two_dimensional(
            (1, layer.pool_size[0]), (1, layer.strides[0]), layer.padding, name=name
        ),
    )
    (x,) = rewriting.given(node)
    return rewriting.image(layer, pooling(x.image), 3)


def _global_pooling_1d(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    (x,) = rewriting.given(node)
    if not _channels_last(layer) or layer.keepdims or len(node.keras_inputs) > 1:
        return None
    two_dimensional = (
        layers.GlobalMaxPooling2D
        if isinstance(layer, layers.GlobalMaxPooling1D)
        else layers.GlobalAveragePooling2D
    )
    rewriting.note(layer, f"{type(layer).__name__} in two dimensions")
    pooling = rewriting.part(layer, "", lambda name: two_dimensional(name=name))
    return rewriting.flat(layer, pooling(x.image))


def _border_1d(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Padding, cropping and repeating along the sequence."""
    (x,) = rewriting.given(node)
    rewriting.note(layer, f"{type(layer).__name__} in two dimensions")
    make: dict[type, Callable[[str], layers.Layer]] = {
        layers.ZeroPadding1D: lambda n: layers.ZeroPadding2D(((0, 0), layer.padding), name=n),
        layers.Cropping1D: lambda n: layers.Cropping2D(((0, 0), layer.cropping), name=n),
        layers.UpSampling1D: lambda n: layers.UpSampling2D((1, layer.size), name=n),
    }
    new = rewriting.part(layer, "", make[type(layer)])
    return rewriting.image(layer, new(x.image), 3)


def _rescaling(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    (x,) = rewriting.given(node)
    (source,) = node.keras_inputs
    scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    if x.rank > 4 or max(scale.ndim, offset.ndim) > 1 or not source.dtype.is_floating:
        return None
    rewriting.note(layer, "Rescaling as a depthwise convolution")
    return rewriting.affine(layer, "", x, scale, offset)


def _standardisation(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """Normalization (of the data): (x - mean) / std for each channel."""
    (x,) = rewriting.given(node)
    (source,) = node.keras_inputs
    mean, variance = np.ravel(layer.mean), np.ravel(layer.variance)
    channels = source.shape[-1]
    fits = mean.size in (1, channels) and tuple(layer.axis) in ((), (-1,), (x.rank - 1,))
    if x.rank > 4 or not fits or not source.dtype.is_floating:
        return None
    rewriting.note(layer, "Normalization as a depthwise convolution")
    deviation = np.maximum(np.sqrt(variance), tf_keras.backend.epsilon())
    if layer.invert:
        return rewriting.affine(layer, "", x, deviation, mean)
    return rewriting.affine(layer, "", x, 1 / deviation, -mean / deviation)


# Operators that Python code leaves in a graph, by the end of their name in TensorFlow.
_MERGING: dict[str, Any] = {
    **dict.fromkeys(("add", "add_v2", "__add__"), layers.Add),
    **dict.fromkeys(("subtract", "sub"), layers.Subtract),
    **dict.fromkeys(("multiply", "mul"), layers.Multiply),
    "maximum": layers.Maximum,
    "minimum": layers.Minimum,
}


def _operator(rewriting: _Rewriting, layer: Any, node: Any) -> _Tensor | None:
    """x + y, x - y, x * y of two tensors, and x + 1, x * 2, ... of a tensor and a number."""
    kind = layer.symbol.split(".")[-1]
    options = {key: value for key, value in node.call_kwargs.items() if key != "name"}
    values = [value for value in (*node.call_args, *options.values()) if value is not None]
    given = [rewriting._made.get(id(value)) for value in values]
    tensors = [x for x in given if x is not None]
    if kind == "relu" and len(values) == len(tensors) == 1:
        return _as_layer(rewriting, layer, layers.ReLU, tensors)
    if len(values) != 2 or not all(x.dtype.is_floating for x in node.keras_inputs):
        return None
    if len(tensors) == 2 and kind in _MERGING:
        # A merging layer broadcasts otherwise where the ranks differ.
        same = tensors[0].rank == tensors[1].rank
        return _as_layer(rewriting, layer, _MERGING[kind], tensors) if same else None
    if len(tensors) != 1 or np.ndim(values[given[0] is not None]) != 0:
        return None
    (x,), number = tensors, float(values[given[0] is not None])
    scale_and_offset = {
        layers.Add: (1.0, number),
        layers.Multiply: (number, 0.0),
        layers.Subtract: (1.0, -number) if given[0] is not None else (-1.0, number),
    }.get(_MERGING.get(kind))
    if kind in ("truediv", "divide") and given[0] is not None and number:
        scale_and_offset = (1.0 / number, 0.0)
    if scale_and_offset is None or x.rank > 4:
        return None
    rewriting.note(layer, f"{kind} of a number as a depthwise convolution")
    return rewriting.affine(layer, "", x, *scale_and_offset)


def _as_layer(rewriting: _Rewriting, layer: Any, make: Any, given: list[_Tensor]) -> _Tensor:
    rewriting.note(layer, f"as a layer {make.__name__}")
    new = rewriting.part(layer, "", lambda name: make(name=name))
    lifted = any(x.is_lifted for x in given)
    values = [x.image if lifted else x.flat for x in given]
    result = new(values if len(values) > 1 else values[0])
    if lifted:
        return rewriting.image(layer, result, given[0].rank)
    return rewriting.flat(layer, result)


_ELEMENTWISE = (
    *(layers.ReLU, layers.LeakyReLU, layers.ELU),
    *(layers.Dropout, layers.GaussianNoise, layers.GaussianDropout),
    *(layers.Add, layers.Subtract, layers.Multiply),
    *(layers.Average, layers.Maximum, layers.Minimum),
)
_Rule = Callable[[_Rewriting, Any, Any], "_Tensor | None"]

_RULES: dict[type, _Rule] = {
    layers.Conv2D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.Conv1D: _conv_1d,
    layers.DepthwiseConv1D: _depthwise_1d,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.Conv2DTranspose: _transposed,
    layers.Dense: _dense,
    layers.BatchNormalization: _normalisation,
    layers.Activation: _activation,
    layers.Concatenate: _concatenate,
    layers.Flatten: _order_of_data,
    layers.Reshape: _order_of_data,
    layers.MaxPooling1D: _pooling_1d,
    layers.AveragePooling1D: _pooling_1d,
    layers.GlobalMaxPooling1D: _global_pooling_1d,
    layers.GlobalAveragePooling1D: _global_pooling_1d,
    layers.ZeroPadding1D: _border_1d,
    layers.Cropping1D: _border_1d,
    layers.UpSampling1D: _border_1d,
    layers.Rescaling: _rescaling,
    layers.Normalization: _standardisation,
    TFOpLambda: _operator,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
}
