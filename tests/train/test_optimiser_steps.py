"""Steps are the optimiser's, in every way a net can be trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from ec2t_tf.methods import EC2T
from tests.train.scheduled import (
    LAYERS,
    LOSS,
    PolynomialDecay,
    X,
    Y,
    fit,
    gradients_of,
    sparsity_of,
    state_of,
    ternary_net,
)

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
spec = importlib.util.spec_from_file_location("test_optimiser_steps", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train_on(["CPU:0", "CPU:1"])
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, __file__], check=True, cwd=root)
