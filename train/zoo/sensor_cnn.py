"""A small 1-D network for windows of sensor data."""

from __future__ import annotations

import keras
from keras import layers

WIDTHS = (32, 64, 64)


def sensor_cnn(
    *, input_shape: tuple[int, ...] = (100, 6), classes: int = 7, width: float = 1.0
) -> keras.Model:
    """Three convolutions over 5 samples, each halving the time. Output: logits.

    Inputs are (samples, axes), at least 16 samples.
    """
    if len(input_shape) != 2 or input_shape[0] < 16:
        raise ValueError(
            "sensor_cnn requires windows (samples, axes) of at least 16 samples. "
            f"Received: input_shape={input_shape}. Use --dataset=watch or --dataset=recordings."
        )
    x = inputs = layers.Input(input_shape, name="window")
    for number, full in enumerate(WIDTHS):
        filters, name = max(1, round(full * width)), f"conv{number}"
        x = layers.Conv1D(filters, 5, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling1D(2, name=f"{name}_pool")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(classes, name="classifier")(x), name="sensor_cnn")
