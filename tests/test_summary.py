"""`summary` of float models: every kernel, and multiply-accumulates counted by hand."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf


def counted(model: Any) -> dict[str, int | None]:
    return {row.layer: row.macs for row in ec2t_tf.summary(model).rows}


def assert_whole(model: Any) -> None:
    """Every weight of a model without normalisation is a kernel or a bias."""
    rows = ec2t_tf.summary(model).rows
    assert sum(row.size for row in rows) == 4 * model.count_params()
    assert sum(row.weights for row in rows) <= model.count_params()


def test_sequences() -> None:
    layers = keras.layers
    tokens = layers.Input((10,))
    x = layers.Embedding(50, 16, name="table")(tokens)
    x = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    both = layers.Bidirectional(layers.LSTM(6, return_sequences=True, name="lstm"), name="both")
    x = layers.TimeDistributed(layers.Dense(5), name="each")(both(x))
    x = layers.GRU(5, name="gru")(x)
    model = keras.Model(tokens, layers.EinsumDense("ab,bc->ac", 3, name="einsum")(x))
    parts = ("query", "key", "value", "attention_output")
    assert counted(model) == {
        "table": 0,
        **{f"attention/{part}": 10 * 16 * 2 * 8 for part in parts},
        "both/forward_lstm/kernel": 10 * 16 * 24,
        "both/forward_lstm/recurrent_kernel": 10 * 6 * 24,
        "both/backward_lstm/kernel": 10 * 16 * 24,
        "both/backward_lstm/recurrent_kernel": 10 * 6 * 24,
        "each": 10 * 12 * 5,
        "gru/kernel": 10 * 5 * 15,
        "gru/recurrent_kernel": 10 * 5 * 15,
        "einsum": 5 * 3,
    }
    assert_whole(model)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_images(library: Any) -> None:
    layers = library.layers
    image = layers.Input((9, 9, 3))
    x = layers.SeparableConv2D(8, 3, strides=2, name="separable")(image)
    inner = library.Sequential(
        [layers.Input((4, 4, 8)), layers.Conv2DTranspose(4, 3, name="up"), layers.Dense(7)]
    )
    model = library.Model(image, layers.Conv2D(2, 3, name="last")(inner(x)))
    found = list(counted(model).values())
    assert found == [
        *(16 * 9 * 3, 16 * 3 * 8),
        *(16 * 9 * 8 * 4, 36 * 4 * 7, 16 * 9 * 7 * 2),
    ]
    assert_whole(model)


def test_images_that_an_lstm_reads() -> None:
    layers = keras.layers
    film = layers.Input((5, 8, 6, 2))
    x = layers.ConvLSTM2D(3, 3, return_sequences=True, padding="same", name="film")(film)
    found = counted(keras.Model(film, x))
    assert found == {
        "film/kernel": 5 * 48 * 9 * 2 * 12,
        "film/recurrent_kernel": 5 * 48 * 9 * 3 * 12,
    }


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_subclassed(library: Any) -> None:
    """In Keras 3 it is called on symbols; else nobody knows how often a layer is called."""

    class Net(library.Model):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = library.layers.Conv2D(4, 3)
            self.flat = library.layers.Flatten()
            self.dense = library.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(self.flat(self.conv(x)))

    model = Net()
    model(np.zeros((1, 6, 6, 2), np.float32))
    expected = [16 * 9 * 2 * 4, 64 * 3] if library is keras else [None, None]
    assert list(counted(model).values()) == expected
    assert_whole(model)
    known = [value for value in expected if value is not None]
    assert ec2t_tf.summary(model).as_dict()["macs"] == sum(known)


def test_a_layer_of_the_user_s() -> None:
    class Mixer(keras.layers.Layer):
        def build(self, shape: tuple[int | None, ...]) -> None:
            self.inner = keras.layers.Dense(4)
            self.inner.build(shape)
            self.mix = self.add_weight(shape=(4, 4), name="mix")

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(self.inner(x), self.mix)

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (*shape[:-1], 4)

    entry = keras.Input((5,))
    model = keras.Model(entry, Mixer(name="mixer")(entry))
    rows = ec2t_tf.summary(model).rows
    assert sorted(math.prod(row.shape) for row in rows) == [16, 20]
    assert {row.macs for row in rows} == {None}
    assert_whole(model)
