"""Training that holds, in tf_keras: equal channels, ranges, averages of normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf.tfmot.quantize_config import ternary_layers
from ec2t_tf.tfmot.wrapper import QuantizeInput, wrapped


def net(**options: Any) -> tf_keras.Model:
    """Three convolutions, the middle one before a normalisation; `options` are those of that."""
    tf_keras.utils.set_random_seed(0)
    source = layers.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(source)
    x = layers.Conv2D(4, 3, name="middle", bias_initializer="ones")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm", **options)(x))
    x = layers.Flatten(name="flat")(x)
    return tf_keras.Model(source, layers.Dense(3, name="last")(x))


def images(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 1.0, (count, 6, 6, 2)).astype(np.float32)


def range_of(layer: Any) -> tuple[float, float]:
    """That of the input, or of the activation of a wrapped ReLU."""
    if isinstance(layer, QuantizeInput):
        found = layer.quantizer_vars
    else:
        found = layer._output_quantizer_vars
    return float(found["min_var"]), float(found["max_var"])


def test_channels_become_equal_and_outputs_stay() -> None:
    model = net()
    middle = model.get_layer("middle")
    middle.kernel.assign(middle.kernel * np.array([1.0, 12.0, 1.0, 0.0]))
    norm, random = model.get_layer("norm"), np.random.default_rng(0)
    norm.set_weights([random.uniform(0.5, 1.5, 4) for _ in range(4)])
    before = [weight.numpy() for weight in model.weights]
    x = images()
    float_outputs = model(x).numpy()
    trained = ec2t_tf.apply(model, verbose=0)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    (layer,) = ternary_layers(trained)
    spread = np.sqrt(np.square(layer.latent.numpy()).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(spread[:3], np.median(spread[:3]), rtol=1e-5)
    assert spread[3] == 0
    # With the latent weights as they are, the net computes what it did.
    twin = net()
    for name in ("first", "middle", "norm", "last"):
        wrapper = next(y for y in trained.layers if wrapped(y).name == name)
        own = {v.name.split("/")[-1]: v for v in wrapper.weights}
        for weight in twin.get_layer(name).weights:
            weight.assign(own[weight.name.split("/")[-1]])
    np.testing.assert_allclose(twin(x), float_outputs, atol=3e-5 * np.abs(float_outputs).max())


def test_ranges_begin_with_the_first_batch() -> None:
    trained = ec2t_tf.apply(net(), verbose=0)
    relu = next(y for y in trained.layers if wrapped(y).name == "relu")
    given = next(y for y in trained.layers if isinstance(y, QuantizeInput))
    x = images()
    assert range_of(relu) == (-6.0, 6.0)  # no batch was seen
    trained(x, training=True)
    assert range_of(given) == (float(x.min()), float(x.max()))
    low, high = range_of(relu)
    assert low == 0.0
    assert 0.0 < high < 6.0
    trained(x, training=True)
    again = range_of(relu)[1]
    trained(np.full_like(x, np.nan), training=True)
    assert range_of(relu)[1] == again
    assert range_of(given) == (float(x.min()), float(x.max()))
    trained(100 * x, training=False)
    assert range_of(relu)[1] == again


def test_averages_follow_at_once() -> None:
    """As the growing momentum says; NaN changes nothing."""
    trained = ec2t_tf.apply(net(momentum=0.9), verbose=0)
    wrapper = next(y for y in trained.layers if wrapped(y).name == "norm")
    norm, x = wrapped(wrapper), images()
    seen: list[np.ndarray] = []
    for momentum in (0.1, 2 / 11, 3 / 12):
        before = norm.moving_mean.numpy()
        trained(x, training=True)
        batch = (norm.moving_mean.numpy() - momentum * before) / (1 - momentum)
        seen.append(batch)
    np.testing.assert_allclose(seen[1], seen[0], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(seen[2], seen[0], rtol=0.02, atol=0.02)
    before = [norm.moving_mean.numpy(), norm.moving_variance.numpy()]
    trained(np.full_like(x, np.nan), training=True)
    np.testing.assert_array_equal(before[0], norm.moving_mean)
    np.testing.assert_array_equal(before[1], norm.moving_variance)
    assert int(wrapper.optimizer_step) == 2
    assert norm.momentum == 0.9
    wrapper.optimizer_step.assign(1000)
    trained(2 * x, training=True)
    assert np.all(np.abs(norm.moving_mean - before[0]) < 0.2 * np.abs(before[0]) + 0.2)


def test_frozen_averages_stay() -> None:
    model = net()
    model.get_layer("norm").trainable = False
    trained = ec2t_tf.apply(model, verbose=0)
    trained(images(), training=True)
    wrapper = next(y for y in trained.layers if wrapped(y).name == "norm")
    np.testing.assert_array_equal(wrapped(wrapper).moving_mean, 0.0)
    assert int(wrapper.optimizer_step) == -1


def test_a_treated_model_is_not_pruned() -> None:
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0)
    chain = [layers.InputLayer((6,)), *(layers.Dense(6) for _ in range(3))]
    for model in (net(), tf_keras.Sequential(chain)):
        with pytest.raises(ValueError, match=r"requires a float model.*target_sparsity=0\.8"):
            tfmot.sparsity.keras.prune_low_magnitude(ec2t_tf.apply(model, verbose=0), schedule)


def test_codes_are_left_by_a_margin() -> None:
    method = ec2t_tf.methods.EC2T(target_sparsity=0.6, hysteresis=0.2)
    trained = ec2t_tf.apply(net(), method, verbose=0)
    trained.compile(tf_keras.optimizers.Adam(1e-2), "mse")
    trained.fit(images(), np.zeros((16, 3)), epochs=4, batch_size=4, verbose=0)
    (layer,) = ternary_layers(trained)
    held = layer.state["codes"].numpy()
    assert set(np.unique(held)) == {-1, 0, 1}
    codes = layer.method.assign(layer.latent, layer.state, relative_size=1.0).codes
    assert np.mean(codes != held) < 0.1  # one step of the optimiser later
