"""`dropout` and `recurrent_dropout` of loops: in training as Keras draws, else nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf

from .random_check import Outcome, compare

INT8 = ec2t_tf.Policy([ec2t_tf.Rule("ternary", kind="Dense"), ec2t_tf.Rule("int8")])
SHAPE = (5, 3)


def net(library: ModuleType, loop: Any) -> Any:
    layers = library.layers
    chain = [library.Input(SHAPE), loop, layers.Dense(6, "relu"), layers.Dense(2)]
    return library.Sequential(chain)


QUICK = [(keras, "LSTM", (0.4, 0.3))]
ALL = [
    pytest.param(
        *case,
        marks=() if case in QUICK else pytest.mark.slow,
        id=f"{case[0].__name__}-{case[1]}-{case[2]}",
    )
    for case in itertools.product(
        (keras, tf_keras), ("LSTM", "GRU", "SimpleRNN"), ((0.4, 0.0), (0.0, 0.3), (0.4, 0.3))
    )
]


@pytest.mark.parametrize(("library", "kind", "rates"), ALL)
def test_as_many_draws_as_in_keras(
    library: ModuleType, kind: str, rates: tuple[float, float], tmp_path: Path
) -> None:
    """The same row often: mean and spread of each output are those of the float layer."""
    library.utils.set_random_seed(1)
    loop = getattr(library.layers, kind)(
        4, dropout=rates[0], recurrent_dropout=rates[1], return_sequences=True
    )
    model = net(library, loop)
    random = np.random.default_rng(0)
    learnt = random.normal(size=(64, *SHAPE)).astype(np.float32)
    rows = np.repeat(learnt[:1], 3000, axis=0)
    made = ec2t_tf.apply(model, policy=INT8, verbose=0)
    made.compile("sgd", "mse")
    made.fit(learnt, np.zeros((64, SHAPE[0], 2)), verbose=0)
    made.save(tmp_path / "net.keras")
    made = ec2t_tf.load_model(tmp_path / "net.keras")
    (inside,) = [
        x
        for x in made.layers
        if kind.lower() in x.name.replace("_", "") and "quantize" not in x.name
    ]
    part = library.Model(made.input, inside.output)
    want, got = (np.asarray(one(rows, training=True)) for one in (loop, part))
    assert want.std(0).max() > 0.01
    np.testing.assert_allclose(got.mean(0), want.mean(0), atol=0.04)
    np.testing.assert_allclose(got.std(0), want.std(0), atol=0.02)
    again = np.asarray(part(rows, training=False))
    np.testing.assert_allclose(again, again[:1].repeat(3000, 0), atol=1e-6)
    np.testing.assert_allclose(again[0], np.asarray(loop(rows[:1]))[0], atol=0.04)
    found = Outcome()
    compare(made, [learnt], found)
    assert found.steps < 2 < found.spread
