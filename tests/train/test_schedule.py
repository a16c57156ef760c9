"""Schedules, the sparsity controller and the frozen phase, in every way a net can be trained."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf import schedule as schedules
from ec2t_tf.methods import EC2T, deserialize, serialize
from ec2t_tf.tfmot.quantize_config import ternary_layers

ConstantSparsity = tfmot.sparsity.keras.ConstantSparsity
PolynomialDecay = tfmot.sparsity.keras.PolynomialDecay


def float_net(seed: int = 0) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    normal = tf_keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    return tf_keras.Sequential(
        [
            layers.InputLayer((8,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.Dense(40, activation="relu", kernel_initializer=normal, name="large"),
            layers.Dense(20, activation="relu", kernel_initializer=normal, name="middle"),
            layers.Dense(3, name="last"),
        ]
    )


LAYERS = 2  # ternary ones
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 8)).astype(np.float32)
Y = (X @ RANDOM.normal(size=(8, 3))).argmax(axis=1)
LOSS = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def ternary_net(
    method: EC2T, *, optimizer="adam", run_eagerly: bool = True, **compiled
) -> tf_keras.Model:
    """Tracing takes longer than training such a net, so most tests run eagerly."""
    model = ec2t_tf.apply(float_net(), method)
    model.compile(optimizer, LOSS, run_eagerly=run_eagerly, **compiled)
    return model


def fit(model, *, steps: int, batch_size: int = 16) -> None:
    per_epoch = len(X) // batch_size
    assert steps % per_epoch == 0
    model.fit(X, Y, batch_size=batch_size, epochs=steps // per_epoch, shuffle=False, verbose=0)


def sparsity_of(model) -> float:
    """Share of zeros in all ternary layers together."""
    codes = [layer.assign().codes.ravel() for layer in ternary_layers(model)]
    return float(np.mean(np.concatenate(codes) == 0))


def state_of(model, name: str) -> list[float]:
    return [float(layer.state[name].numpy()) for layer in ternary_layers(model)]


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
        EC2T(schedule=PolynomialDecay(0.1, 0.7, 0, 10), frozen_from=0.5, total_steps=10),
        EC2T(schedule=Stairs(0.1), schedule_of="entropy_gain"),
    ],
)
def test_methods_survive_json(method):
    config = json.loads(json.dumps(serialize(method)))
    again = deserialize(config)
    assert serialize(again) == serialize(method)
    assert type(again.schedule) is type(method.schedule)


# ------------------------------------------------------------------------------------------------
# Steps are the optimiser's


SCHEDULED = {
    "schedule": PolynomialDecay(0.3, 0.9, begin_step=0, end_step=20, power=1, frequency=1),
    "centroid_scale": 0.1,
}
OPTIMIZERS = {
    "sgd": lambda: tf_keras.optimizers.SGD(0.05),
    "momentum": lambda: tf_keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: tf_keras.optimizers.Adam(1e-3),
    "clipped": lambda: tf_keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
    "adamw": lambda: tf_keras.optimizers.AdamW(1e-3, weight_decay=0.1),
    "adadelta": lambda: tf_keras.optimizers.Adadelta(1.0),
    "ftrl": lambda: tf_keras.optimizers.Ftrl(0.05),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_counted_under_every_optimizer(name):
    model = ternary_net(EC2T(**SCHEDULED), optimizer=OPTIMIZERS[name]())
    fit(model, steps=4)
    assert state_of(model, "steps") == [3.0] * LAYERS
    model(X, training=True)
    model(X, training=True)  # passes without a step count nothing
    model(X, training=False)
    assert state_of(model, "steps") == [4.0] * LAYERS


def test_the_clock_does_not_disturb_gradients():
    model = ternary_net(EC2T(**SCHEDULED))
    with tf.GradientTape() as tape:
        loss = LOSS(Y, model(X, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    clocks = [
        float(gradient)
        for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
        if "clock" in variable.name
    ]
    assert len(clocks) == LAYERS
    assert all(0 < clock < 1e-10 for clock in clocks)


def gradients_of(model, x, y):
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    return tape.gradient(loss, model.trainable_variables)


def weights_after(train, **compiled) -> list[np.ndarray]:
    model = ternary_net(EC2T(**SCHEDULED), **compiled)
    train(model)
    return [weight.numpy() for weight in model.weights]


def test_fit_custom_loop_and_steps_per_execution_agree():
    def loop(model):
        step = tf.function(
            lambda x, y: model.optimizer.apply_gradients(
                zip(gradients_of(model, x, y), model.trainable_variables, strict=True)
            )
        )
        for at in range(0, 64, 16):
            step(tf.constant(X[at : at + 16]), tf.constant(Y[at : at + 16]))

    def by_fit(model):
        fit(model, steps=4)

    looped = weights_after(loop)
    eager = weights_after(by_fit)
    several = weights_after(by_fit, run_eagerly=False, steps_per_execution=4)
    for one, two, three in zip(looped, eager, several, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
        np.testing.assert_allclose(one, three, atol=1e-6)


def test_gradient_accumulation_counts_optimiser_steps():
    model = ternary_net(EC2T(**SCHEDULED))
    sparsities: list[float] = []
    for step in range(3):
        total = None
        for at in (0, 16, 32, 48):
            gradients = gradients_of(model, X[at : at + 16], Y[at : at + 16])
            total = (
                gradients
                if total is None
                else [a + b for a, b in zip(total, gradients, strict=True)]
            )
            sparsities.append(sparsity_of(model))
        assert state_of(model, "steps") == [float(step)] * LAYERS
        # All passes of one step compute with the same assignment.
        assert len(set(sparsities[-4:])) == 1
        model.optimizer.apply_gradients(
            (gradient / 4, variable)
            for gradient, variable in zip(total, model.trainable_variables, strict=True)
        )
    assert sparsity_of(model) == pytest.approx(0.3 + 2 * 0.03, abs=0.02)


def train_on(devices) -> None:
    strategy = tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = ternary_net(EC2T(**SCHEDULED, frozen_from=6), run_eagerly=False)
    fit(model, steps=8)
    assert state_of(model, "steps") == [7.0] * LAYERS
    assert state_of(model, "frozen") == [1.0] * LAYERS
    assert sparsity_of(model) == pytest.approx(0.3 + 5 * 0.03, abs=0.02)
    for weight in model.weights:
        copies = [copy.numpy() for copy in strategy.experimental_local_results(weight)]
        assert len(copies) == len(devices)
        np.testing.assert_array_equal(copies[0], copies[-1], err_msg=weight.name)


def test_in_a_mirrored_strategy():
    train_on(["CPU:0"])


@pytest.mark.slow
def test_on_two_devices():
    # Logical devices exist only if they are asked for before TensorFlow starts: a new process.
    program = """
