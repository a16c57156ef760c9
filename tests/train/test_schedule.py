"""Schedules, the sparsity controller and the frozen phase, in every way a net can be trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

import ec2t_tf
from ec2t_tf import schedule as schedules
from ec2t_tf.methods import EC2T, deserialize, serialize
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests.train.scheduled import (
    LAYERS,
    LOSS,
    ConstantSparsity,
    PolynomialDecay,
    X,
    Y,
    fit,
    float_net,
    sparsity_of,
    state_of,
    ternary_net,
)

# ------------------------------------------------------------------------------------------------
# The controller


@pytest.mark.parametrize("seed", range(20))
def test_gain_is_the_quantile(seed):
    random = np.random.default_rng(seed)
    gains = [
        random.normal(0.1, 0.4, size=random.integers(1, 3000)).astype(np.float32)
        for _ in range(random.integers(1, 5))
    ]
    sparsity = np.float32(random.uniform(0.01, 0.99))
    found = float(schedules.gain_for_sparsity([tf.constant(g) for g in gains], sparsity))
    everything = np.sort(np.concatenate(gains))
    exact = everything[int(np.ceil(sparsity * everything.size)) - 1]
    step = 2 / schedules.GAIN_BINS
    assert abs(found - np.clip(exact, -1, 1 - step)) <= step, f"seed {seed}"


def test_gain_at_the_edges():
    gains = [tf.constant([-np.inf, -0.25, 0.5, np.inf], tf.float32)]
    found = schedules.gain_for_sparsity(gains, tf.constant([0.0, 0.2, 0.5, 0.75, 0.9])).numpy()
    np.testing.assert_allclose(found, [-1, -1, -0.25, 0.5, 1 - 2 / schedules.GAIN_BINS], atol=1e-6)


# ------------------------------------------------------------------------------------------------
# Target sparsity


@pytest.mark.parametrize("target", [0.5, 0.9])
def test_target_sparsity_is_met(target):
    model = ternary_net(EC2T(target_sparsity=target))
    assert sparsity_of(model) == pytest.approx(target, abs=0.01)  # before the first step
    fit(model, steps=8)
    assert sparsity_of(model) == pytest.approx(target, abs=0.01)
    gains = state_of(model, "entropy_gain")
    assert len(set(gains)) == 1  # one gain for the whole network
    assert -1 < gains[0] < 1


def test_layers_keep_their_size_factors():
    model = ternary_net(EC2T(target_sparsity=0.8))
    fit(model, steps=4)
    method = ternary_layers(model)[0].method
    factors = []
    for layer in ternary_layers(model):
        latent = tf.convert_to_tensor(layer.latent)
        centroids = method.centroids(latent, layer.state)
        at = method.thresholds(
            latent,
            centroids,
            relative_size=layer.quantizer.relative_size,
            entropy_gain=method.current_gain(layer.state),
        )
        full = method.thresholds(
            latent, centroids, relative_size=1.0, entropy_gain=tf.constant(1.0)
        )
        factors.append(float(at.lambda_ / full.lambda_))
    sizes = np.array([16 * 40, 40 * 20]) / (40 * 20)
    expected = (sizes + 0.05) / 1.05
    np.testing.assert_allclose(np.array(factors) / factors[1], expected, rtol=1e-4)


def test_fewer_zeros_than_nearest_neighbour():
    nearest = sparsity_of(ternary_net(EC2T(centroid_scale=0.5, entropy_gain=0.0)))
    model = ternary_net(EC2T(centroid_scale=0.5, target_sparsity=nearest - 0.2))
    fit(model, steps=4)
    assert sparsity_of(model) == pytest.approx(nearest - 0.2, abs=0.01)
    assert state_of(model, "entropy_gain")[0] < 0


def test_a_rising_schedule_starts_at_nearest_neighbour():
    nearest = sparsity_of(ternary_net(EC2T(centroid_scale=0.5, entropy_gain=0.0)))
    schedule = PolynomialDecay(0.0, 0.9, begin_step=0, end_step=100, frequency=1)
    model = ternary_net(EC2T(centroid_scale=0.5, schedule=schedule))
    assert sparsity_of(model) == nearest
    model.train_on_batch(X[:16], Y[:16])
    assert state_of(model, "entropy_gain") == [0.0] * LAYERS


def test_an_unreachable_target_is_said():
    net = float_net()
    net.get_layer("large").kernel.assign(tf.sign(net.get_layer("large").kernel))
    with pytest.warns(UserWarning, match=r"90\.0% zeros is out of reach.*centroid_scale"):
        ec2t_tf.apply(net, EC2T(target_sparsity=0.9))


def test_dead_weights_stay_zero():
    net = float_net()
    kernel = net.get_layer("large").kernel
    dead = np.arange(kernel.shape[0]) % 4 != 0
    kernel.assign(np.where(dead[:, None], 1e-7, kernel.numpy()))
    with pytest.warns(UserWarning, match=r"30\.0% zeros is out of reach.*at least 4"):
        model = ec2t_tf.apply(net, EC2T(target_sparsity=0.3))
    model.compile("adam", LOSS, run_eagerly=True)
    fit(model, steps=4)
    layer = next(layer for layer in ternary_layers(model) if layer.name == "large")
    codes = layer.assign().codes
    assert (codes[dead] == 0).all()
    assert (codes[~dead] != 0).mean() > 0.8


def test_a_given_centroid_scale_is_kept():
    model = ternary_net(EC2T(target_sparsity=0.8, centroid_scale=0.25))
    layer = ternary_layers(model)[0]
    latent = layer.latent.numpy()
    np.testing.assert_allclose(
        layer.state["centroids"].numpy(), [-0.25 * latent.min(), 0.25 * latent.max()], rtol=1e-6
    )
    assert sparsity_of(model) == pytest.approx(0.8, abs=0.01)


def test_sparsity_schedule_over_steps():
    schedule = PolynomialDecay(0.6, 0.9, begin_step=2, end_step=8, frequency=2)
    model = ternary_net(EC2T(schedule=schedule, centroid_scale=0.05))
    seen = {}
    for step in range(0, 12, 2):
        for _ in range(2):
            model.train_on_batch(X[:16], Y[:16])
        _, value = schedule(tf.constant(step, tf.int64))
        seen[step] = (sparsity_of(model), float(value))
    assert state_of(model, "steps") == [11.0] * LAYERS  # the 12th is counted by the next pass
    nearest, _ = seen.pop(0)
    assert nearest < 0.6  # before the schedule begins: nearest neighbour
    for step, (measured, wanted) in seen.items():
        assert measured == pytest.approx(min(wanted, 0.9), abs=0.02), step


def test_gain_schedule_over_steps():
    schedule = PolynomialDecay(0.0, 0.4, begin_step=0, end_step=8, power=1, frequency=1)
    model = ternary_net(EC2T(schedule=schedule, schedule_of="entropy_gain"))
    for step in range(12):
        model.train_on_batch(X[:16], Y[:16])
        assert state_of(model, "entropy_gain") == pytest.approx([min(step, 8) * 0.05] * LAYERS)


def test_outside_its_pruning_steps_the_last_value_holds():
    schedule = ConstantSparsity(0.3, begin_step=2, end_step=3, frequency=1)
    model = ternary_net(EC2T(schedule=schedule, schedule_of="entropy_gain"))
    gains = []
    for _ in range(6):
        model.train_on_batch(X[:16], Y[:16])
        gains.append(state_of(model, "entropy_gain")[0])
    assert gains == pytest.approx([0, 0, 0.3, 0.3, 0.3, 0.3])


@tf_keras.saving.register_keras_serializable(package="test_schedule")
class Stairs(tfmot.sparsity.keras.PruningSchedule):
    """A schedule of the user's own."""

    def __init__(self, step_size: float):
        self.step_size = step_size

    def __call__(self, step):
        return tf.constant(True), tf.minimum(0.8, self.step_size * tf.cast(step, tf.float32))

    def get_config(self):
        return {"class_name": "Stairs", "config": {"step_size": self.step_size}}


