"""Layers of tf_keras with insides: loops, attention, tables of tokens, layers of layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import backend, layers

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.tfmot.einsum import einsum, is_product

from .random_check import Outcome, compare

Make = Callable[[Any], Any]
TERNARY, INT8 = (ec2t_tf.Policy([ec2t_tf.Rule(kind)]) for kind in ("ternary", "int8"))


class Block(layers.Layer):
    """A transformer's, as tutorials have it: no config that rebuilds it."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.inside = tf_keras.Sequential([layers.Dense(8, "relu"), layers.Dense(width)])
        self.normalisation = layers.LayerNormalization(epsilon=1e-6)
        self.dropout = layers.Dropout(0.1)

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.normalisation(x + self.dropout(self.attention(x, x), training=training))
        return x + self.inside(x)


class Noisy(Block):
    """Computes otherwise in training, which no layer of it says."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = super().call(x, training)
        return x + tf.random.normal([7, 6]) if training else x


class Adding(Block):
    """With a loss of its own."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        self.add_loss(tf.reduce_mean(x))
        return super().call(x, training)


def other(x: Any) -> Any:
    return layers.Dense(6, activation="relu")(x)


def twice(x: Any) -> Any:
    heads = layers.MultiHeadAttention(2, 3, name="it")
    return layers.Add()([heads(x, x), heads(x, other(x))])


def shuffled(x: Any, last: int) -> Any:
    """ShuffleNet's, after BlazeFace's padding of channels."""
    x = backend.concatenate([x, tf.zeros_like(x)])
    x = backend.permute_dimensions(backend.reshape(x, (-1, 7, 2, 6)), (0, 1, 3, 2))
    x = backend.reshape(x, (-1, 7, 12))[..., :last]
    return tf.matmul((x - np.linspace(0, 1, last)) / 0.7, tf.eye(last) * 0.9)


LATER = np.triu(np.ones((7, 7), np.float32), 1)
OPENED: dict[str, Make] = {
    "heads": lambda x: layers.MultiHeadAttention(2, 3, name="it")(x, x),
    "heads, twice": twice,
    "steps": lambda x: layers.LSTM(4, "relu", "hard_sigmoid", return_sequences=True, name="it")(x),
    "simple steps": lambda x: layers.SimpleRNN(4, return_sequences=True, name="it")(x),
    "Attention": lambda x: layers.Attention(use_scale=True, name="it")([x, other(x)]),
    "AdditiveAttention": lambda x: layers.AdditiveAttention(name="it")([x, other(x)]),
    "Dot": lambda x: layers.Dot(2, normalize=True, name="it")([x, other(x)]),
    "two ways": lambda x: layers.Bidirectional(
        layers.LSTM(3, return_sequences=True, go_backwards=False), name="it"
    )(x),
    "two ways, product": lambda x: layers.Bidirectional(layers.GRU(3), merge_mode="mul", name="it")(
        x
    ),
    "cells": lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)], name="it")(x),
    "every step": lambda x: layers.TimeDistributed(
        layers.Conv1D(4, 3, activation=lambda v: tf.minimum(v * 2, 1.0)), name="it"
    )(layers.Reshape((7, 6, 1))(x)),
    "a block": lambda x: Block(6, name="it")(x),
    "a Lambda": lambda x: layers.Lambda(shuffled, arguments={"last": 5}, name="it")(
        layers.Lambda(lambda v: v, name="only_a_name")(x)
    ),
    "tf.einsum": lambda x: tf.einsum("abc,adc->adb", x, other(x)),
    "unit vectors": lambda x: tf.math.l2_normalize(x, axis=-1) + tf.nn.l2_normalize(x, [1]),
    "tf.matmul": lambda x: tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
}


FAST = ("tf.einsum", "unit vectors", "two ways", "a block")


def net(middle: Make) -> tuple[tf_keras.Model, np.ndarray]:
    tf_keras.utils.set_random_seed(1)
    source = tf_keras.Input((7, 5), name="x")
    x = middle(layers.Dense(6, name="first")(source))
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    model = tf_keras.Model(source, layers.Dense(3, name="last")(x))
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(variable + random.normal(0, 0.1, variable.shape))
    return model, random.normal(size=(32, 7, 5)).astype(np.float32)


def trained(model: tf_keras.Model, x: np.ndarray, **options: Any) -> tf_keras.Model:
    made = ec2t_tf.apply(model, verbose=0, **options)
    made.compile("adam", "mse", run_eagerly=True)  # a step: no tracing
    made.fit(x, np.random.default_rng(1).normal(size=(len(x), 3)), verbose=0)
    made(x, training=True)
    return made


