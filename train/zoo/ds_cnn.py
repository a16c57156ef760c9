"""DS-CNN for spoken words, as in MLPerf Tiny's keyword spotting (Zhang et al. 2017)."""

from __future__ import annotations

import keras
from keras import layers

BLOCKS, WIDTH = 4, 64


def ds_cnn(
    *,
    input_shape: tuple[int, ...] = (32, 48, 1),
    classes: int = 12,
    depth: float = 1.0,
    width: float = 1.0,
) -> keras.Model:
    """A 4x10 convolution, then pairs of a depthwise 3x3 and a 1x1 convolution. Output: logits.

    Features are (bands, frames, 1). The first convolution steps by 4 bands and 2 frames, which
    leaves 8x24 positions of 32x48 features; MLPerf's net has 25x5 of 49x10. `width` multiplies 64
    channels, `depth` 4 pairs.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 8:
        raise ValueError(
            "ds_cnn requires features (bands, frames, 1) of at least 8x8. "
            f"Received: input_shape={input_shape}. Use --dataset=spoken_digit."
        )
    channels = max(1, round(WIDTH * width))

    def finished(x: object, name: str) -> object:
        return layers.ReLU(name=f"{name}_relu")(
            layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        )

    inputs = layers.Input(input_shape, name="features")
    x = layers.Conv2D(channels, (4, 10), (4, 2), padding="same", use_bias=False, name="stem")(
        inputs
    )
    x = layers.Dropout(0.1, name="stem_dropout")(finished(x, "stem"))
    for block in range(max(1, round(BLOCKS * depth))):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{block}")(x)
        x = finished(x, f"depthwise{block}")
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"pointwise{block}")(x)
        x = finished(x, f"pointwise{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(classes, name="classifier")(x), name="ds_cnn")
