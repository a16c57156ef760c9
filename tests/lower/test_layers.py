"""Layers in a net, from `apply` to the file; what people write, and what is refused by name."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf.export.lower import lower
from ec2t_tf.export.tflite import write

from .models import trained
from .nets import differences, in_litert

IMAGE, SEQUENCE = (8, 8, 4), (9, 4)
Middle = Callable[[Any], Any]


def net(middle: Middle, shape: tuple[int, ...] = IMAGE) -> keras.Model:
    """The layers under test between a first and a last one, which stay int8."""
    source = keras.Input(shape, name="x")
    first: Any = layers.Conv2D if len(shape) == 3 else layers.Conv1D
    x = middle(first(6, 3, name="first")(source))
    if len(x.shape) > 2:
        x = layers.Flatten()(x)
    return keras.Model(source, layers.Dense(5, name="last")(x))


def conv(**options: Any) -> Any:
    return layers.Conv2D(8, 3, **options)


def relu(x: Any) -> Any:
    """Called like a built-in function, which it is not."""
    return ops.minimum(ops.relu(x), 0.5)


@keras.saving.register_keras_serializable(package="tests_lower")
class Doubled(layers.Layer):
    elementwise = True

    def call(self, x: Any) -> Any:
        return x * 2 + ops.sin(x)


@keras.saving.register_keras_serializable(package="tests_lower")
class Shifted(layers.Layer):
    moves_values_only = True

    def call(self, x: Any) -> Any:
        return ops.pad(ops.flip(x, 2), ((0, 0), (1, 0), (0, 0), (0, 0)))


@keras.saving.register_keras_serializable(package="tests_lower")
class AboveMean(layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.maximum(x, ops.mean(x, axis=-1, keepdims=True))


@keras.saving.register_keras_serializable(package="tests_lower")
class Block(layers.Layer):
    """As people write a transformer's block."""

    def __init__(self, width: int = 6, **options: Any) -> None:
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(2, width)
        self.wide = keras.Sequential([layers.Dense(2 * width, "relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.dropout = layers.Dropout(0.1)

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.norms[0](x + self.dropout(self.attention(x, x), training=training))
        return self.norms[1](y + self.wide(y))


class Excited(layers.Layer):
    """Not rebuildable: its config is its parents'. It reads the sizes of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = {"narrow": layers.Dense(3, "relu"), "wide": layers.Dense(width, "sigmoid")}
        self.block = keras.Sequential([layers.DepthwiseConv2D(3, padding="same")])

    def call(self, x: Any) -> Any:
        batch, _, _, channels = ops.shape(x)
        y = ops.reshape(ops.mean(x, axis=(1, 2)), (batch, 1, 1, channels))
        return self.block(x) * self.gate["wide"](self.gate["narrow"](y))


CASES: dict[str, tuple[Middle, tuple[int, ...]]] = {
    "a function called relu": (lambda x: conv(activation=relu)(x), IMAGE),
    "a lambda": (lambda x: conv(activation=lambda v: ops.minimum(ops.relu(v), 1.0))(x), IMAGE),
    "a layer as activation": (lambda x: conv(activation=layers.ReLU(6.0))(x), IMAGE),
    "an own layer of single values": (lambda x: Doubled()(conv()(x)), IMAGE),
    "an own layer that moves": (lambda x: Shifted()(conv()(x)), IMAGE),
    "an own layer of keras.ops": (lambda x: AboveMean()(conv()(x)), IMAGE),
    "Lambda": (lambda x: layers.Lambda(lambda v: v * 2 + 1)(conv()(x)), IMAGE),
    "Add of four": (lambda x: layers.Add()([conv()(x) for _ in range(4)]), IMAGE),
    "normalised along axis 1": (lambda x: layers.BatchNormalization(axis=1)(conv()(x)), IMAGE),
    "softmax of axis 1": (lambda x: layers.Softmax(axis=1)(conv()(x)), IMAGE),
    "split and multiplied": (lambda x: ops.multiply(*ops.split(conv()(x), 2, axis=-1)), IMAGE),
    "zero kernel": (lambda x: conv(kernel_initializer="zeros")(conv()(x)), IMAGE),
    "heads, normalised": (
        lambda x: layers.BatchNormalization()(
            layers.EinsumDense("abc,cde->abde", (7, 2, 3), bias_axes="de")(x)
        ),
        SEQUENCE,
    ),
    "steps as channels, normalised": (
        lambda x: layers.BatchNormalization()(layers.EinsumDense("abc,bd->adc", (4, 6))(x)),
        SEQUENCE,
    ),
    "output padding, normalised": (
        lambda x: layers.BatchNormalization()(
            layers.Conv2DTranspose(4, 3, 2, "same", output_padding=1)(x)
        ),
        IMAGE,
    ),
    "LSTM both ways": (
        lambda x: layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x),
        SEQUENCE,
    ),
    "LSTM": (lambda x: layers.LSTM(5, go_backwards=True)(x), SEQUENCE),
    "GRU": (lambda x: layers.GRU(5, return_sequences=True)(x), (5, 4)),
    "SimpleRNN": (lambda x: layers.SimpleRNN(5, return_sequences=True)(x), (5, 4)),
    "SimpleRNN, relu": (lambda x: layers.SimpleRNN(5, "relu", go_backwards=True)(x), (5, 4)),
    "LSTM, relu": (lambda x: layers.LSTM(5, "relu", return_sequences=True)(x), (5, 4)),
    "LSTM, hard": (
        lambda x: layers.LSTM(5, recurrent_activation="hard_sigmoid", use_bias=False)(x),
        (5, 4),
    ),
    "LSTM, of no activation": (lambda x: layers.LSTM(5, None, "tanh")(x), (5, 4)),
    "GRU, relu": (lambda x: layers.GRU(5, "relu", "hard_sigmoid")(x), (5, 4)),
    "cells": (
        lambda x: layers.RNN([layers.SimpleRNNCell(4), layers.LSTMCell(5, "sigmoid")])(x),
        (5, 4),
    ),
    "attention": (lambda x: layers.MultiHeadAttention(2, 4)(x, x), SEQUENCE),
    "attention of places": (
        lambda x: layers.MultiHeadAttention(2, 4)(x, layers.MaxPooling2D(2)(x)),
        (7, 8, 3),
    ),
    "attention along rows": (
        lambda x: layers.MultiHeadAttention(2, 4, attention_axes=(2,))(x, x),
        (7, 8, 3),
    ),
    "Attention": (
        lambda x: layers.Attention()([x, layers.Dense(6)(x[:, 1:]), x[:, 1:]]),
        SEQUENCE,
    ),
    "Dot of matrices": (
        lambda x: layers.Dot((1, 2))([layers.Dense(6)(x), layers.Permute((2, 1))(x)]),
        SEQUENCE,
    ),
    "Dot of a matrix and a vector": (
        lambda x: layers.Dot((2, 1))([layers.Dense(6)(x), x[:, 0]]),
        SEQUENCE,
    ),
    "Dot of unit vectors": (
        lambda x: layers.Dot(1, normalize=True)([layers.Dense(6)(x[:, 0]), x[:, 1]]),
        SEQUENCE,
    ),
    "an own layer of layers": (lambda x: Block()(Block()(x)), SEQUENCE),
    "an own layer without a config": (lambda x: Excited(6)(Excited(6)(x)), IMAGE),
    "padded with the lowest": (
        lambda x: layers.MaxPooling2D(3)(
            ops.pad(conv()(x), ((0, 0), (1, 1), (2, 1), (0, 0)), constant_values=-math.inf)
        ),
        IMAGE,
    ),
    "TimeDistributed": (
        lambda x: layers.TimeDistributed(layers.Conv1D(4, 3, activation="silu"))(
            layers.Reshape((7, 6, 1))(x)
        ),
        SEQUENCE,
    ),
}


def test_layers_of_an_own_layer_are_named_after_it() -> None:
    """In the report, and for a policy."""
    made = ec2t_tf.apply(net(lambda x: Block(name="block")(x), SEQUENCE), verbose=0)
    ternary = made.ec2t_report.of("ternary")
    assert len(ternary) == 6
    assert all(name.startswith("block_") for name in ternary)


def test_the_first_use_of_the_package() -> None:
    """No room is there only because another test has loaded it."""
    code = """
import keras, ec2t_tf
class Own(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(4)
    def call(self, x):
        return self.inner(x)
x = keras.Input((6,))
y = keras.layers.Dense(3)(Own()(keras.layers.Dense(5)(x)))
print(ec2t_tf.apply(keras.Model(x, y), verbose=0).ec2t_report.of("ternary"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "own_dense" in done.stdout, done.stderr


FAST = ("a function called relu", "LSTM", "LSTM, relu", "SimpleRNN", "attention")


@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES]
)
def test_zero_steps(case: str) -> None:
    keras.utils.set_random_seed(0)
    middle, shape = CASES[case]
    model, (data,) = trained(net(middle, shape))
    assert not model.ec2t_report.refused
    for rounding, (exact, from_keras) in differences(model, {"x": data[:8]}).items():
        assert exact == 0, rounding
        assert from_keras <= 3, rounding


class TestSpeechFeatures:
    """49 x 10 features: what listens to a sequence, trained, ternary inside, whole int8."""

    @staticmethod
    def follow(body: Callable[[Any], Any]) -> tuple[Any, float]:
        keras.utils.set_random_seed(0)
        source = keras.Input((49, 10), name="x")
        random = np.random.default_rng(0)
        labels = random.integers(0, 4, 256)
        tones = np.sin(np.arange(49)[:, None] * (1 + np.arange(4)) / 4).T  # one for each label
        x = random.normal(0, 0.5, (256, 49, 10)) + tones[labels][..., None]
        x = x.astype(np.float32)
        model = ec2t_tf.apply(
            keras.Model(source, layers.Dense(4, name="last")(body(source))), verbose=0
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(4e-3), loss, metrics=["accuracy"])
        model.fit(x, labels, epochs=6, batch_size=16, verbose=0)
        assert not model.ec2t_report.of("float")
        graph = lower(model)
        kinds = [o.kind for o in graph.operators]
        assert (kinds.count("QUANTIZE"), kinds.count("DEQUANTIZE")) >= (1, 1)
        assert sum(t.dtype == "float32" for t in graph.tensors) == 2  # input and output
        for rounding, (exact, _) in differences(model, {"x": x[:64]}, graph=graph).items():
            assert exact == 0, rounding
        file = in_litert(write(graph), {"x": x}, "xnnpack")[0]
        return model, float(np.mean(file.argmax(axis=1) == labels))

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
    def test_recurrent(self, kind: type) -> None:
        def body(x: Any) -> Any:
            return layers.Dense(16, activation="relu")(kind(16, name="recurrent")(x))

        model, accuracy = self.follow(body)
        assert "recurrent" in model.ec2t_report.of("ternary")
        assert accuracy > 0.9

    @pytest.mark.slow
    def test_transformer(self) -> None:
        def body(x: Any) -> Any:
            x = layers.Conv1D(16, 5, 2, "same", name="embed")(x)
            for number in range(2):
                y = layers.LayerNormalization(name=f"norm_{number}")(x)
                x = layers.Add()([x, layers.MultiHeadAttention(2, 8, name=f"mha_{number}")(y, y)])
                y = layers.LayerNormalization(name=f"second_norm_{number}")(x)
                y = layers.Dense(32, activation="gelu", name=f"wide_{number}")(y)
                x = layers.Add()([x, layers.Dense(16, name=f"narrow_{number}")(y)])
            return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))

        model, accuracy = self.follow(body)
        assert len(model.ec2t_report.of("ternary")) == 2 * 6
        assert accuracy > 0.9


class TestFloatParts:
    def test_by_a_rule(self) -> None:
        """Said before training, float in the file, QUANTIZE and DEQUANTIZE at its borders."""
        keras.utils.set_random_seed(0)
        middle = conv(name="mid", activation="relu")
        model, _ = trained(net(lambda x: middle(conv(name="ternary")(x))), policy={"mid": "float"})
        assert model.ec2t_report.of("float") == ["mid"]
        graph = lower(model)
        kinds = [operator.kind for operator in graph.operators]
        start = kinds.index("DEQUANTIZE")
        assert kinds[start : start + 3] == ["DEQUANTIZE", "CONV_2D", "QUANTIZE"]
        convolution = graph.operators[start + 1]
        assert graph.tensors[convolution.inputs[1]].dtype == "float32"


class TestRefused:
    def test_a_layer_that_no_operator_computes(self) -> None:
        @keras.saving.register_keras_serializable(package="tests_lower")
        class Sorted(layers.Layer):
            def call(self, x: Any) -> Any:
                return ops.sort(x, axis=-1)

        with pytest.raises(ec2t_tf.UnsupportedLayerError, match="Sort"):
            ec2t_tf.apply(net(lambda x: Sorted()(conv()(x))), verbose=0)

    def test_an_average_of_masked_steps(self) -> None:
        source = keras.Input((7,), dtype="int32")
        x = layers.Embedding(9, 6, mask_zero=True)(source)
        x = layers.GlobalAveragePooling1D(name="mean")(layers.Dense(6)(x))
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'mean' .*leaves out"):
            ec2t_tf.apply(keras.Model(source, layers.Dense(3)(x)), verbose=0)

    def test_a_class_called_as_a_built_in(self) -> None:
        @keras.saving.register_keras_serializable(package="tests_lower")
        class Conv2D(layers.Conv2D):
            def call(self, x: Any) -> Any:
                return ops.sort(super().call(x))

        with pytest.raises(ec2t_tf.UnsupportedLayerError, match="Conv2D"):
            ec2t_tf.apply(net(lambda x: Conv2D(4, 3)(conv()(x))), verbose=0)


def test_equal_on_the_backend_that_computes_it() -> None:
    """A table's entries are those of the user's function."""
    keras.utils.set_random_seed(0)
    model, _ = trained(net(lambda x: conv(activation=relu)(x)))
    graph = lower(model)
    (table,) = [t for t in graph.tensors if t.shape == (256,)]
    real = (table.data.astype(np.float32) - table.zero_point) * table.scale
    assert real.max() <= 0.5 + float(table.scale[0]) / 2
    assert real.min() == 0