@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
@pytest.mark.parametrize(
    "case",
    [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in OPENED],
)
def test_opened_layers_are_exact(case: str, tmp_path: Path) -> None:
    model, x = net(OPENED[case])
    before = [np.array(v) for v in model.weights]
    expected = model(x)
    made = trained(model, x, policy=TERNARY)
    report = made.ec2t_report
    assert not report.of("float")
    assert case != "a block" or "it_multi_head_attention_key" in "".join(report.of("ternary"))
    found = Outcome()
    compare(made, [x], found)
    assert found.spread > 8
    assert found.steps < 2
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    np.testing.assert_array_equal(model(x), expected)
    if case != "every step":  # whose lambda no file holds
        made.save(tmp_path / "net.keras")
        again = ec2t_tf.load_model(tmp_path / "net.keras")
        np.testing.assert_array_equal(again(x), made(x))
        path = export.to_tflite(again, tmp_path / "net.tflite")
        assert export.verify(again, path, x).largest_difference < 3


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (layers.LSTM, ec2t_tf.methods.EC2T(target_sparsity=0.6)),
        pytest.param(layers.GRU, "ec2t", marks=pytest.mark.slow),
        pytest.param(layers.LSTM, "tga", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:.*HDF5")
def test_loops_train_are_saved_stripped_and_listed(kind: Any, method: Any, tmp_path: Path) -> None:
    options = {"kernel_regularizer": "l2", "recurrent_regularizer": "l2"}
    model, x = net(lambda x: kind(4, name="it", **options)(x))
    made = trained(model, x, method=method)
    assert "it_recurrent" in {one.name for one in ec2t_tf.callbacks.ternary_layers(made)}
    (kernel, recurrent) = [x for x in ec2t_tf.summary(made).rows if x.layer.startswith("it/")]
    assert (kernel.layer, recurrent.layer) == ("it/kernel", "it/recurrent")
    expected = made.predict(x, verbose=0)
    for name in ("net.keras", "net.h5"):
        made.save(tmp_path / name)
        again = ec2t_tf.load_model(tmp_path / name)
        np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
        again.compile("adam", "mse", run_eagerly=name == "net.h5")
        again.fit(x, np.zeros((len(x), 3)), verbose=0)
    plain = ec2t_tf.strip(made)
    assert isinstance(plain.get_layer("it"), kind)
    assert len(np.unique(plain.get_layer("it").cell.recurrent_kernel)) <= 3
    assert np.abs(plain.predict(x, verbose=0) - expected).max() < 0.1 * np.ptp(expected)
    twin = export.exact(made)
    difference = np.abs(np.asarray(twin(x)) - expected)
    assert difference.max() < 0.1 * np.ptp(expected)


def test_the_first_loop_keeps_its_inputs_int8() -> None:
    source = tf_keras.Input((7, 5), name="x")
    x = layers.LSTM(6, kernel_regularizer="l2", recurrent_regularizer="l2", name="it")(source)
    model = tf_keras.Model(source, layers.Dense(3)(layers.Dense(4)(x)))
    made = ec2t_tf.apply(model, verbose=0)
    assert ec2t_tf.callbacks.ternary_layers(made)[0].name == "it_recurrent"
    inside = made.get_layer("quant_it").layer
    assert inside.kernel_regularizer is not None  # int8: it decays
    assert inside.recurrent_regularizer is None
    assert len(made.losses) == 1


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_tables_of_tokens(dtype: str, tmp_path: Path) -> None:
    tf_keras.utils.set_random_seed(1)
    source = tf_keras.Input((7,), dtype=dtype, name="x")
    x = layers.Embedding(1000, 4, mask_zero=True, name="it")(source)
    x = x + tf.constant(np.full((7, 4), 0.01, np.float32))
    model = tf_keras.Model(source, layers.Dense(3)(layers.Flatten()(layers.Dense(5)(x))))
    tokens = np.random.default_rng(0).integers(0, 1000, (64, 7)).astype(dtype)
    policy = {"it": "ternary"} if dtype == "int32" else None
    made = trained(model, tokens, policy=policy)
    growing = {layer.name: layer.growth for layer in made.layers if hasattr(layer, "growth")}
    assert growing["quant_it"] > 0
    assert any(x > 0 for name, x in growing.items() if name.startswith("tf.__operators__.add"))
    found = Outcome()
    compare(made, [tokens], found)
    assert found.steps < 2 < found.spread
    made.save(tmp_path / "net.keras")
    again = ec2t_tf.load_model(tmp_path / "net.keras")
    assert again.get_layer("quant_it").growth == growing["quant_it"]
    np.testing.assert_array_equal(again(tokens), made(tokens))


def test_a_net_of_words_one_layer_after_the_other() -> None:
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [layers.Embedding(50, 4, input_length=7), layers.LSTM(6), layers.Dense(3)]
    )
    words = np.random.default_rng(0).integers(0, 50, (64, 7)).astype(np.float32)
    made = trained(model, words)
    found = Outcome()
    compare(made, [words], found)
    assert found.steps < 2 < found.spread


