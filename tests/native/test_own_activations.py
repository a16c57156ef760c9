"""Activations of the user's: inside layers, and as powers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare
from tests.native.test_own_weights import net, registered


@registered
class Activated(layers.Layer):
    """With a function that names what this module imported: Keras cannot load it as code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = layers.Lambda(lambda x: keras.activations.gelu(x, approximate=False))

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_a_lambda_that_is_one_activation_is_kept_by_its_name(tmp_path: Any) -> None:
    made, inputs = trained(net(Activated(name="mine")), steps=1)
    assert not any(isinstance(x, layers.Lambda) for x in made._flatten_layers())
    compare(made, inputs, Outcome())
    made.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(inputs[0])), ops.convert_to_numpy(made(inputs[0]))
    )


def test_a_power_of_two_values_is_refused_by_name() -> None:
    source = net(lambda x: ops.power(ops.relu(x), ops.relu(x) + 1.0))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match="power by one number"):
        ec2t_tf.apply(source, verbose=0)
