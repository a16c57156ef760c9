"""The Keras layers of beginners' tutorials, in the orders in which these use them, converted by
TensorFlow, against LiteRT's reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec2t_tf.export import tflite
from tests.mcu import many_nets, tf_converter

keras = pytest.importorskip("keras")
layers = keras.layers

# What the guides on images, signals and text of keras.io and tensorflow.org are built of.
LAYERS = (
    *("Dense", "Flatten", "Dropout", "Softmax", "Activation", "ReLU", "LeakyReLU", "ELU"),
    *("Conv2D", "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "Rescaling"),
    *("GlobalMaxPooling2D", "BatchNormalization", "SeparableConv2D", "DepthwiseConv2D"),
    *("ZeroPadding2D", "Conv2DTranspose", "Reshape", "UpSampling2D", "Concatenate", "Add"),
    *("Conv1D", "MaxPooling1D", "GlobalAveragePooling1D", "LSTM", "GRU", "SimpleRNN"),
    *("Bidirectional", "TimeDistributed", "Embedding", "LayerNormalization", "Multiply"),
)


WORDS = 50
_WIDE = keras.initializers.RandomNormal(stddev=1)


def _chain(*parts: Any) -> Any:
    return keras.Sequential(list(parts))


def dense_digits() -> Any:
    return _chain(
        keras.Input((28, 28)),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10),
        layers.Softmax(),
    )


def image_classification() -> Any:
    return _chain(
        keras.Input((24, 24, 3)),
        layers.Rescaling(1 / 2),
        layers.Conv2D(8, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(12, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Dense(16, activation="relu"),
        layers.Dense(5),
    )


def normalised_before_the_activation() -> Any:
    return _chain(
        keras.Input((16, 16, 3)),
        layers.Conv2D(8, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.AveragePooling2D(2),
        layers.SeparableConv2D(8, 3),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4, activation="softmax"),
    )


def normalised_after_the_activation() -> Any:
    return _chain(
        keras.Input((16, 16, 3)),
        layers.ZeroPadding2D(1),
        layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, strides=2),
        layers.BatchNormalization(),
        layers.ReLU(max_value=6),
        layers.Conv2D(8, 1, activation="relu"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(4, activation="sigmoid"),
    )


def activations_by_name() -> Any:
    return _chain(
        keras.Input((20,)),
        layers.Dense(16, activation="selu"),
        layers.Dense(16, activation="softplus"),
        layers.Dense(16, activation="gelu"),
        layers.Dense(16, activation="swish"),
        layers.Dense(16, activation="hard_sigmoid"),
        layers.Dense(16, activation="mish"),
        layers.Dense(16, activation="softsign"),
        layers.Dense(3, activation="tanh"),
    )


def exponential() -> Any:
    return _chain(keras.Input((20,)), layers.Dense(16), layers.ELU(1.0))


def autoencoder() -> Any:
    return _chain(
        keras.Input((16, 16, 1)),
        layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(8),
        layers.Dense(8 * 8 * 4, activation="relu"),
        layers.Reshape((8, 8, 4)),
        layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    )


def segmentation() -> Any:
    given = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same")(given)
    y = x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(6, 3, padding="same")(layers.Activation("relu")(x))
    x = layers.Add()([layers.BatchNormalization()(x), layers.Conv2D(6, 1)(y)])
    x = layers.Concatenate()([layers.UpSampling2D(2)(x), given])
    return keras.Model(given, layers.Conv2D(3, 3, padding="same", activation="softmax")(x))


def signal() -> Any:
    return _chain(
        keras.Input((40, 3)),
        layers.Conv1D(8, 3, activation="relu"),
        layers.Dropout(0.1),
        layers.MaxPooling1D(2),
        layers.Conv1D(8, 3, dilation_rate=2, padding="causal", activation="relu"),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3, activation="softmax"),
    )


def dilated() -> Any:
    return _chain(
        keras.Input((16, 15, 3)),
        layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="relu"),
        layers.Conv2D(6, (3, 2), dilation_rate=(3, 2), activation="relu"),
        layers.DepthwiseConv2D(3, dilation_rate=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )


def gated() -> Any:
    given = keras.Input((8, 6))
    x = layers.LayerNormalization()(given)
    gate = layers.Dense(6, activation="sigmoid")(x)
    x = layers.Multiply()([x, gate])
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def _recurrent(layer: Any) -> Any:
    return _chain(keras.Input((6, 4)), layer, layers.Dense(3, activation="softmax"))


def lstm() -> Any:
    return _recurrent(layers.LSTM(6, unroll=True))


def gru() -> Any:
    return _recurrent(layers.GRU(6, unroll=True))


def both_ways() -> Any:
    return _recurrent(layers.Bidirectional(layers.LSTM(4, unroll=True)))


def simple_rnn() -> Any:
    return _chain(
        keras.Input((6, 4)),
        layers.SimpleRNN(6, unroll=True, return_sequences=True),
        layers.TimeDistributed(layers.Dense(4, activation="relu")),
        layers.Flatten(),
        layers.Dense(3),
    )


def text() -> Any:
    return _chain(
        keras.Input((10,), dtype="int32"),
        layers.Embedding(WORDS, 8, embeddings_initializer=_WIDE),
        layers.GlobalAveragePooling1D(),
        layers.Dense(8, activation="relu"),
        layers.Dense(2, activation="sigmoid"),
    )


def text_in_order() -> Any:
    return _chain(
        keras.Input((6,), dtype="int32"),
        layers.Embedding(WORDS, 4, embeddings_initializer=_WIDE),
        layers.Conv1D(6, 3, activation="relu"),
        layers.GRU(4, unroll=True),
        layers.Dense(2, activation="softmax"),
    )


FAST = (normalised_after_the_activation, dilated, text)
SLOW = (
    *(dense_digits, image_classification, normalised_before_the_activation, activations_by_name),
    *(autoencoder, segmentation, signal, gated, lstm, gru, both_ways, simple_rnn, text_in_order),
)


def test_every_layer_is_in_a_net() -> None:
    found: set[str] = set()

    def look(layer: Any) -> None:
        found.add(type(layer).__name__)
        inner = [getattr(layer, "layer", None), getattr(layer, "forward_layer", None)]
        for one in (*getattr(layer, "layers", ()), *inner):
            if one is not None:
                look(one)

    for make in (*FAST, *SLOW, exponential):
        look(make())
    assert set(LAYERS) <= found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [*FAST, *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)],
    ids=lambda m: m.__name__,
)
def test_equals_the_reference(tmp_path: Path, make: Callable[[], Any]) -> None:
    keras.utils.set_random_seed(1)
    words = WORDS if make in (text, text_in_order) else 0
    model = tf_converter.convert(make(), words=words)
    values = many_nets.inputs(model, 6, seed=1)
    want = many_nets.reference(model, values)
    assert len(np.unique(want)) > 3
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert not many_nets.differences([make.__name__], [got], [want])


@pytest.mark.filterwarnings("ignore")
def test_elu(tmp_path: Path) -> None:
    """In the file it is in float, and LiteRT's reference has none."""
    keras.utils.set_random_seed(1)
    model = tf_converter.convert(exponential())
    values = many_nets.inputs(model, 20, seed=1)
    graph = tflite.read(model)
    elu = next(i for i, op in enumerate(graph.operators) if op.kind == "ELU")
    before, after = graph.operators[elu - 1], graph.operators[elu + 1]
    assert (before.kind, after.kind) == ("DEQUANTIZE", "QUANTIZE")
    graph.operators, graph.outputs = graph.operators[: elu - 1], before.inputs[:1]
    graph.signatures = []
    source, out = (graph.tensors[i] for i in (before.inputs[0], after.outputs[0]))
    codes = many_nets.reference(tflite.write(graph), values).astype(np.float32)
    real = (codes - np.float32(source.zero_point[0])) * source.scale[0]
    real = np.where(real < 0, np.expm1(real), real)
    want = np.clip(np.rint(real / out.scale[0]) + out.zero_point[0], -128, 127)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert (want < out.zero_point[0]).mean() > 0.2
    np.testing.assert_array_equal(got, want.astype(np.int8))
