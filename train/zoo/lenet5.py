"""LeNet-5 with ReLU and max pooling, 61,706 parameters at 28x28x1 (docs/specification.md)."""

from __future__ import annotations

import keras
from keras import layers


def lenet5(*, input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """conv5x5(6) - pool - conv5x5(16) - pool - 120 - 84 - classes.

    The first convolution pads (28 stays 28), the second does not; images must be at least 12 pixels
    high and wide. Flattening is in (height, width, channel) order.
    """
    if min(input_shape[:2]) < 12:
        raise ValueError(
            "lenet5 requires images of at least 12x12 pixels. "
            f"Received: input_shape={input_shape}. Use --model=resnet8."
        )
    return keras.Sequential(
        [
            layers.InputLayer(input_shape),
            layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(16, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(120, activation="relu", name="fc1"),
            layers.Dense(84, activation="relu", name="fc2"),
            layers.Dense(classes, name="fc3"),
        ],
        name="lenet5",
    )
