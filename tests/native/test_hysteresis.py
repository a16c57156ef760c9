"""EC2T(hysteresis=...): a weight leaves its code only by a margin."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.quantisation.quantised import Quantised
from tests.native.test_layer_shares import net, shares

MARGIN = 0.25


def ternary(model: keras.Model) -> list[Quantised]:
    return [x for x in model.layers if isinstance(x, Quantised) and x.method is not None]


def codes(layer: Quantised) -> np.ndarray:
    return layer.assign().codes


def train_pass(model: keras.Model) -> None:
    model(np.zeros((1, 16), np.float32), training=True)


def test_a_code_is_left_only_by_the_margin() -> None:
    """Against NumPy: one layer, a gain of 0, so that thresholds are half of the centroids."""
    model = ec2t_tf.apply(net(), methods.EC2T(entropy_gain=0.0, hysteresis=MARGIN), verbose=0)
    layer = ternary(model)[0]
    random = np.random.default_rng(5)
    weights = keras.ops.convert_to_numpy(layer.latent.value).copy()
    expected = None
    for _ in range(12):
        state = {name: keras.ops.convert_to_numpy(v.value) for name, v in layer.state.items()}
        centroids = keras.ops.convert_to_numpy(
            layer.method.centroids(layer.latent.value, layer.state)
        )
        down, up = centroids / 2
        held = np.zeros_like(weights) if expected is None else expected
        inner, outer = 1 - MARGIN, 1 + MARGIN
        if expected is None:
            inner = outer = 1.0
            assert (state["codes"] == 2).all()
        positive = weights > up * np.where(held > 0, inner, outer)
        negative = weights < -down * np.where(held < 0, inner, outer)
        expected = positive.astype(np.int8) - negative.astype(np.int8)
        np.testing.assert_array_equal(codes(layer), expected)  # before the pass that holds them
        train_pass(model)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.state["codes"]), expected)
        weights += random.normal(0.0, 0.3 * weights.std(), weights.shape).astype(np.float32)
        layer.latent.assign(weights)


def flips(hysteresis: float) -> tuple[float, list[float]]:
    """Share of weights that change code at a pass of a random walk, and shares of zeros after."""
    method = methods.EC2T(target_sparsity=0.7, layer_shares="kept", hysteresis=hysteresis)
    model = ec2t_tf.apply(net(), method, verbose=0)
    layers, random, changed = ternary(model), np.random.default_rng(3), []
    train_pass(model)
    for _ in range(20):
        before = [codes(layer) for layer in layers]
        for layer in layers:
            weights = keras.ops.convert_to_numpy(layer.latent.value)
            step = random.normal(0.0, 0.05 * weights.std(), weights.shape)
            layer.latent.assign(weights + step.astype(np.float32))
        train_pass(model)
        changed += [np.mean(codes(x) != old) for x, old in zip(layers, before, strict=True)]
    return float(np.mean(changed)), shares(model)


def test_fewer_weights_flip_and_the_zeros_are_as_many() -> None:
    plain, wanted = flips(0.0)
    calm, zeros = flips(MARGIN)
    assert 0 < calm < 0.5 * plain
    np.testing.assert_allclose(zeros, wanted, atol=0.01)


def test_saved_and_loaded_it_computes_the_same(tmp_path: Path) -> None:
    model = ec2t_tf.apply(net(), methods.EC2T(target_sparsity=0.8, hysteresis=MARGIN), verbose=0)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    inputs = np.random.default_rng(2).normal(size=(32, 16)).astype(np.float32)
    model.fit(inputs, inputs[:, :3], epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )
    for one, other in zip(ternary(model), ternary(loaded), strict=True):
        np.testing.assert_array_equal(codes(one), codes(other))


def test_it_is_checked() -> None:
    assert methods.deserialize(methods.serialize(methods.EC2T(hysteresis=0.1))).hysteresis == 0.1
    with pytest.raises(ValueError, match=r"hysteresis must lie in \[0, 0.99\]"):
        methods.EC2T(hysteresis=1.0)
