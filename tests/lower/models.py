"""Nets of all kinds for the way from `apply` to the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers


def head(x: Any, classes: int = 5) -> Any:
    return layers.Dense(classes, name="last")(layers.GlobalAveragePooling2D(name="gap")(x))


def conv(filters: int, name: str, activation: Any = None, size: int = 3, **options: Any) -> Any:
    return layers.Conv2D(filters, size, padding="same", activation=activation, name=name, **options)


def start() -> tuple[Any, Any]:
    source = keras.Input((12, 12, 3), name="image")
    return source, conv(8, "first", "relu")(source)


def concatenation() -> keras.Model:
    source, x = start()
    b = layers.BatchNormalization(name="bnb")(conv(5, "b")(x))
    joined = layers.Concatenate(name="cat")([conv(6, "a", "relu")(x), layers.ReLU()(b)])
    return keras.Model(source, head(conv(8, "c", "relu")(joined)))


def concatenation_with_other_users() -> keras.Model:
    source, x = start()
    y = layers.Concatenate(name="cat")([x, conv(8, "a", "relu")(x)])
    pooled = layers.MaxPooling2D(name="p")(y)
    z = layers.Concatenate(name="cat2")([pooled, conv(4, "d", strides=2)(y)])
    return keras.Model(source, head(conv(8, "c", "relu")(z)))


def squeeze_and_excitation() -> keras.Model:
    source, x = start()
    s = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    s = conv(8, "up", "sigmoid", 1)(conv(4, "down", "relu", 1)(s))
    y = layers.Multiply(name="scale")([x, s])
    return keras.Model(source, head(conv(8, "c", "relu")(y)))


def softmax() -> keras.Model:
    source, x = start()
    return keras.Model(source, layers.Softmax(name="soft")(head(conv(8, "c", "relu")(x), 7)))


def sigmoid_and_tanh() -> keras.Model:
    source, x = start()
    x = layers.Flatten(name="f")(conv(4, "c", "tanh")(x))
    x = layers.Dense(6, activation="relu", name="d")(x)
    return keras.Model(source, layers.Dense(4, activation="sigmoid", name="last")(x))


def normalisation_alone() -> keras.Model:
    source, x = start()
    x = layers.BatchNormalization(name="alone")(layers.MaxPooling2D(name="p")(x))
    x = conv(8, "b", "relu")(layers.ReLU(name="r")(x))
    x = layers.BatchNormalization(name="alone2")(x)
    return keras.Model(source, head(conv(8, "c", "relu")(x)))


def average_pooling() -> keras.Model:
    source, x = start()
    x = conv(8, "b")(layers.AveragePooling2D(3, strides=2, name="p")(x))
    return keras.Model(source, head(conv(8, "c", "relu")(layers.AveragePooling2D(2)(x))))


def up_sampling() -> keras.Model:
    source, x = start()
    y = layers.UpSampling2D(2, name="u")(conv(8, "b", "relu", strides=2)(x))
    return keras.Model(source, head(conv(8, "c", "relu")(layers.Add(name="add")([x, y]))))


def transposed() -> keras.Model:
    source, x = start()
    y = conv(8, "b", "relu", strides=2)(x)
    y = layers.Conv2DTranspose(6, 3, strides=2, padding="same", name="t")(y)
    y = layers.Conv2DTranspose(4, 2, strides=2, activation="relu", name="t2")(y)
    return keras.Model(source, head(conv(8, "c", "relu")(y)))


def transposed_first() -> keras.Model:
    source = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", name="t")(source)
    return keras.Model(source, head(conv(8, "c", "relu")(x)))


def nested() -> keras.Model:
    entry = keras.Input((12, 12, 8))
    inner = conv(8, "in2")(conv(8, "in1", "relu")(entry))
    block = keras.Model(entry, layers.Add(name="add")([entry, inner]), name="block")
    source, x = start()
    chain = keras.Sequential([conv(8, "s1", "relu"), conv(8, "s2")], name="chain")
    chain.build((None, 12, 12, 8))
    return keras.Model(source, head(layers.ReLU(name="r")(chain(block(x)))))


def shared() -> keras.Model:
    source, x = start()
    entry = keras.Input((12, 12, 8))
    block = keras.Model(entry, conv(8, "in1", "relu")(entry), name="block")
    twice = conv(8, "c", "relu")
    return keras.Model(source, head(layers.Add(name="add")([block(twice(twice(x))), block(x)])))


def two_inputs_and_outputs() -> keras.Model:
    source, x = start()
    other = keras.Input((12, 12, 2), name="aux")
    y = layers.Add(name="add")([x, conv(8, "j", "relu")(other)])
    y = conv(8, "inner", "relu")(y)
    pooled = layers.GlobalAveragePooling2D(name="g")(y)
    return keras.Model([source, other], [layers.Dense(3, name="zz")(pooled), conv(2, "box")(y)])


def sequence() -> keras.Model:
    source = keras.Input((20, 6), name="sound")
    x = layers.Conv1D(8, 3, padding="causal", activation="relu", name="c1")(source)
    x = layers.SeparableConv1D(8, 3, dilation_rate=2, padding="same", name="c2")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling1D(2)(layers.Conv1D(8, 3, activation="silu", name="c3")(x))
    return keras.Model(source, layers.Dense(4, name="last")(layers.GlobalAveragePooling1D()(x)))


NETS: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        *(concatenation, concatenation_with_other_users, squeeze_and_excitation, softmax),
        *(sigmoid_and_tanh, normalisation_alone, average_pooling, up_sampling, transposed),
        *(transposed_first, nested, shared, two_inputs_and_outputs, sequence),
    )
}


def wilder(model: keras.Model, random: np.random.Generator) -> None:
    """Normalisations as after a training: gains of both signs, one of 0, averages of their own."""
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            n = layer.moving_mean.shape[0]
            gamma = random.normal(1, 0.3, n) * np.where(random.random(n) < 0.2, -1, 1)
            gamma[0] = 0
            own = [gamma] if layer.scale else []
            own += [random.normal(0, 0.3, n)] if layer.center else []
            layer.set_weights([*own, random.normal(0, 0.1, n), random.uniform(0.5, 2, n)])


def data_for(model: keras.Model, random: np.random.Generator, count: int) -> list[np.ndarray]:
    return [
        random.integers(0, 8, (count, *x.shape[1:])).astype(
            keras.backend.standardize_dtype(x.dtype)
        )
        if "int" in str(x.dtype)
        else random.normal(size=(count, *x.shape[1:])).astype(np.float32)
        for x in model.inputs
    ]


def trained(
    model: keras.Model, *, steps: int = 3, optimizer: Any = None, **options: Any
) -> tuple[Any, list[np.ndarray]]:
    """What `apply` makes of a model after a few steps on noise, and inputs for it."""
    import ec2t_tf

    random = np.random.default_rng(0)
    wilder(model, random)
    made = ec2t_tf.apply(model, verbose=0, **options)
    inputs = data_for(model, random, 64)
    shapes = [x.shape[1:] for x in made.outputs]
    if any(None in shape for shape in shapes):
        shapes = [x.shape[1:] for x in keras.tree.flatten(made(_one(inputs)))]
    targets = [random.normal(size=(64, *shape)).astype(np.float32) for shape in shapes]
    optimizer = keras.optimizers.Adam(1e-3) if optimizer is None else optimizer
    made.compile(optimizer, "mse", run_eagerly=True)  # a few steps: no tracing
    for _ in range(steps):
        made.train_on_batch(_one(inputs), _one(targets))
    return made, inputs


def _one(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]