def test_a_schedule_of_the_users_own():
    model = ternary_net(EC2T(schedule=Stairs(0.2)))
    fit(model, steps=8)
    assert sparsity_of(model) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    "method",
    [
        EC2T(),
        EC2T(target_sparsity=0.7),
        EC2T(
            schedule=PolynomialDecay(0.1, 0.7, 0, 10, frequency=5), frozen_from=0.5, total_steps=10
        ),
        EC2T(schedule=Stairs(0.1), schedule_of="entropy_gain"),
    ],
)
def test_methods_survive_json(method):
    config = json.loads(json.dumps(serialize(method)))
    again = deserialize(config)
    assert serialize(again) == serialize(method)
    assert type(again.schedule) is type(method.schedule)


# ------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_sparsity": 1.0}, "target_sparsity"),
        ({"target_sparsity": 80}, "0.8 for 80 % zeros"),
        ({"target_sparsity": 0.8, "entropy_gain": 0.1}, "entropy_gain and target_sparsity"),
        ({"frozen_from": -1}, "frozen_from"),
        ({"frozen_from": 1.5}, "frozen_from"),
        ({"frozen_from": 0.7, "total_steps": 0}, "total_steps"),
        ({"prune_int8_from": -1}, "prune_int8_from"),
        ({"prune_int8_from": 0.8, "frozen_from": 0.7}, "must come before frozen_from"),
        ({"schedule": ConstantSparsity(0.5, 0), "schedule_of": "gain"}, "schedule_of"),
        ({"schedule": {"class_name": "Nobody", "config": {}}}, "Nobody"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EC2T(**options)


@pytest.mark.parametrize("moment", ["frozen_from", "prune_int8_from"])
def test_a_share_of_an_unknown_length_is_refused(moment):
    with pytest.raises(ValueError, match="requires total_steps"):
        ec2t_tf.apply(float_net(), EC2T(**{moment: 0.7}))


@pytest.mark.parametrize("library", [tfmot.sparsity.keras, ec2t_tf])
def test_a_schedule_that_never_gets_anywhere_is_warned_of(library):
    with pytest.warns(UserWarning, match=r"never reaches 0\.8\. Pass frequency=1"):
        EC2T(schedule=library.PolynomialDecay(0.2, 0.8, 0, 75))
    EC2T(schedule=library.PolynomialDecay(0.2, 0.8, 0, 75, frequency=1))
    EC2T(schedule=library.PolynomialDecay(0.2, 0.8, 0, 100))


def test_no_schedule_is_refused():
    with pytest.raises(TypeError, match="PruningSchedule"):
        EC2T(schedule=0.8)


def test_layers_that_do_not_know_each_other_do_not_train():
    model = ternary_net(EC2T(target_sparsity=0.8))
    for layer in ternary_layers(model):
        layer.quantizer.members = None
    model(X, training=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"ec2t_tf\.load_model"):
        model(X, training=True)
