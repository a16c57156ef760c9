"""ResNet-18 for ImageNet (He et al. 2016), as in torchvision: 11,689,512 trainable parameters."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from ec2t_tf.supernet import round_blocks, round_channels

BLOCKS = 2
CHANNELS = (64, 128, 256, 512)


def resnet18(
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    depth: float = 1.0,
    width: float = 1.0,
) -> keras.Model:
    """Stem of 7x7 convolution and max pooling, four stages of post-activation blocks.

    Args:
      input_shape: (height, width, channels) of the images; at least 32 pixels high and wide.
      classes: number of logits.
      depth: blocks a stage, 2 x depth rounded up.
      width: channels, (64, 128, 256, 512) x width rounded to multiples of 8.
    """
    if min(input_shape[:2]) < 32:
        raise ValueError(
            "resnet18 requires images of at least 32x32 pixels. "
            f"Received: input_shape={input_shape}. Use --model=resnet8."
        )

    def convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        if size != 1:  # PyTorch pads both sides alike, Keras's "same" does not at stride 2
            x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def normalisation(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    channels = [round_channels(width * stage) for stage in CHANNELS]
    inputs = layers.Input(input_shape, name="image")
    x = normalisation(convolution(inputs, channels[0], 7, 2, "conv1"), "bn1")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(layers.ReLU(name="relu1")(x))
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, filters in enumerate(channels, start=1):
        for block in range(round_blocks(depth * BLOCKS)):
            name = f"layer{stage}_{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            x = normalisation(convolution(x, filters, 3, stride, f"{name}_conv1"), f"{name}_bn1")
            x = layers.ReLU(name=f"{name}_relu1")(x)
            x = normalisation(convolution(x, filters, 3, 1, f"{name}_conv2"), f"{name}_bn2")
            if stride != 1 or shortcut.shape[-1] != filters:
                shortcut = convolution(shortcut, filters, 1, stride, f"{name}_shortcut")
                shortcut = normalisation(shortcut, f"{name}_shortcut_bn")
            x = layers.Add(name=f"{name}_add")([x, shortcut])
            x = layers.ReLU(name=f"{name}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(classes, name="linear")(x)
    return keras.Model(inputs, outputs, name="resnet18")
