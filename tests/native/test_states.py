"""Loops that return their state, which is their last output and is used as that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare


def pooled(results: Any) -> Any:
    """Of all steps, and the last one."""
    steps, last, *_ = results
    return layers.Concatenate()([layers.GlobalMaxPooling1D()(steps), last])


def attended(results: Any) -> Any:
    steps, last = results
    return layers.Flatten()(layers.Attention()([layers.Reshape((1, 8))(last), steps]))


BOTH: dict[str, Any] = {"return_state": True, "return_sequences": True}
CASES: dict[str, Callable[[Any], Any]] = {
    "LSTM": lambda x: layers.LSTM(8, return_state=True)(x)[1],
    "LSTM, its steps too": lambda x: pooled(layers.LSTM(8, **BOTH)(x)),
    "GRU, backwards": lambda x: pooled(layers.GRU(8, go_backwards=True, **BOTH)(x)),
    "SimpleRNN": lambda x: pooled(layers.SimpleRNN(8, **BOTH)(x)),
    "GRU that attends by its last step": lambda x: attended(layers.GRU(8, **BOTH)(x)),
}


def net(middle: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(1)
    source = keras.Input((6, 5), name="x")
    x = layers.Dense(6)(middle(layers.Dense(5)(source)))
    return keras.Model(source, layers.Dense(3)(x))


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CASES)
def test_a_state_that_is_returned(name: str) -> None:
    source = net(CASES[name])
    made, inputs = trained(source, steps=2)
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps < 3
    plain = ec2t_tf.strip(ec2t_tf.apply(source, verbose=0))
    x = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    assert plain(x).shape == source(x).shape


@pytest.mark.parametrize(
    ("middle", "why"),
    [
        (lambda x: layers.LSTM(8, return_state=True)(x)[2], "carries from step to step"),
        (
            lambda x: layers.GRU(8, return_state=True, activation="gelu")(x)[0],
            r"with activation=gelu \(there is one with tanh, .*linear\)\. ",
        ),
        (
            lambda x: layers.GRU(8, return_state=True, activity_regularizer="l2")(x)[0],
            "activity_regularizer",
        ),
        (
            lambda x: layers.GRU(8, **BOTH)(x, initial_state=x[:, 0, :1] * np.ones(8, "f"))[1],
            "an initial state",
        ),
    ],
)
def test_what_no_operator_gives_is_refused(middle: Callable[[Any], Any], why: str) -> None:
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=why):
        ec2t_tf.apply(net(middle), verbose=0)
