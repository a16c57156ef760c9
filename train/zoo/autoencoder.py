"""A fully connected autoencoder, as in MLPerf Tiny's anomaly detection (Purohit et al. 2019)."""

from __future__ import annotations

import math

import keras
from keras import layers

WIDTH, BOTTLENECK, DEPTH = 128, 8, 4


def autoencoder(
    *, input_shape: tuple[int, ...] = (640,), classes: int = 640, width: float = 1.0
) -> keras.Model:
    """Four layers, 8 values, four layers, and as many outputs as the input has values, flat.

    Args:
      input_shape: of any rank.
      classes: number of outputs, which must be the number of values of an input.
      width: multiplies 128 channels; the 8 values in the middle stay.
    """
    if classes != math.prod(input_shape):
        raise ValueError(
            "autoencoder reproduces its input, so it must have as many outputs. Received: "
            f"input_shape={input_shape}, classes={classes}. Pass --leave_out=CLASS with it."
        )
    channels = max(1, round(WIDTH * width))
    sizes = [*([channels] * DEPTH), BOTTLENECK, *([channels] * DEPTH)]
    x = inputs = layers.Input(input_shape, name="values")
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for number, size in enumerate(sizes):
        name = f"dense{number}"
        x = layers.Dense(size, use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(inputs, layers.Dense(classes, name="reproduced")(x), name="autoencoder")
