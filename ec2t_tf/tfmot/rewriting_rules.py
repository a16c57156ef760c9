"""Rules of rewriting: each takes the rewriting, the layer and the node of one call.

It returns the result, or None where the layer can stay as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.layers.core import TFOpLambda

from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.graph import copy_layer
from ec2t_tf.tfmot.rewriting import Rewriting, Tensor, name_of

# What tfmot quantises inside a layer; anything else becomes a layer of its own.
INLINE_ACTIVATIONS = ("linear", "relu", "softmax")


def _convolution(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    """Conv2D and DepthwiseConv2D: as they are, but for the activation."""
    if name_of(layer.activation) in INLINE_ACTIVATIONS:
        return None
    rewriting.note(layer, f"its activation {name_of(layer.activation)} became a layer")
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


def _causal(rewriting: Rewriting, layer: Any, x: Tensor) -> Any:
    if layer.padding != "causal":
        return x.image
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    padding = rewriting.part(
        layer, "_pad", lambda n: layers.ZeroPadding2D(((0, 0), (before, 0)), name=n)
    )
    return padding(x.image)


def _channels_last(layer: Any) -> bool:
    return layer.data_format == "channels_last"


def _conv_1d(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    if not _channels_last(layer):
        return None
    rewriting.note(layer, "Conv1D as a Conv2D on an image of height 1")
    inline = name_of(layer.activation) in INLINE_ACTIVATIONS

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


def _depthwise_1d(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _separable(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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
    inline = name_of(layer.activation) in INLINE_ACTIVATIONS
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


def _dense(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    (x,) = rewriting.given(node)
    normalised = isinstance(rewriting.only_consumer(node), layers.BatchNormalization)
    if x.rank > 4 or (x.rank == 2 and not normalised):
        inline = name_of(layer.activation) in INLINE_ACTIVATIONS
        if inline:
            return None
        rewriting.note(layer, f"its activation {name_of(layer.activation)} became a layer")
        linear = rewriting.part(
            layer, "", lambda name: copy_layer(layer, name, activation="linear"), layer.get_weights
        )
        return rewriting.activation(layer, rewriting.flat(layer, linear(x.flat)))
    before = "BatchNormalization" if normalised else f"input of rank {x.rank}"
    rewriting.note(layer, f"Dense with {before} as a 1x1 Conv2D")
    inline = name_of(layer.activation) in INLINE_ACTIVATIONS

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


def _transposed(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    """Folds the batch normalisation that follows; its own rule then passes the result on."""
    normalisation: Any = rewriting.only_consumer(node)
    linear = name_of(layer.activation) == "linear"
    fold = linear and isinstance(normalisation, layers.BatchNormalization)
    if not fold and name_of(layer.activation) in INLINE_ACTIVATIONS:
        return None
    (x,) = rewriting.given(node)
    if not fold:
        rewriting.note(layer, f"its activation {name_of(layer.activation)} became a layer")
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


def _normalisation(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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
        and name_of(producer.activation) == "linear"
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


def _elementwise(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _concatenate(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    given = rewriting.given(node)
    rank = given[0].rank
    if rank > 3 or not any(x.is_lifted for x in given):
        return None
    axis = layer.axis - rank if layer.axis > 0 else layer.axis
    copy = rewriting.part(layer, "", lambda name: copy_layer(layer, name, axis=axis))
    return rewriting.image(layer, copy([x.image for x in given]), rank)


def _activation(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    if layer.activation in (activations.relu6, activations.leaky_relu):
        rewriting.note(layer, f"{name_of(layer.activation)} as a layer that tfmot knows")
    elif layer.activation not in (activations.hard_sigmoid, tf_keras.activations.hard_sigmoid):
        return _elementwise(rewriting, layer, node)
    (x,) = rewriting.given(node)
    return rewriting.activation(layer, x)


def _order_of_data(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    """Flatten and Reshape read the values in order, whatever the shape before."""
    (x,) = rewriting.given(node)
    if not x.is_lifted or getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    copy = rewriting.part(layer, "", lambda name: copy_layer(layer, name))
    return rewriting.flat(layer, copy(x.image))


def _pooling_1d(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _global_pooling_1d(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _border_1d(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _rescaling(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
    (x,) = rewriting.given(node)
    (source,) = node.keras_inputs
    scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    if x.rank > 4 or max(scale.ndim, offset.ndim) > 1 or not source.dtype.is_floating:
        return None
    rewriting.note(layer, "Rescaling as a depthwise convolution")
    return rewriting.affine(layer, "", x, scale, offset)


def _standardisation(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _operator(rewriting: Rewriting, layer: Any, node: Any) -> Tensor | None:
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


def _as_layer(rewriting: Rewriting, layer: Any, make: Any, given: list[Tensor]) -> Tensor:
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
_Rule = Callable[[Rewriting, Any, Any], "Tensor | None"]

RULES: dict[type, _Rule] = {
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
