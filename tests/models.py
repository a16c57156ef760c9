"""Small networks and training that tests share."""

from __future__ import annotations

import re

import numpy as np
import tf_keras
from tf_keras import layers

IMAGE = (8, 8, 2)
CLASSES = 4


def options_id(options: object) -> str:
    """A test's name for its options: no addresses, so that every process has the same names."""
    return re.sub(r" (object )?at 0x[0-9a-f]+", "", str(options))


def convolutional(seed: int = 0, *, normalised: bool = True) -> tf_keras.Model:
    """conv - conv (- BN) - ReLU, a shortcut with addition, pooling, two dense layers."""
    tf_keras.utils.set_random_seed(seed)
    inputs = layers.Input(IMAGE, name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    y = layers.Conv2D(4, 3, padding="same", use_bias=not normalised, name="middle")(x)
    if normalised:
        y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.Add(name="add")([x, y])
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    y = layers.Dense(6, activation="relu", name="hidden")(y)
    return tf_keras.Model(inputs, layers.Dense(CLASSES, name="last")(y), name="small")


def sequential(seed: int = 0) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [
            layers.InputLayer(IMAGE),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Flatten(name="flatten"),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.Dense(CLASSES, name="last"),
        ],
        name="sequential",
    )


def examples(count: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose label is the brightest quadrant: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, *IMAGE)).astype(np.float32)
    labels = rng.integers(0, CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 2.0
    return images, labels


def compiled(
    model: tf_keras.Model,
    optimizer: str | tf_keras.optimizers.Optimizer = "adam",
    *,
    run_eagerly: bool = False,
) -> tf_keras.Model:
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=run_eagerly)
    return model


def trained(model: tf_keras.Model, epochs: int = 1, seed: int = 0) -> tf_keras.Model:
    images, labels = examples(seed=seed)
    few = epochs <= 2  # steps cost less than tracing them does
    compiled(model, run_eagerly=few).fit(
        images, labels, batch_size=32, epochs=epochs, shuffle=False, verbose=0
    )
    return model
