"""Operators of keras.ops as layers of tf_keras where there are some (tfmot knows those).

Else they are TensorFlow functions, which tf_keras records as layers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.graph import Names
from ec2t_tf.tfmot.in_keras_3 import _SHARED_ACTIVATIONS, _as_array, _is_symbolic, _no_twin
from ec2t_tf.tfmot.pad_channels import PadChannels


def _activation_to_tf_keras(layer: Any, name: str) -> Any:
    if name in activations.KERAS_3_ONLY:
        return activations.KERAS_3_ONLY[name]
    if name in _SHARED_ACTIVATIONS:
        return tf_keras.activations.get(_SHARED_ACTIVATIONS[name])
    raise _no_twin(layer, f"tf_keras has no activation {name!r}")


def _operator_to_tf_keras(
    operation: Any, arguments: list[Any], options: dict[str, Any], names: Names
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
    if zero and rank == 4 and width[:3] == [[0, 0]] * 3:
        return PadChannels(*width[3], name=name)(x)
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
