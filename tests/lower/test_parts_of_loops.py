"""Constraints, regularisers and initialisers of loops: kept, also those of the user's classes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf

LIBRARIES = pytest.mark.parametrize(
    "library", [keras, tf_keras], ids=lambda library: library.__name__
)


KINDS = pytest.mark.parametrize(
    "kind", ["GRU", *(pytest.param(one, marks=pytest.mark.slow) for one in ("LSTM", "SimpleRNN"))]
)


@LIBRARIES
@KINDS
@pytest.mark.parametrize("how", ["int8", "ternary"])
def test_constraints_hold_in_training(library: Any, kind: str, how: str) -> None:
    parts = ("kernel_constraint", "recurrent_constraint", "bias_constraint")
    loop = getattr(library.layers, kind)(4, name="loop", **dict.fromkeys(parts, "non_neg"))
    model = library.Sequential([library.Input((6, 3)), loop, library.layers.Dense(2)])
    before = loop.get_weights()
    assert min(w.min() for w in before) < -0.1
    policy = ec2t_tf.Policy([ec2t_tf.Rule(how, name="loop"), ec2t_tf.Rule("int8")])
    made = ec2t_tf.apply(model, policy=policy, verbose=0)
    made.compile(library.optimizers.SGD(0.01), "mse")
    made.fit(np.random.default_rng(0).normal(size=(8, 6, 3)), np.zeros((8, 2)), verbose=0)
    after = ec2t_tf.strip(made).get_layer("loop").get_weights()
    assert all(w.min() >= 0 for w in after)
    assert max(w.max() for w in after) > 0.1


def parts(library: Any) -> dict[str, Any]:
    """Of classes that Keras cannot make from a config."""

    class Decay(library.regularizers.Regularizer):
        def __call__(self, w: Any) -> Any:
            return 0.1 * (w**2)[0, 0]

    class Floor(library.constraints.Constraint):
        def __init__(self, least: float) -> None:
            self.least = least

        def __call__(self, w: Any) -> Any:
            return abs(w) + self.least

    def constant(shape: Any, dtype: Any = None, **_: Any) -> Any:
        return np.full(shape, 0.1, np.float32)

    return {
        "kernel_regularizer": Decay(),
        "recurrent_constraint": Floor(0.05),
        "kernel_initializer": constant,
    }


@LIBRARIES
@KINDS
def test_those_of_the_user(library: Any, kind: str) -> None:
    loop = getattr(library.layers, kind)(4, name="loop", **parts(library))
    model = library.Sequential([library.Input((6, 3)), loop, library.layers.Dense(2)])
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8")])
    made = ec2t_tf.apply(model, policy=policy, verbose=0)
    made.compile(library.optimizers.SGD(0.01), "mse")
    made.fit(np.random.default_rng(0).normal(size=(8, 6, 3)), np.zeros((8, 2)), verbose=0)
    kernel, recurrent, _ = ec2t_tf.strip(made).get_layer("loop").get_weights()
    assert float(sum(made.losses)) == pytest.approx(0.1 * kernel[0, 0] ** 2, rel=0.05)
    assert recurrent.min() > 0.04
    assert np.abs(kernel - 0.1).max() < 0.02
