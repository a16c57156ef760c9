"""What mixes the examples of a batch is refused by name: a file is given one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import ops

import ec2t_tf
from ec2t_tf.quantisation.unchanged import mixes

# The operation of keras.ops that is named, and what it is part of.
MIXING: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "softmax": ("Softmax", lambda x: ops.softmax(x, axis=0)),
    "softmax of a transpose": ("Softmax", lambda x: ops.transpose(ops.softmax(ops.transpose(x)))),
    "flip": ("Flip", lambda x: ops.flip(x, axis=0)),
    "roll": ("Roll", lambda x: ops.roll(x, 1, axis=0)),
    "roll of a reshape": (
        "Roll",
        lambda x: ops.reshape(ops.roll(ops.reshape(x, (-1,)), 3), (-1, 8)),
    ),
    "product with itself": ("Matmul", lambda x: ops.matmul(ops.matmul(x, ops.transpose(x)), x)),
    "mean": ("Subtract", lambda x: x - ops.mean(x, axis=0, keepdims=True)),
}
# The batch is folded into another axis, and comes back.
APART: dict[str, Callable[[Any], Any]] = {
    "rows of a reshape": lambda x: ops.reshape(ops.softmax(ops.reshape(x, (-1, 2))), (-1, 8)),
    "transposed twice": lambda x: ops.transpose(ops.relu(ops.transpose(x))),
    "squeezed": lambda x: ops.squeeze(ops.expand_dims(x, 1)),  # of one example another rank
    "windows": lambda x: ops.reshape(
        ops.einsum("abc,adc->abd", *[ops.reshape(x, (-1, 2, 2))] * 2), (-1, 8)
    ),
}


class Whole(keras.layers.Layer):
    def __init__(self, key: str, **options: Any) -> None:
        super().__init__(**options)
        self.key = key

    def call(self, x: Any) -> Any:
        return MIXING[self.key][1](x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "key": self.key}


def _model(function: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(0)
    source = keras.Input((8,))
    x = function(keras.layers.Dense(8)(keras.layers.Dense(8)(source)))
    return keras.Model(source, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("key", MIXING)
def test_keras_3(key: str) -> None:
    kind, function = MIXING[key]
    for model, named in ((_model(function), kind), (_model(Whole(key)), "Whole")):
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=rf"by itself.*\({named}\)"):
            ec2t_tf.apply(model, verbose=0)


@pytest.mark.parametrize(
    "first", [keras.layers.Resizing(8, 8), keras.layers.RandomFlip(), keras.layers.CenterCrop(8, 8)]
)
def test_behind_layers_for_images(first: Any) -> None:
    """Of which Keras says that they are called in training."""
    source = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(first(source))
    x = x - ops.mean(ops.reshape(x, (1, -1, 1, 4)), axis=1, keepdims=True)
    x = keras.layers.Conv2D(4, 3)(x)
    model = keras.Model(source, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"by itself.*\(Subtract\)"):
        ec2t_tf.apply(model, verbose=0)


@pytest.mark.parametrize("key", APART)
def test_a_batch_that_is_only_moved_is_taken(key: str) -> None:
    assert ec2t_tf.apply(_model(APART[key]), verbose=0).ec2t_report.of("ternary")


def test_half_precision_is_no_mixing() -> None:
    keras.utils.set_random_seed(0)
    source = keras.Input((8, 8, 3))
    x = source
    for _ in range(8):
        x = keras.layers.Conv2D(24, 3, padding="same", dtype="mixed_bfloat16")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(x)
    model = keras.Model(source, keras.layers.Dense(3)(x))
    assert len(ec2t_tf.apply(model, verbose=0).ec2t_report.of("ternary")) == 7


OF_TENSORFLOW: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: tf.nn.softmax(x, axis=0),
    "reverse": lambda x: tf.reverse(x, [0]),
    "transpose": lambda x: tf.matmul(tf.matmul(x, tf.transpose(x)), x),
}


@pytest.mark.parametrize("key", OF_TENSORFLOW)
def test_tf_keras(key: str) -> None:
    source = tf_keras.Input((8,))
    x = tf_keras.layers.Dense(8)(tf_keras.layers.Dense(8)(source))
    model = tf_keras.Model(source, tf_keras.layers.Dense(3)(OF_TENSORFLOW[key](x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"by itself.*\(TFOpLambda\)"):
        ec2t_tf.apply(model, verbose=0)


def test_mixes_follows_the_batch_along_any_axis() -> None:
    two = np.arange(24.0).reshape(3, 2, 4)
    assert not mixes([two], [two[:, :1]])
    assert mixes([two], [two[:, 1:]])
    assert not mixes([two], [two[:, :1] + 1e-3])
    assert not mixes([two.astype(int)], [two[:, 1:].astype(int)])  # sizes of the batch, say