class Cell(layers.Layer):
    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.dense = layers.Dense(units)

    def call(self, x: Any, states: Any) -> Any:
        y = tf.tanh(self.dense(tf.concat([x, states[0]], -1)))
        return y, [y]

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


def relu(x: Any) -> Any:
    """It has a name that Keras' own has."""
    return tf.nn.relu(x) * 0.5


def halved(x: Any) -> Any:
    return x * 0.5


class Table(layers.Layer):
    def call(self, places: Any) -> Any:
        return tf.gather(tf.constant(np.eye(9, 6, dtype=np.float32)), places)


REFUSED: dict[str, tuple[Make, str]] = {
    "state": (lambda x: layers.LSTM(4, return_state=True, name="it")(x)[0], "return_state"),
    "activation": (
        lambda x: layers.GRU(4, activation="gelu", name="it")(x),
        "activation=gelu .there is one with tanh",
    ),
    "an activation of one's own": (
        lambda x: layers.SimpleRNN(4, activation=relu, name="it")(x),
        "SimpleRNN. has no rule that writes it.*activation='relu' of yours",
    ),
    "an activation of a name of one's own": (
        lambda x: layers.LSTM(4, recurrent_activation=halved, name="it")(x),
        "LSTM. has no rule that writes it.*recurrent_activation='halved' of yours",
    ),
    "a cell with one": (
        lambda x: layers.RNN(layers.GRUCell(4, activation=halved), name="it")(x),
        "GRU. has no rule that writes it.*activation='halved' of yours",
    ),
    "causal": (
        lambda x: layers.MultiHeadAttention(2, 3, name="it")(x, x, use_causal_mask=True),
        "no rule that writes it.*Keras 3 takes it",
    ),
    "a mask of a softmax": (
        lambda x: tf.matmul(
            layers.Softmax(name="it")(
                tf.matmul(x, other(x), transpose_b=True), mask=tf.constant(1 - LATER)[None]
            ),
            x,
        ),
        "which leaves out the steps",
    ),
    "a mask of values": (
        lambda x: layers.MultiHeadAttention(2, 3, name="it")(
            x, x, attention_mask=tf.matmul(x, x, transpose_b=True) > 0
        ),
        "which leaves out the steps",
    ),
    "a mask before a softmax": (
        lambda x: layers.Lambda(lambda v: tf.nn.softmax(v + LATER * -1e9), name="it")(
            tf.matmul(x, x, transpose_b=True)
        ),
        "Add.*is taken in Keras 3",
    ),
    "a loop every step": (
        lambda x: layers.TimeDistributed(layers.ConvLSTM1D(3, 2), name="it")(
            layers.Reshape((7, 3, 2, 1))(x)
        ),
        "ConvLSTM1D",
    ),
    "otherwise in training": (lambda x: Noisy(6, name="it")(x), "computes otherwise in training"),
    "what Keras 3 has no rule for either": (
        lambda x: layers.GRU(4, reset_after=False, name="it")(x),
        r"reset_after=False .*lower\.rule\.$",
    ),
    "a state that is given": (
        lambda x: layers.LSTM(4, name="it")(x, initial_state=[x[:, 0, :4], x[:, 1, :4]]),
        "which it says: Layer",
    ),
    "a cell of one's own": (
        lambda x: layers.RNN(Cell(4), name="it")(x),
        "which it says: The RNN cell",
    ),
    "a table of its own": (
        lambda x: Table(name="it")(tf.cast(x[:, :, 0], "int32")),
        "only places that are constants.*is an Embedding",
    ),
    "a loss of its own": (lambda x: Adding(6, name="it")(x), "adds losses or metrics of its own"),
}


@pytest.mark.few(6)
@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_operator_is_refused_by_name(case: str) -> None:
    make, why = REFUSED[case]
    model, _ = net(make)
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'it.*{why}"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


