"""`apply` on Keras 3 models: graph, training, saving, on the backend of this process."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.policy import Policy, Rule
from ec2t_tf.quantisation import (
    FakeQuant,
    Quantised,
    TernaryModel,
    quantised_layers,
    ternary_layers,
)
from ec2t_tf.quantisation.split import split
from ec2t_tf.schedule import PolynomialDecay
from tests.native import nets

NETS = {"convolutional": nets.convolutional, "nested": nets.nested, "sequence": nets.sequence}


def numpy(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))


def outputs(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    return [numpy(x) for x in keras.tree.flatten(model(inputs, training=False))]


@pytest.mark.parametrize("name", NETS)
def test_splitting_computes_the_same(name: str) -> None:
    model = nets.randomise(NETS[name]())
    inputs, _ = nets.examples(model, 8)
    copy, origin = split(model)
    for one, other in zip(outputs(model, inputs), outputs(copy, inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert not any(isinstance(layer, keras.Model) for layer in copy.layers)
    assert all(name in origin for name in (x.name for x in copy.layers if x.weights))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", NETS)
def test_train_save_load(name: str, tmp_path: Path) -> None:
    model = NETS[name]()
    before = [numpy(weight) for weight in model.weights]
    trained = ec2t_tf.apply(model, verbose=0)
    assert isinstance(trained, keras.Model)
    nets.compiled(trained)
    inputs, labels = nets.examples(trained)
    history = trained.fit(inputs, labels, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, numpy(weight))  # the user's model is untouched
    for layer in ternary_layers(trained):
        codes, scale = layer.codes_and_scale()
        assert len(np.unique(codes)) == 3
        assert scale.shape == ()
        np.testing.assert_array_equal(
            numpy(layer.quantised_kernel()), (codes * scale).astype(np.float32)
        )
    expected = outputs(trained, inputs)
    trained.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert isinstance(loaded, TernaryModel)
    assert loaded.ec2t_report == trained.ec2t_report
    for one, other in zip(expected, outputs(loaded, inputs), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.fit(inputs, labels, batch_size=16, verbose=0)


def test_names_are_the_users() -> None:
    model = nets.nested()
    trained = ec2t_tf.apply(model, verbose=0)
    for name in ("first", "inner", "norm", "swish", "both", "gate", "separable", "logits"):
        assert trained.get_layer(name).name == name
    assert trained.input.keys() == model.input.keys()
    assert model.get_layer("both").output is not None  # the user's layers have one call each


def test_where_values_are_rounded() -> None:
    """One rounding an operator of the file: convolution, normalisation and ReLU are one."""
    trained = ec2t_tf.apply(nets.convolutional(), verbose=0)
    ranges = [layer.name for layer in trained.layers if isinstance(layer, FakeQuant)]
    assert ranges == [
        *("image_range", "first_range", "relu_range", "add_range", "pool_range"),
        *("hidden_range", "last_range"),
    ]


def test_a_shared_layer_has_one_kernel_and_a_range_a_call() -> None:
    trained = ec2t_tf.apply(nets.nested(), verbose=0)
    names = [layer.name for layer in trained.layers]
    assert names.count("first") == 1
    assert {"first_range", "first_range_2"} <= set(names)


def test_before_the_first_batch_values_pass() -> None:
    trained = ec2t_tf.apply(nets.convolutional(), verbose=0)
    plain = keras.models.clone_model(
        trained, clone_function=lambda x: layers.Identity() if isinstance(x, FakeQuant) else x
    )
    inputs, _ = nets.examples(trained, 8)
    np.testing.assert_array_equal(outputs(trained, inputs)[0], outputs(plain, inputs)[0])


def test_ranges_follow_the_batches_and_ignore_nan() -> None:
    layer = FakeQuant()
    first = np.array([[-1.0, 3.0]], np.float32)
    layer(first, training=True)
    assert (float(layer.smallest), float(layer.largest)) == (-1.0, 3.0)
    layer(np.array([[np.nan, 9.0]], np.float32), training=True)
    layer(np.array([[np.nan, np.inf]], np.float32), training=True)
    assert (float(layer.smallest), float(layer.largest)) == (-1.0, 3.0)
    layer(2 * first, training=True)
    assert (float(layer.smallest), float(layer.largest)) == pytest.approx((-1.01, 3.03))
    layer(9 * first, training=False)
    assert float(layer.largest) == pytest.approx(3.03)
    low, high = layer.limits
    assert high - low == pytest.approx(4.04)
    assert low * 255 / 4.04 == pytest.approx(round(low * 255 / 4.04), abs=1e-3)
    growing = FakeQuant(growth=0.05)
    growing(first, training=True)
    growing(2 * first, training=True)  # by at most 5 % of the range
    assert (float(growing.smallest), float(growing.largest)) == pytest.approx((-1.2, 3.2))
    growing(np.array([[-1.21, 1.0]], np.float32), training=True)  # to the value; shrinks by 1 %
    expected = (-1.21, 3.2 - 0.01 * 2.2)
    assert (float(growing.smallest), float(growing.largest)) == pytest.approx(expected)
    widest = FakeQuant("widest")
    widest(first, training=True)
    widest(first / 2, training=True)
    assert (float(widest.smallest), float(widest.largest)) == (-1.0, 3.0)
    new = FakeQuant(name="new")
    new(first)
    with pytest.raises(ValueError, match="has seen no batch"):
        _ = new.limits


def test_ties_are_those_of_the_operators() -> None:
    """The range is -128 to 127 steps of 0.5, so code = value / 0.5."""
    layer = FakeQuant()
    layer(np.array([-64.0, 63.5], np.float32), training=True)
    values = np.array([0.25, -0.25, 0.75, -0.75, 0.2, 63.5], np.float32)
    away = [0.5, -0.5, 1.0, -1.0, 0.0, 63.5]
    np.testing.assert_array_equal(numpy(layer(values, ties="away", training=True)), away)
    up = [0.5, 0.0, 1.0, -0.5, 0.0, 63.5]
    np.testing.assert_array_equal(numpy(layer(values, ties="up", training=True)), up)
    assert layer.limits == (-64.0, 63.5)


def test_averages_follow_at_once_and_ignore_nan() -> None:
    from ec2t_tf.quantisation import BatchNormalization

    layer = BatchNormalization(momentum=0.99)
    batch = np.full((4, 2), 5.0, np.float32)
    layer(batch, training=True)
    assert numpy(layer.moving_mean) == pytest.approx(4.5)  # momentum 1/10
    layer(batch, training=True)
    assert numpy(layer.moving_mean) == pytest.approx(5 - 0.5 * 2 / 11)
    before = numpy(layer.moving_mean)
    layer(np.full((4, 2), np.nan, np.float32), training=True)
    np.testing.assert_array_equal(numpy(layer.moving_mean), before)
    assert float(layer.batches) == 2
    layer.batches.assign(1e6)
    layer(2 * batch, training=True)
    np.testing.assert_allclose(numpy(layer.moving_mean), 0.99 * before + 0.1, rtol=1e-5)


def test_how_momentum_grows() -> None:
    """Batches since apply, then 256 examples, then a share of all batches, then the user's own."""
    from ec2t_tf.moving_average import growing_momentum

    def windows(examples: int) -> list[float]:
        found = []
        for batches in (0, 8, 80, 800, 8000, 10**6):
            momentum = growing_momentum(0.99, keras.ops.convert_to_tensor(float(batches)), examples)
            found.append(1 / (1 - float(numpy(momentum))))
        return found

    # As (1 + t) / (10 + t) says, until 256 / 64 = 4 are enough, until 1 in 99 of all are more.
    assert windows(64) == pytest.approx([10 / 9, 2, 4, 900 / 99, 8100 / 99, 100], rel=1e-3)
    later = [900 / 99, 8100 / 99, 100]
    assert windows(256) == pytest.approx([100 / 99, 108 / 99, 180 / 99, *later], rel=1e-3)
    assert windows(1)[:4] == pytest.approx([10 / 9, 2, 10, 90], rel=1e-3)


