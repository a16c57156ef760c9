"""MicroNet-C10/C100: the super-network EC2T was made with (docs/specification.md).

`compound_scale(micronet, depth=1.4, width=1.2, phi=3.5)` gives the published net: 23 blocks a
stage, 32/64/120 channels, 8,002,368 weights in the convolutions of its blocks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from ec2t_tf.supernet import round_blocks, round_channels

BLOCKS = 7
CHANNELS = (16, 32, 64)


def micronet(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    depth: float = 1.0,
    width: float = 1.0,
    dropout: float = 0.2,
) -> keras.Model:
    """Three stages of pre-activation blocks, PyramidNet-like: BN - conv - BN - ReLU - dropout -
    conv - BN, no ReLU after the addition and none before the first BN.

    Args:
      input_shape: (height, width, channels) of the images.
      classes: number of logits.
      depth: blocks a stage, 7 x depth rounded up.
      width: channels, (16, 32, 64) x width rounded to multiples of 8.
      dropout: rate inside the blocks.
    """

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")

    def convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        padding = "same"
        if stride != 1:
            # Stride 2 pads one pixel on every side; Keras's "same" pads right and below only.
            padding = "valid"
            if size != 1:
                x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=initializer(),
            name=name,
        )(x)

    def normalisation(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    channels = [round_channels(width * stage) for stage in CHANNELS]
    inputs = layers.Input(input_shape, name="image")
    x = normalisation(convolution(inputs, channels[0], 3, 1, "conv1"), "bn1")
    x = layers.ReLU(name="relu1")(x)
    for stage, filters in enumerate(channels, start=1):
        for block in range(round_blocks(depth * BLOCKS)):
            name = f"stage{stage}_{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if stride != 1 or x.shape[-1] != filters:
                shortcut = convolution(shortcut, filters, 1, stride, f"{name}_shortcut")
                shortcut = normalisation(shortcut, f"{name}_shortcut_bn")
            x = normalisation(x, f"{name}_bn1")
            x = normalisation(convolution(x, filters, 3, stride, f"{name}_conv1"), f"{name}_bn2")
            x = layers.Dropout(dropout, name=f"{name}_dropout")(layers.ReLU(name=f"{name}_relu")(x))
            x = normalisation(convolution(x, filters, 3, 1, f"{name}_conv2"), f"{name}_bn3")
            x = layers.Add(name=f"{name}_add")([x, shortcut])
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="relu_last")(x))
    outputs = layers.Dense(classes, kernel_initializer=initializer(), name="linear")(x)
    return keras.Model(inputs, outputs, name="micronet")
