"""MobileNetV1 at a quarter of its width, as in MLPerf Tiny's wake words (Howard et al. 2017)."""

from __future__ import annotations

import keras
from keras import layers

# (channels of the pointwise convolution at width 1, stride of the depthwise one)
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
BLOCKS += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
ALPHA = 0.25


def mobilenet(
    *, input_shape: tuple[int, ...] = (96, 96, 3), classes: int = 2, width: float = 1.0
) -> keras.Model:
    """13 pairs of a depthwise 3x3 and a 1x1 convolution. Output: logits.

    `width` multiplies MLPerf's quarter: 8 to 256 channels at 1. Images must be at least 32 pixels
    high and wide.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 32:
        raise ValueError(
            "mobilenet requires images of at least 32x32 pixels. "
            f"Received: input_shape={input_shape}. Use --model=resnet8."
        )

    def channels(full: int) -> int:
        return max(1, round(full * ALPHA * width))

    def finished(x: object, name: str) -> object:
        return layers.ReLU(name=f"{name}_relu")(
            layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        )

    inputs = layers.Input(input_shape, name="image")
    x = layers.Conv2D(channels(32), 3, 2, padding="same", use_bias=False, name="stem")(inputs)
    x = finished(x, "stem")
    for number, (full, stride) in enumerate(BLOCKS):
        name = f"depthwise{number}"
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)(x)
        x = finished(x, name)
        name = f"pointwise{number}"
        x = layers.Conv2D(channels(full), 1, use_bias=False, name=name)(x)
        x = finished(x, name)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="classifier")(x), name="mobilenet")
