"""Small int8 .tflite files with ternary weights, made by TensorFlow's own converter.

The weights are random, seeded and ternary ({-w_n, 0, +w_p} per layer, batch-norm gains of either
sign), so after the converter has folded the batch norms every ternary layer has at most three
codes in each output channel. `python -m tests.tflite.nets FOLDER` writes them all; the fixture
`int8_nets` does it once and keeps them in pytest's cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20
SPARSITY = 0.8
NAMES = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2", "off_grid")


def ternary(rng: np.random.Generator, shape: tuple[int, ...], ratio: float) -> np.ndarray:
    """Random {-ratio * w, 0, +w} weights with a share of `SPARSITY` zeros."""
    sign = rng.choice(
        (-ratio, 0.0, 1.0), size=shape, p=((1 - SPARSITY) / 2, SPARSITY, (1 - SPARSITY) / 2)
    )
    fan_in = max(1.0, np.prod(shape) / max(shape[-1], 1) * (1 - SPARSITY))
    return (sign / np.sqrt(fan_in)).astype(np.float32)


def randomise(model: Any, *, ratio: float) -> None:
    """Random batch norms; ternary kernels, but in deep nets not for the first convolution."""
    rng = np.random.default_rng(SEED)
    kernels = [
        layer
        for layer in model.layers
        if layer.weights and "kernel" in " ".join(weight.name for weight in layer.weights)
    ]
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            width = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, width) * rng.choice((-1, 1, 1, 1), width),
                    rng.normal(0, 0.3, width),
                    rng.normal(0, 0.2, width),
                    rng.uniform(0.5, 1.5, width),
                ]
            )
        elif layer in kernels:
            values = layer.get_weights()
            shape = values[0].shape
            dense = layer is kernels[0] and len(kernels) > 5
            fan_in = np.prod(shape) / shape[-1]
            values[0] = (
                rng.normal(0, 1 / np.sqrt(fan_in), shape) if dense else ternary(rng, shape, ratio)
            )
            if len(values) > 1:
                values[1] = rng.normal(0, 0.1, values[1].shape)
            layer.set_weights(values)


def architecture(name: str) -> Any:
    """The float tf_keras model called `name`."""
    import tf_keras
    from tf_keras import layers

    def conv(x: Any, filters: int, size: int = 3, stride: int = 1, *, relu: bool = True) -> Any:
        x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    def residual(x: Any, filters: int, stride: int) -> Any:
        y = conv(conv(x, filters, stride=stride), filters, relu=False)
        if stride != 1 or x.shape[-1] != filters:
            x = conv(x, filters, 1, stride, relu=False)
        return layers.ReLU()(layers.Add()([x, y]))

    if name in ("lenet5", "off_grid"):
        inputs = x = layers.Input((28, 28, 1))
        x = layers.Conv2D(6, 5, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(16, 5, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x)
        for width in (120, 84):
            x = layers.Dense(width, activation="relu")(x)
        return tf_keras.Model(inputs, layers.Dense(10)(x))
    if name in ("resnet8", "resnet20"):
        inputs = layers.Input((32, 32, 3))
        x = conv(inputs, 16)
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(1 if name == "resnet8" else 3):
                x = residual(x, filters, 2 if stage and not block else 1)
        x = layers.GlobalAveragePooling2D()(x)
        return tf_keras.Model(inputs, layers.Dense(10)(x))
    if name == "depthwise":
        inputs = layers.Input((24, 20, 3))
        x = conv(inputs, 16, stride=2)
        for filters, stride, dilation in ((24, 1, 1), (32, 2, 1), (32, 1, 2)):
            x = layers.DepthwiseConv2D(
                3, stride, padding="same", use_bias=False, dilation_rate=dilation
            )(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU(6.0)(x)
            x = conv(x, filters, 1)
        x = layers.Conv2D(24, 3, padding="valid", dilation_rate=2, use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Flatten()(x)
        return tf_keras.Model(inputs, layers.Dense(10)(x))
    if name == "mobilenet_v2":
        return tf_keras.applications.MobileNetV2(
            input_shape=(96, 96, 3),
            alpha=0.35,
            weights=None,
            classes=10,
            classifier_activation=None,
        )
    raise ValueError(f"name must be one of {', '.join(NAMES)}. Received: name={name!r}")


def int8_file(name: str) -> bytes:
    """The int8 .tflite of net `name` (post-training quantisation, 16 random inputs)."""
    import tensorflow as tf

    model = architecture(name)
    randomise(model, ratio=0.8 if name == "off_grid" else 5 / 7)
    rng = np.random.default_rng(SEED)
    shape = (1, *model.input_shape[1:])

    def samples() -> Any:
        for _ in range(16):
            yield [rng.normal(0, 1, shape).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def write_all(folder: Path) -> None:
    for name in NAMES:
        folder.joinpath(f"{name}.tflite").write_bytes(int8_file(name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_all(folder)