def test_activity_regularisers_are_kept(tmp_path: Path) -> None:
    """Inside tfmot's wrapper, in a layer that is several, and in one of its own."""
    decay = {"activity_regularizer": "l2"}

    def middle(x: Any) -> Any:
        x = layers.Dense(6, **decay)(x)
        x = layers.Dense(5, activation="gelu", **decay)(x)
        x = layers.SeparableConv1D(4, 3, **decay)(x)
        x = layers.ActivityRegularization(l2=0.01)(x)
        return layers.Bidirectional(layers.LSTM(3), **decay)(x)

    model, x = net(middle)
    made = ec2t_tf.apply(model, policy=INT8, verbose=0)
    made(x, training=True)
    losses = []
    for one in (model, made):
        one.compile("sgd", "mse", run_eagerly=True)  # a pass: no tracing
        nothing = np.asarray(one(x))
        losses.append(one.evaluate(x, nothing, verbose=0))
    assert losses[0] > 0.01
    made.save(tmp_path / "net.keras")
    again = ec2t_tf.load_model(tmp_path / "net.keras")
    assert again.evaluate(x, nothing, verbose=0) == pytest.approx(losses[1])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize(
    "computed",
    [
        lambda x: tf.reshape(x, (tf.shape(x)[0], 42)),
        lambda x: tf.image.resize(tf.expand_dims(x, -1), tf.shape(x)[1:] * 2),
    ],
    ids=["reshape", "resize"],
)
def test_sizes_that_a_net_computes_are_refused_by_name(computed: Make) -> None:
    x = inputs = layers.Input((7, 6))
    model = tf_keras.Model(inputs, layers.Dense(3)(computed(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"x\.shape\[1\].*tf.compat.v1.shape"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


def test_a_lone_slice_is_one_of_several() -> None:
    x = inputs = layers.Input((7, 6))
    x = layers.Flatten()(layers.Dense(5)(layers.Dense(4)(x))[0:])
    model = tf_keras.Model(inputs, layers.Dense(3)(x))
    made = trained(model, np.random.default_rng(0).normal(size=(64, 7, 6)).astype(np.float32))
    found = Outcome()
    compare(made, [np.ones((4, 7, 6), np.float32)], found)
    assert found.steps == 0


def test_a_plain_model_has_a_lambda_of_several_values(tmp_path: Path) -> None:
    model, x = net(OPENED["a Lambda"])
    path = export.to_tflite(model, tmp_path / "net.tflite", representative_data=x)
    assert export.verify(model, path, x).largest_difference < 8


def test_a_lambda_without_operators_is_refused_for_what_it_is() -> None:
    model, _ = net(lambda x: layers.Lambda(lambda v: tf.cumsum(v, 1), name="it")(x))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'it' \(Lambda\), with tf\.\S*cumsum"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


def test_a_model_of_random_numbers_is_refused_for_what_it_is() -> None:
    model, _ = net(lambda x: layers.Lambda(lambda v: v + tf.random.normal(v.shape[1:]))(x))
    with pytest.raises(ValueError, match=r"the same outputs of the same inputs.*random numbers"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


def test_a_plain_layer_that_keras_3_has_not(tmp_path: Path) -> None:
    model, x = net(lambda x: layers.ThresholdedReLU(0.1, name="it")(x))
    path = export.to_tflite(model, tmp_path / "net.tflite", representative_data=x)
    assert export.verify(model, path, x).largest_difference < 128  # it leaps


@pytest.mark.parametrize(
    ("equation", "shapes", "is_one"),
    [
        ("abc,acd->abd", [(2, 3, 4), (2, 4, 5)], True),
        ("abd,acd->acb", [(2, 3, 4), (2, 5, 4)], True),
        ("aecd,abcd->acbe", [(2, 3, 4, 5), (2, 6, 4, 5)], True),
        ("ab,ab->a", [(2, 3), (2, 3)], False),
        ("abc,adc->ad", [(2, 3, 4), (2, 5, 4)], False),
        ("abc,cde->abde", [(2, 3, 4), (4, 5, 6)], False),
    ],
)
def test_an_einsum_as_a_product(equation: str, shapes: list, is_one: bool) -> None:
    random = np.random.default_rng(0)
    x, y = (random.normal(size=shape).astype(np.float32) for shape in shapes)
    assert is_product(equation) is is_one
    np.testing.assert_allclose(einsum(equation, x, y), np.einsum(equation, x, y), 1e-5, 1e-6)
