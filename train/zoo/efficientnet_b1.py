"""EfficientNet-B1 (Tan and Le, ICML 2019): 7,794,184 trainable parameters at 240x240x3.

Not `keras.applications.EfficientNetB1`: that one cannot be scaled, and it carries its own
preprocessing layers, which an int8 file does not want.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import layers

from ec2t_tf.supernet import round_blocks, round_channels

DEPTH = 1.1  # B1's own factor over the B0 table below; its width factor is 1


class Stage(NamedTuple):
    """A row of the B0 table: blocks, kernel size, stride of the first block, expansion, channels"""

    blocks: int
    size: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_b1(
    *,
    input_shape: tuple[int, int, int] = (240, 240, 3),
    classes: int = 1000,
    depth: float = 1.0,
    width: float = 1.0,
    dropout: float = 0.2,
    drop_connect: float = 0.2,
) -> keras.Model:
    """Inverted bottlenecks with squeeze-and-excitation and swish.

    Args:
      input_shape: (height, width, channels) of the images; at least 32 pixels high and wide.
      classes: number of logits.
      depth: multiplies B1's blocks a stage (rounded up).
      width: multiplies B1's channels (rounded to multiples of 8).
      dropout: rate before the classifier.
      drop_connect: rate at which the last block is left out while training; earlier blocks less.
    """
    if min(input_shape[:2]) < 32:
        raise ValueError(
            "efficientnet_b1 requires images of at least 32x32 pixels. "
            f"Received: input_shape={input_shape}. Use --model=resnet8."
        )

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")

    def convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer(),
            name=name,
        )(x)

    def normalisation(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)(x)

    def swish(x: Any, name: str) -> Any:
        return layers.Activation("swish", name=name)(x)

    def squeeze_excite(x: Any, squeezed: int, name: str) -> Any:
        channels = x.shape[-1]
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
        gate = layers.Conv2D(squeezed, 1, kernel_initializer=initializer(), name=f"{name}_reduce")(
            gate
        )
        gate = layers.Conv2D(channels, 1, kernel_initializer=initializer(), name=f"{name}_expand")(
            swish(gate, f"{name}_swish")
        )
        gate = layers.Activation("sigmoid", name=f"{name}_sigmoid")(gate)
        return layers.Multiply(name=f"{name}_excite")([x, gate])

    def block(x: Any, stage: Stage, stride: int, rate: float, name: str) -> Any:
        inputs, channels = x, x.shape[-1]
        if stage.expansion != 1:
            x = convolution(x, channels * stage.expansion, 1, 1, f"{name}_expand")
            x = swish(normalisation(x, f"{name}_expand_bn"), f"{name}_expand_swish")
        x = layers.DepthwiseConv2D(
            stage.size,
            strides=stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=initializer(),
            name=f"{name}_depthwise",
        )(x)
        x = swish(normalisation(x, f"{name}_bn"), f"{name}_swish")
        x = squeeze_excite(x, max(1, channels // 4), f"{name}_se")
        filters = round_channels(width * stage.channels)
        x = normalisation(convolution(x, filters, 1, 1, f"{name}_project"), f"{name}_project_bn")
        if stride == 1 and filters == channels:
            x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
            x = layers.Add(name=f"{name}_add")([x, inputs])
        return x

    repeats = [round_blocks(DEPTH * depth * stage.blocks) for stage in STAGES]
    inputs = layers.Input(input_shape, name="image")
    x = convolution(inputs, round_channels(width * 32), 3, 2, "stem")
    x = swish(normalisation(x, "stem_bn"), "stem_swish")
    done = 0
    for number, (stage, blocks) in enumerate(zip(STAGES, repeats, strict=True), start=1):
        for index in range(blocks):
            stride = stage.stride if index == 0 else 1
            x = block(x, stage, stride, drop_connect * done / sum(repeats), f"b{number}_{index}")
            done += 1
    x = normalisation(convolution(x, round_channels(width * 1280), 1, 1, "head"), "head_bn")
    x = layers.GlobalAveragePooling2D(name="pool")(swish(x, "head_swish"))
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(
        classes,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform"),
        name="classifier",
    )(x)
    return keras.Model(inputs, outputs, name="efficientnet_b1")