def test_frozen_layers_and_normalisations() -> None:
    model = nets.convolutional()
    model.get_layer("middle").trainable = False
    block = keras.Sequential([keras.Input(nets.IMAGE), layers.BatchNormalization(name="still")])
    inputs = keras.Input(nets.IMAGE)
    both = keras.Model(inputs, model(block(inputs, training=False)))
    trained = nets.compiled(ec2t_tf.apply(both, verbose=0))
    x, y = nets.examples(trained)
    latent = numpy(trained.get_layer("middle").latent)
    first = numpy(trained.get_layer("first").latent)
    trained.fit(x + 1, y, verbose=0)
    np.testing.assert_array_equal(numpy(trained.get_layer("middle").latent), latent)
    assert np.any(numpy(trained.get_layer("first").latent) != first)
    np.testing.assert_array_equal(numpy(trained.get_layer("still").moving_mean), 0)
    assert np.any(numpy(trained.get_layer("norm").moving_mean) != 0)


def test_a_schedule_of_the_network() -> None:
    """The target is met at once, follows the schedule over optimiser steps, and is frozen."""
    schedule = PolynomialDecay(0.3, 0.8, 0, 4, power=1, frequency=1)
    method = methods.EC2T(schedule=schedule, frozen_from=6, centroid_scale=0.1)
    trained = ec2t_tf.apply(nets.convolutional(), method, verbose=0)
    nets.compiled(trained, keras.optimizers.AdamW(1e-3, weight_decay=0.1))
    x, y = nets.examples(trained, 16)
    layer_list = ternary_layers(trained)

    def zeros() -> float:
        codes = [layer.assign().codes.ravel() for layer in layer_list]
        return float(np.mean(np.concatenate(codes) == 0))

    seen = []
    for _ in range(9):
        trained.train_on_batch(x, y)
        seen.append(zeros())
    # A pass sees the steps before it: 0, 1, ...
    expected = [0.3 + 0.125 * min(step, 4) for step in range(9)]
    np.testing.assert_allclose(seen[:6], expected[:6], atol=0.03)
    assert len(set(seen[6:])) == 1
    for layer in layer_list:
        assert int(layer.state["steps"]) == 8
        assert bool(numpy(layer.state["frozen"]))


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "method",
    [
        methods.ECP(prune_from=1),
        methods.TTQ(),
        methods.TWN(threshold="exact"),
        methods.AbsMean(),
        methods.TGA(),
        methods.SparsityRegularized(mode="learned", prune_from=2),
        methods.GeneralizedTernaryConnect(bits_every=1, level_penalty=1e-4),
        methods.EC2T(target_sparsity=0.7),
        methods.EC2T(prune_int8_from=1, frozen_from=2),
    ],
    ids=lambda method: method.name,
)
def test_every_method_trains(method: Any) -> None:
    """And computes at inference with what it is assigned."""
    parts = [layers.Dense(8, activation="relu", name=name) for name in "abc"]
    net = keras.Sequential([keras.Input((6,)), *parts, layers.Dense(2, name="last")])
    trained = ec2t_tf.apply(net, method, verbose=0)
    eager = keras.backend.backend() == "tensorflow"  # tracing takes longer than this training
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.01)
    trained.compile(optimizer, "mse", run_eagerly=eager)
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    losses = [float(trained.train_on_batch(x, x[:, :2])) for _ in range(4)]
    assert np.all(np.isfinite(losses))
    for layer in ternary_layers(trained):
        assert np.any(numpy(layer.latent) != numpy(net.get_layer(layer.name).kernel))
        np.testing.assert_array_equal(numpy(layer.quantised_kernel()), layer.assign().dequantise())


