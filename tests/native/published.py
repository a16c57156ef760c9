"""Nets of the examples on keras.io, rebuilt from their descriptions for small inputs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


def separable_residual() -> keras.Model:
    """Image classification from scratch: rescaling, separable blocks with projected shortcuts."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(16, 3, 2, "same")(x)))
    before = x
    for size in (24, 32):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.BatchNormalization()(layers.SeparableConv2D(size, 3, padding="same")(x))
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.add([x, layers.Conv2D(size, 1, strides=2, padding="same")(before)])
        before = x
    x = layers.BatchNormalization()(layers.SeparableConv2D(40, 3, padding="same")(x))
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.25)(x)))


def speaker_recognition() -> keras.Model:
    """1-D residual blocks on the spectrum of a second of speech."""
    x = inputs = keras.Input((64, 1))
    for filters, convolutions in ((8, 2), (16, 2), (16, 3)):
        shortcut = layers.Conv1D(filters, 1, padding="same")(x)
        for _ in range(convolutions - 1):
            x = layers.Activation("relu")(layers.Conv1D(filters, 3, padding="same")(x))
        x = layers.Add()([layers.Conv1D(filters, 3, padding="same")(x), shortcut])
        x = layers.MaxPool1D(pool_size=2, strides=2)(layers.Activation("relu")(x))
    x = layers.Flatten()(layers.AveragePooling1D(pool_size=3, strides=3)(x))
    x = layers.Dense(32, activation="relu")(layers.Dense(48, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def captcha() -> keras.Model:
    """Text in images: convolutions, columns as steps, two bidirectional LSTMs."""
    x = inputs = keras.Input((32, 16, 1))
    for filters in (8, 16):
        x = layers.Conv2D(
            filters, 3, activation="relu", kernel_initializer="he_normal", padding="same"
        )(x)
        x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape(target_shape=(8, 4 * 16))(x)
    x = layers.Dropout(0.2)(layers.Dense(24, activation="relu")(x))
    for units in (12, 8):
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(x)
    return keras.Model(inputs, layers.Dense(11, activation="softmax")(x))


def discriminator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(32, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def generator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(4 * 4 * 16),
            layers.Reshape((4, 4, 16)),
            layers.Conv2DTranspose(16, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(24, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(3, kernel_size=5, padding="same", activation="sigmoid"),
        ]
    )


def curves() -> keras.Model:
    """Zero-DCE: symmetric concatenations, and curves applied to the image by arithmetic."""
    image = keras.Input((16, 16, 3))

    def convolution(x: Any, filters: int = 8, activation: str = "relu") -> Any:
        return layers.Conv2D(filters, 3, padding="same", activation=activation)(x)

    one = convolution(image)
    two = convolution(one)
    three = convolution(two)
    both = convolution(layers.Concatenate()([three, two]))
    r = convolution(layers.Concatenate()([both, one]), 6, "tanh")
    x = image
    for i in range(2):
        x = x + r[:, :, :, 3 * i : 3 * i + 3] * (ops.square(x) - x)
    return keras.Model(image, x)


def siamese() -> keras.Model:
    """Two images through one encoder; their distance, normalised."""
    encoder_input = keras.Input((12, 12, 1))
    x = layers.BatchNormalization()(encoder_input)
    x = layers.Conv2D(4, (5, 5), activation="tanh")(x)
    x = layers.AveragePooling2D(pool_size=(2, 2))(x)
    x = layers.BatchNormalization()(layers.Flatten()(layers.Conv2D(16, 3, activation="tanh")(x)))
    encoder = keras.Model(encoder_input, layers.Dense(10, activation="tanh")(x))
    one, other = keras.Input((12, 12, 1)), keras.Input((12, 12, 1))
    distance = ops.square(encoder(one) - encoder(other))
    distance = layers.BatchNormalization()(ops.sum(distance, axis=1, keepdims=True))
    return keras.Model([one, other], layers.Dense(1, activation="sigmoid")(distance))


def radiance() -> keras.Model:
    """NeRF: a deep MLP over positions, which are given once more in the middle."""
    x = inputs = keras.Input((32, 15))
    for i in range(6):
        x = layers.Dense(16, activation="relu")(x)
        if i == 3:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs, layers.Dense(4)(x))


def signals() -> keras.Model:
    """EEG: strided 1-D convolutions with normalisations, then wide regularised layers."""
    x = inputs = keras.Input((64, 1))
    for filters in (8, 8, 16, 16):
        x = layers.Conv1D(filters, 3, strides=2, activation="relu", padding="same")(x)
        x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.Dropout(0.2)(x))
    for units in (32, 16):
        x = layers.Dense(units, kernel_regularizer=keras.regularizers.L2())(x)
        x = layers.Dropout(0.2)(layers.LeakyReLU()(x))
    return keras.Model(inputs, layers.Dense(8, activation="softmax")(x))


def sentiment() -> keras.Model:
    """Bidirectional LSTMs on the words of a review."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(100, 16)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(8))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


NETS = {
    net.__name__: net
    for net in (
        *(separable_residual, speaker_recognition, captcha, discriminator, generator, curves),
        *(siamese, radiance, signals, sentiment),
    )
}
