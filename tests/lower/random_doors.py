"""What random models are written with: Keras 3, or tf_keras and functions of TensorFlow."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from ec2t_tf.export.lower.table import supported

SHARED = ("relu", "relu6", "silu", "gelu", "tanh", "sigmoid", "elu", "leaky_relu", "softplus")
SHARED = (*SHARED, "hard_sigmoid", "selu", "mish", "softsign", "exponential")
ONLY_KERAS_3 = (
    *("hard_silu", "celu", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink"),
    *("log_sigmoid", "squareplus", "sparse_plus", "sparse_sigmoid"),
)


@dataclasses.dataclass(frozen=True)
class Door:
    """One of the two Kerases.

    Attributes:
      keras: the package.
      ops: functions by the names and with the arguments of `keras.ops`.
      activations: names that the package has.
    """

    keras: Any
    ops: Any
    activations: tuple[str, ...]

    @property
    def layers(self) -> Any:
        return self.keras.layers

    def has(self, *names: str) -> list[Any]:
        """Those of these classes of layers that the package has."""
        return [getattr(self.layers, name) for name in names if hasattr(self.layers, name)]

    def elementwise(self) -> list[str]:
        """Functions of one value that there are; each is finite for a value from -8 to 8."""
        return [name for name in _ELEMENTWISE if hasattr(self.ops, name)]


def names_in_the_table() -> set[str]:
    """Without Keras' class Abs, which nothing makes: `ops.abs` makes an Absolute; and BroadcastTo,
    whose batch has to be known, as in a layer of the user's (tests/native/test_own_weights)."""
    return {one.name for one in supported()} - {"Abs", "BroadcastTo"}


_ELEMENTWISE = (
    *("abs", "absolute", "negative", "square", "sin", "cos", "erf", "floor", "ceil", "round"),
    *("sign", "expm1", "copy", "arctan", "arcsinh", "erfc", "trunc", "fabs", "deg2rad"),
    *("rad2deg", "nan_to_num", *(name for name in (*SHARED, *ONLY_KERAS_3) if name != "mish")),
)


def _moved_axis(x: Any, source: int, target: int) -> Any:
    order = [axis for axis in range(len(x.shape)) if axis != source]
    order.insert(target, source)
    return tf.transpose(x, order)


def _swapped_axes(x: Any, one: int, other: int) -> Any:
    order = list(range(len(x.shape)))
    order[one], order[other] = other, one
    return tf.transpose(x, order)


_FUNCTIONS = SimpleNamespace(
    add=tf.add,
    subtract=tf.subtract,
    multiply=tf.multiply,
    divide=tf.divide,
    maximum=tf.maximum,
    minimum=tf.minimum,
    matmul=tf.matmul,
    einsum=tf.einsum,
    mean=lambda x, axis, keepdims=False: tf.reduce_mean(x, axis=axis, keepdims=keepdims),
    max=lambda x, axis, keepdims=False: tf.reduce_max(x, axis=axis, keepdims=keepdims),
    min=lambda x, axis, keepdims=False: tf.reduce_min(x, axis=axis, keepdims=keepdims),
    sum=lambda x, axis, keepdims=False: tf.reduce_sum(x, axis=axis, keepdims=keepdims),
    flip=lambda x, axis: tf.reverse(x, [axis]),
    transpose=tf.transpose,
    swapaxes=_swapped_axes,
    moveaxis=_moved_axis,
    split=lambda x, parts, axis: tf.split(x, parts, axis=axis),
    repeat=lambda x, times, axis: tf.repeat(x, times, axis=axis),
    pad=lambda x, widths, mode="constant": tf.pad(x, widths, mode=mode.upper()),
    stack=lambda xs, axis: tf.stack(xs, axis=axis),
    unstack=lambda x, axis: tf.unstack(x, axis=axis),
    concatenate=lambda xs, axis: tf.concat(xs, axis=axis),
    expand_dims=tf.expand_dims,
    squeeze=tf.squeeze,
    clip=tf.clip_by_value,
    softmax=lambda x, axis: tf.nn.softmax(x, axis=axis),
    leaky_relu=tf.nn.leaky_relu,
    cast=tf.cast,
    **{name: getattr(tf.nn, name) for name in ("relu", "relu6", "silu", "gelu", "elu", "selu")},
    **{name: getattr(tf, name) for name in ("abs", "negative", "square", "sin", "cos", "floor")},
    **{name: getattr(tf, name) for name in ("round", "sign", "exp", "sqrt", "tanh", "sigmoid")},
    **{name: getattr(tf.math, name) for name in ("erf", "ceil", "expm1", "log", "log1p", "rsqrt")},
    **{name: getattr(tf.math, name) for name in ("softplus", "reciprocal", "log_sigmoid")},
    **{name: getattr(tf.math, name) for name in ("tan", "sinh", "cosh", "erfc", "erfinv")},
    **{f"arc{name}": getattr(tf.math, f"a{name}") for name in ("sin", "tan", "sinh", "tanh")},
    log_softmax=lambda x, axis=-1: tf.nn.log_softmax(x, axis=axis),
    image=SimpleNamespace(
        resize=lambda x, size, interpolation="bilinear": tf.image.resize(x, size, interpolation)
    ),
)
KERAS_3 = Door(keras, keras.ops, (*SHARED, *ONLY_KERAS_3))
TF_KERAS = Door(tf_keras, _FUNCTIONS, SHARED)
DOORS = {"keras_3": KERAS_3, "tf_keras": TF_KERAS}