def test_two_passes_are_resumed(tmp_path: Path) -> None:
    """Thresholds step first and wait for nothing; statistics see the batch once."""

    def stepped(update: str, model: keras.Model | None = None) -> keras.Model:
        if model is None:
            method = methods.TGA(update=update, initial_threshold=0.2, threshold_learning_rate=1.0)
            model = ec2t_tf.apply(nets.convolutional(), method, verbose=0)
            nets.compiled(model, keras.optimizers.Adam(0.01))
        x, y = nets.examples(model, 32)
        model.train_on_batch(x, y)
        return model

    joint, twice = stepped("joint"), stepped("two_pass")
    assert int(numpy(twice.optimizer.iterations)) == 1
    for one, other in zip(ternary_layers(joint), ternary_layers(twice), strict=True):
        moved = [numpy(x.method._threshold.moved(x.state)) for x in (one, other)]
        # Joint: the step waits for the next pass. Two passes: the second one has taken it in.
        assert moved[0] != 0
        assert moved[1] == 0
        expected = numpy(one.state["threshold"]) + moved[0]
        assert numpy(other.state["threshold"]) == pytest.approx(expected, rel=1e-5)
        assert np.any(numpy(one.latent) != numpy(other.latent))
    means = [numpy(x.get_layer("norm").moving_mean) for x in (joint, twice)]
    assert 0 < np.abs(means[1]).sum() < 1.5 * np.abs(means[0]).sum()
    assert float(numpy(twice.get_layer("norm").batches)) == 1
    twice.save(tmp_path / "tga.keras")
    loaded = stepped("", keras.saving.load_model(tmp_path / "tga.keras"))
    assert int(numpy(loaded.optimizer.iterations)) == 2
    for layer in ternary_layers(loaded):
        assert numpy(layer.method._threshold.moved(layer.state)) == 0


