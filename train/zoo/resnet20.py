"""ResNet-20 for CIFAR (He et al. 2016) with option-A shortcuts; 269,722 parameters."""

from __future__ import annotations

import keras
from keras import layers, ops

from ec2t_tf.supernet import round_blocks, round_channels

Tensor = object  # symbolic Keras tensor


def resnet20(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    depth: float = 1.0,
    width: float = 1.0,
) -> keras.Model:
    """3 stages of 3 post-activation blocks, 16/32/64 channels (docs/specification.md).

    Stride 2 pads one pixel on every side, as PyTorch does (Keras's "same" pads right and below).
    The shortcut takes every second pixel and pads the channels with zeros, half on each side.
    `depth` and `width` multiply blocks (rounded up) and channels (to multiples of 8).
    """

    def convolution(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
        if stride != 1:
            x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return layers.Conv2D(
            filters,
            3,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def normalisation(x: Tensor, name: str) -> Tensor:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    inputs = layers.Input(input_shape, name="image")
    channels = [round_channels(width * stage) for stage in (16, 32, 64)]
    x = convolution(inputs, channels[0], 1, "conv1")
    x = layers.ReLU(name="relu1")(normalisation(x, "bn1"))
    for stage, filters in enumerate(channels, start=1):
        for block in range(round_blocks(3 * depth)):
            name = f"layer{stage}_{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            x = convolution(x, filters, stride, f"{name}_conv1")
            x = layers.ReLU(name=f"{name}_relu1")(normalisation(x, f"{name}_bn1"))
            x = convolution(x, filters, 1, f"{name}_conv2")
            x = normalisation(x, f"{name}_bn2")
            if stride != 1:
                shortcut = layers.MaxPooling2D(1, strides=2, name=f"{name}_subsample")(shortcut)
                missing = filters - shortcut.shape[-1]
                pad = (missing // 2, missing - missing // 2)
                shortcut = ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), pad))
            x = layers.Add(name=f"{name}_add")([x, shortcut])
            x = layers.ReLU(name=f"{name}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(classes, kernel_initializer="he_normal", name="linear")(x)
    return keras.Model(inputs, outputs, name="resnet20")
