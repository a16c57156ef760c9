"""Ordinary Keras 3 nets with a free batch, converted by TensorFlow, against LiteRT's reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mcu import many_nets, tf_converter

keras = pytest.importorskip("keras")
layers = keras.layers


def flatten_cnn() -> Any:
    return keras.Sequential(
        [
            keras.Input((20, 20, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(16, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def gesture() -> Any:
    return keras.Sequential(
        [
            keras.Input((64, 3)),
            layers.Conv1D(8, 5, strides=2, activation="relu", padding="same"),
            layers.MaxPooling1D(2),
            layers.Conv1D(16, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def reshaped() -> Any:
    return keras.Sequential(
        [
            keras.Input((90,)),
            layers.Reshape((30, 3)),
            layers.Conv1D(6, 3, activation="relu"),
            layers.Dense(5, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def squeeze_and_excite() -> Any:
    x = given = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(4, activation="relu")(gate)
    gate = layers.Dense(8, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU()(x)
    return keras.Model(given, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))


def transposed() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(2, 2, strides=2),
            layers.Conv2D(1, 1, activation="sigmoid"),
        ]
    )


def u_net() -> Any:
    given = keras.Input((16, 16, 3))
    a = layers.Conv2D(6, 3, padding="same", activation="relu")(given)
    b = layers.Conv2D(8, 3, padding="same", strides=2, activation="relu")(a)
    b = layers.Conv2D(8, 3, padding="same", activation="relu")(b)
    up = layers.UpSampling2D(2)(b)
    x = layers.Concatenate()([a, up])
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(x))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(given, layers.Conv2D(2, 1, activation="softmax")(x))


def two_heads() -> Any:
    given = keras.Input((10, 10, 2))
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(given)
    x = layers.Flatten()(x)
    return keras.Model(given, [layers.Dense(3, activation="softmax")(x), layers.Dense(4)(x)])


def audio() -> Any:
    return keras.Sequential(
        [
            keras.Input((320, 1)),
            layers.Conv1D(6, 16, strides=4, activation="relu"),
            layers.Conv1D(8, 8, strides=4, activation="relu", padding="same"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(5),
        ]
    )


def parametric() -> Any:
    return keras.Sequential(
        [
            keras.Input((10, 9, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(5, 3),
            layers.PReLU(shared_axes=[1, 2], alpha_initializer="random_uniform"),
            layers.SeparableConv2D(6, 3, activation="relu6"),
            layers.Cropping2D(1),
            layers.Flatten(),
            layers.Dense(3, activation="tanh"),
        ]
    )


def normalised() -> Any:
    norm = layers.BatchNormalization()
    net = keras.Sequential(
        [keras.Input((8, 8, 3)), norm, layers.Activation("relu"), layers.Conv2D(4, 3, groups=1)]
    )
    norm.set_weights(
        [np.array(v, np.float32) for v in ([0.5, 2, 1], [0.1, -0.2, 0.3], [0, 0.4, -1], [1, 2, 3])]
    )
    return net


def image() -> Any:
    return keras.Sequential(
        [
            keras.Input((160, 160, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(12, 1, activation="relu"),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def sequence() -> Any:
    return keras.Sequential(
        [
            keras.Input((6, 5)),
            layers.LSTM(8, return_sequences=True, unroll=True),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def residual() -> Any:
    given = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(given)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization()(x))
    y = layers.Conv2D(6, 3, padding="same", activation="swish")(x)
    x = layers.Add()([x, y])
    z = layers.Subtract()([x, layers.Conv2D(6, 1)(x)])
    x = layers.Maximum()([x, z])
    x = layers.Permute((2, 1, 3))(x)
    x = layers.Rescaling(0.5, offset=0.25)(x)
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


FAST = (flatten_cnn, squeeze_and_excite, two_heads)
SLOW = (
    *(gesture, reshaped, transposed, u_net, audio, parametric, normalised, image, sequence),
    residual,
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [*FAST, *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)],
    ids=lambda m: m.__name__,
)
def test_equals_the_reference(tmp_path: Path, make: Callable[[], Any]) -> None:
    keras.utils.set_random_seed(1)
    model = tf_converter.convert(make())
    values = many_nets.inputs(model, 6, seed=1)
    want = many_nets.reference(model, values)
    assert want.std() > 2
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert not many_nets.differences([make.__name__], [got], [want])