def test_int8_policy() -> None:
    trained = ec2t_tf.apply(nets.convolutional(), policy=Policy([Rule("int8")]), verbose=0)
    assert not ternary_layers(trained)
    assert len(quantised_layers(trained)) == 4
    nets.compiled(trained)
    trained.fit(*nets.examples(trained), verbose=0)
    codes, scale = trained.get_layer("middle").codes_and_scale()
    assert scale.shape == (6,)
    np.testing.assert_array_equal(np.abs(codes).reshape(-1, 6).max(axis=0), 127)
    assert trained.get_layer("hidden").codes_and_scale()[1].shape == ()


class TestRefused:
    def test_nothing_to_make_ternary(self) -> None:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(2)])
        with pytest.raises(ValueError, match=r'policy=Policy\(\[Rule\("ternary"\)\]\)'):
            ec2t_tf.apply(model)
        trained = ec2t_tf.apply(model, policy=Policy([Rule("ternary")]), verbose=0)
        assert len(ternary_layers(trained)) == 2

    def test_a_treated_model(self) -> None:
        trained = ec2t_tf.apply(nets.convolutional(), verbose=0)
        inputs = keras.Input(nets.IMAGE)
        for model in (trained, keras.Model(inputs, trained(inputs))):
            with pytest.raises(ValueError, match=r"treated '[a-z]+' already.*strip"):
                ec2t_tf.apply(model)

    def test_a_quantised_model(self) -> None:
        model = nets.convolutional()
        with warnings.catch_warnings(action="ignore"):  # InputLayer cannot be quantised
            model.quantize("int8")
        with pytest.raises(ValueError, match=r"model\.quantize\('int8'\)"):
            ec2t_tf.apply(model)

    def test_a_subclassed_model(self) -> None:
        class Mine(keras.Model):
            def call(self, x: Any) -> Any:
                return x

        with pytest.raises(TypeError, match=r"Mine.*keras\.Model\(inputs, outputs\)"):
            ec2t_tf.apply(Mine())

    @pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
    def test_narrow_weights(self, policy: str) -> None:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(5, dtype=policy, name="d")])
        with pytest.raises(ValueError, match=f"'d' with the policy '{policy}'.*mixed_bfloat16"):
            ec2t_tf.apply(model)

    def test_non_finite_weights(self) -> None:
        model = nets.convolutional()
        model.get_layer("middle").kernel.assign(np.full((3, 3, 6, 6), np.nan))
        with pytest.raises(ValueError, match="NaN or infinity in 'middle/kernel'"):
            ec2t_tf.apply(model)
        trained = ec2t_tf.apply(nets.convolutional(), verbose=0)
        trained.get_layer("middle").latent.assign(np.full((3, 3, 6, 6), np.nan))
        with pytest.raises(ValueError, match=r"NaN or infinity in 'middle/.*kernel'"):
            trained.get_layer("middle").codes_and_scale()

    def test_neither_keras(self) -> None:
        with pytest.raises(TypeError, match=r"Keras 3 or tf_keras. Received: builtins\.int"):
            ec2t_tf.apply(3)


def test_wrapped_layers_are_found() -> None:
    trained = ec2t_tf.apply(nets.convolutional(), verbose=0)
    assert isinstance(trained.get_layer("middle"), Quantised)
    assert trained.get_layer("middle").kernel_name == "kernel"
