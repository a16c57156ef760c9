"""Normalization that has been adapted: its mean and variance are weights, of which it makes factors
when they are loaded; a copy that has the weights alone takes mean 0 and variance 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf
from tests.lower.random_check import Outcome, compare

KERAS = [keras, tf_keras]
PLACES = ["first", "behind an image layer", "inside a model", "behind a convolution"]


def model_and_data(of: Any, place: str) -> tuple[Any, Any, np.ndarray]:
    """A net, its Normalization, and images far from mean 0."""
    of.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(100, 9, (32, 6, 6, 2)).astype(np.float32)
    layers = of.layers
    normalisation = layers.Normalization(name="adapted")
    normalisation.adapt(x)
    entry = layers.Input((6, 6, 2))
    y = entry
    if place == "behind an image layer":
        y = layers.Resizing(6, 6)(y)
    if place == "behind a convolution":
        y = layers.Conv2D(2, 1, kernel_initializer="ones")(y)
    if place == "inside a model":
        y = of.Sequential([of.Input((6, 6, 2)), normalisation, layers.Conv2D(4, 3)])(y)
    else:
        y = layers.Conv2D(4, 3)(normalisation(y))
    y = layers.Dense(3)(layers.Flatten()(y))
    return of.Model(entry, y), normalisation, x


@pytest.mark.parametrize("of", KERAS, ids=["keras", "tf_keras"])
@pytest.mark.parametrize("place", PLACES)
def test_what_was_adapted_is_trained_written_and_stripped(
    of: Any, place: str, tmp_path: Path
) -> None:
    source, normalisation, x = model_and_data(of, place)
    wanted = np.asarray(source(x))
    made = ec2t_tf.apply(source, policy=ec2t_tf.Policy([ec2t_tf.Rule("int8")]), verbose=0)
    made.compile(of.optimizers.SGD(0.0), "mse")
    made.fit(x, np.zeros((32, 3)), verbose=0)
    close(np.asarray(made(x)), wanted)
    made.save(tmp_path / "net.keras")
    close(np.asarray(ec2t_tf.load_model(tmp_path / "net.keras")(x)), wanted)
    plain = ec2t_tf.strip(made)
    close(np.asarray(plain(x)), wanted)
    inside = next(one for one in plain._flatten_layers() if one.name == "adapted")
    np.testing.assert_allclose(inside.variance, normalisation.variance)
    found = Outcome()
    compare(made, [x], found)
    assert found.steps <= 3 < found.spread


def close(made: np.ndarray, wanted: np.ndarray) -> None:
    """int8 and float nets differ by little of what the values spread."""
    assert np.abs(made - wanted).mean() < 0.05 * wanted.std()