import importlib.util, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
spec = importlib.util.spec_from_file_location("test_schedule", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train_on(["CPU:0", "CPU:1"])
"""
    subprocess.run([sys.executable, "-c", program, __file__], check=True)


# ------------------------------------------------------------------------------------------------
# The frozen phase


def codes_of(model) -> list[np.ndarray]:
    return [layer.assign().codes for layer in ternary_layers(model)]


@pytest.mark.parametrize("options", [{}, {"target_sparsity": 0.8}])
def test_a_frozen_phase_changes_no_code(options):
    method = EC2T(frozen_from=0.5, total_steps=8, **options)
    model = ternary_net(method, optimizer=tf_keras.optimizers.Adam(0.03))
    fit(model, steps=4)
    before = codes_of(model)  # what the next pass freezes
    moving = [layer.latent.numpy() for layer in ternary_layers(model)]
    centroids = [layer.assign().levels for layer in ternary_layers(model)]
    first = model.get_layer("quant_first").get_weights()[0]
    for at in (0, 16, 32, 48):
        model.train_on_batch(X[at : at + 16], Y[at : at + 16])
        for frozen, now in zip(before, codes_of(model), strict=True):
            np.testing.assert_array_equal(frozen, now)
    # The rest goes on training: centroids, int8 layers.
    assert any(
        np.abs(old - layer.assign().levels).max() > 1e-5
        for old, layer in zip(centroids, ternary_layers(model), strict=True)
    )
    assert np.abs(first - model.get_layer("quant_first").get_weights()[0]).max() > 1e-3
    # Without the freeze the codes would have moved: the latents' momentum alone moves weights.
    assert any(
        not np.array_equal(old, layer.latent.numpy())
        for old, layer in zip(moving, ternary_layers(model), strict=True)
    )


def test_without_a_frozen_phase_codes_change():
    model = ternary_net(EC2T(), optimizer=tf_keras.optimizers.Adam(0.03))
    fit(model, steps=4)
    before = codes_of(model)
    fit(model, steps=4)
    assert any(not np.array_equal(a, b) for a, b in zip(before, codes_of(model), strict=True))


def test_frozen_latents_get_no_gradient():
    model = ternary_net(EC2T(frozen_from=0))
    gradients = gradients_of(model, X, Y)
    by_name = {
        variable.name.removeprefix("quant_"): gradient.numpy()
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
    }
    assert not by_name["large/kernel:0"].any()
    assert by_name["first/kernel:0"].any()
    assert any(value.any() for name, value in by_name.items() if "centroid_step" in name)


# ------------------------------------------------------------------------------------------------
# Pruning of the int8 layers, as a phase


@pytest.mark.parametrize("eagerly", [True, False])
def test_int8_layers_are_pruned_from_their_moment_on(eagerly):
    """Train, prune the int8 layers, freeze: one `fit`."""
    method = EC2T(target_sparsity=0.8, prune_int8_from=0.5, frozen_from=0.75, total_steps=16)
    model = ternary_net(method, optimizer=tf_keras.optimizers.Adam(0.01), run_eagerly=eagerly)
    assert model.ec2t_report.of("prune") == ["first", "last"]

    def pruned() -> list[np.ndarray]:
        return [k.assign().codes == 0 for k in ternary_layers(model) if not k.method.is_ternary]

    def share() -> float:
        return float(np.mean(np.concatenate([zeros.ravel() for zeros in pruned()])))

    fit(model, steps=4)
    assert share() < 0.05
    fit(model, steps=4)
    assert share() > 0.15
    fit(model, steps=4)
    frozen = pruned()
    fit(model, steps=4)
    for before, after in zip(frozen, pruned(), strict=True):
        np.testing.assert_array_equal(before, after)
    # What is computed is what is exported.
    for k in ternary_layers(model):
        computed = k.method.quantise(
            tf.convert_to_tensor(k.latent),
            k.state,
            relative_size=k.quantizer.relative_size,
            training=False,
        )
        np.testing.assert_array_equal(computed, k.assign().dequantise())


def test_before_their_moment_int8_layers_train_as_such():
    def gradients(method: EC2T) -> dict[str, np.ndarray]:
        model = ternary_net(method)
        names = [variable.name for variable in model.trainable_variables]
        return dict(zip(names, gradients_of(model, X, Y), strict=True))

    plain, waiting = gradients(EC2T()), gradients(EC2T(prune_int8_from=5))
    for name in ("quant_first/kernel:0", "quant_last/kernel:0"):
        np.testing.assert_allclose(plain[name], waiting[name], rtol=1e-5, atol=1e-7)


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
