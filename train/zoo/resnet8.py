"""ResNet-8 as in MLPerf Tiny's image classification: 3 stages of one block, 16/32/64 channels."""

from __future__ import annotations

import keras
from keras import layers

Tensor = object  # symbolic Keras tensor


def resnet8(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
) -> keras.Model:
    """Post-activation blocks with a 1x1 convolution where the shape changes; 78,666 parameters at
    32x32x3. The output is logits, where MLPerf's has a softmax.

    `width` multiplies 16, 32, 64 channels; with 2.5 it is MLPerf Tiny's larger image net.
    """
    first, *stages = (max(1, round(channels * width)) for channels in (16, 16, 32, 64))

    def convolution(x: Tensor, filters: int, size: int, stride: int, name: str) -> Tensor:
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            name=name,
        )(x)

    inputs = layers.Input(input_shape, name="image")
    x = convolution(inputs, first, 3, 1, "conv1")
    x = layers.BatchNormalization(momentum=0.9, name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    for stage, filters in enumerate(stages, start=1):
        stride = 1 if stage == 1 else 2
        shortcut = x
        x = convolution(x, filters, 3, stride, f"stage{stage}_conv1")
        x = layers.BatchNormalization(momentum=0.9, name=f"stage{stage}_bn1")(x)
        x = layers.ReLU(name=f"stage{stage}_relu1")(x)
        x = convolution(x, filters, 3, 1, f"stage{stage}_conv2")
        x = layers.BatchNormalization(momentum=0.9, name=f"stage{stage}_bn2")(x)
        if stride != 1:
            shortcut = convolution(shortcut, filters, 1, stride, f"stage{stage}_shortcut")
        x = layers.Add(name=f"stage{stage}_add")([x, shortcut])
        x = layers.ReLU(name=f"stage{stage}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(classes, kernel_initializer="he_normal", name="classifier")(x)
    return keras.Model(inputs, outputs, name="resnet8")
