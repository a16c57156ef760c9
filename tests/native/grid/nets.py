"""The nets of the grid, as a user of Keras 3 writes them, for small inputs; outputs are logits."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.native.nets import nested

CLASSES = 4


def _normalised(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(x))


def resnet8() -> keras.Model:
    """MLPerf Tiny's image classification: three stages of 16, 32, 64 channels."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = _normalised(layers.Conv2D(16, 3, padding="same")(inputs))
    for filters in (16, 32, 64):
        stride = 1 if filters == 16 else 2
        y = _normalised(layers.Conv2D(filters, 3, strides=stride, padding="same")(x))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if stride != 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="resnet8")


def ds_cnn() -> keras.Model:
    """MLPerf Tiny's keyword spotting: depthwise-separable blocks on 49 x 10 spectrograms."""
    x = inputs = keras.Input((49, 10, 1), name="image")
    x = _normalised(layers.Conv2D(64, (10, 4), strides=2, padding="same", use_bias=False)(x))
    x = layers.Dropout(0.2)(x)
    for _ in range(4):
        x = _normalised(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        x = _normalised(layers.Conv2D(64, 1, use_bias=False)(x))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(layers.Dropout(0.4)(x)))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="ds_cnn")


def mobilenet_v2() -> keras.Model:
    return keras.applications.MobileNetV2(
        input_shape=(32, 32, 3),
        alpha=0.35,
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
    )


def cnn_1d() -> keras.Model:
    """Sensor windows: three 1-D convolutions and two dense layers."""
    chain = [keras.Input((32, 6), name="signal")]
    for filters in (16, 32, 32):
        chain += [layers.Conv1D(filters, 5, padding="same"), layers.BatchNormalization()]
        chain += [layers.ReLU(), layers.MaxPooling1D(2)]
    chain += [layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(CLASSES)]
    return keras.Sequential(chain, name="cnn_1d")


NETS = {
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet_v2": mobilenet_v2,
    "cnn_1d": cnn_1d,
    "nested": nested,
}
