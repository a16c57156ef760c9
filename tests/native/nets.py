"""Small Keras 3 nets that tests share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

IMAGE = (8, 8, 3)
CLASSES = 4


def convolutional(seed: int = 0) -> keras.Model:
    """conv - conv - BN - ReLU, a shortcut with addition, pooling, two dense layers."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(IMAGE, name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="middle")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.Add(name="add")([x, y])
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    y = layers.Dense(8, activation="relu", name="hidden")(y)
    return keras.Model(inputs, layers.Dense(CLASSES, name="last")(y), name="small")


def nested(seed: int = 0) -> keras.Model:
    """Two inputs, two outputs, a nested model and a layer used twice, keras.ops between layers."""
    keras.utils.set_random_seed(seed)
    block = keras.Sequential(
        [
            layers.Conv2D(6, 3, padding="same", use_bias=False, name="inner"),
            layers.BatchNormalization(name="norm"),
            layers.Activation("hard_silu", name="swish"),
        ],
        name="block",
    )
    image, other = keras.Input(IMAGE, name="image"), keras.Input(IMAGE, name="other")
    first = layers.Conv2D(6, 3, padding="same", name="first")
    x, z = first(image), first(other)
    x = block(x) + x
    x = layers.Concatenate(name="both")([x, block(z)])
    gate = ops.mean(x, axis=(1, 2), keepdims=True)
    x = x * layers.Conv2D(12, 1, activation="hard_sigmoid", name="gate")(gate)
    x = layers.SeparableConv2D(8, 3, activation="relu", name="separable")(x)
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(2, name="average")(x))
    heads = [
        layers.Dense(3, name="logits")(x),
        layers.Dense(CLASSES, activation="softmax", name="shares")(x),
    ]
    return keras.Model({"image": image, "other": other}, heads, name="nested")


def sequence(seed: int = 0) -> keras.Model:
    """1-D convolutions and a dense layer before a batch normalisation."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((16, 4), name="signal"),
            layers.Conv1D(6, 3, padding="same", name="first"),
            layers.BatchNormalization(name="norm1"),
            layers.ReLU(name="relu1"),
            layers.Conv1D(6, 3, padding="causal", name="second"),
            layers.MaxPooling1D(2, name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(8, name="hidden"),
            layers.BatchNormalization(name="norm2"),
            layers.ReLU(name="relu2"),
            layers.Dense(CLASSES, name="last"),
        ],
        name="sequence",
    )


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Averages and offsets as a training leaves them, in place."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            shapes = [weight.shape for weight in layer.weights]
            layer.set_weights([random.uniform(0.5, 1.5, shape) for shape in shapes])
    return model


def examples(model: keras.Model, count: int = 64, seed: int = 0) -> tuple[Any, Any]:
    """Inputs of the model's shapes, and labels that depend on their brightness."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    source = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(
        lambda x: random.normal(
            labels.reshape(-1, *[1] * (len(x.shape) - 1)), 1.0, (count, *x.shape[1:])
        ).astype(np.float32),
        source,
    )
    return inputs, [labels] * len(model.outputs) if len(model.outputs) > 1 else labels


def compiled(model: keras.Model, optimizer: Any = None, **options: Any) -> keras.Model:
    losses = [
        keras.losses.SparseCategoricalCrossentropy(from_logits="soft" not in x.name)
        for x in model.outputs
    ]
    model.compile(
        keras.optimizers.Adam(1e-3) if optimizer is None else optimizer,
        losses[0] if len(losses) == 1 else losses,
        **options,
    )
    return model
