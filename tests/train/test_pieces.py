"""Cycles of the learning rate, moving averages, mixed examples, a teacher whose share falls; killed
and resumed with all of them."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf.methods import EC2T
from ec2t_tf.train import recipe
from ec2t_tf.train.distillation import Distillation
from ec2t_tf.train.doors import Keras3
from ec2t_tf.train.tasks.base import Split, TaskData

BATCH, STEPS = 16, 4


def blobs() -> TaskData:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 4 * BATCH * STEPS)
    inputs = random.normal(size=(len(labels), 12)).astype(np.float32)
    inputs[np.arange(len(labels)), labels] += 3.0
    split = Split(inputs, labels)
    one = np.ones(1, np.float32)
    return TaskData("blobs", split[: BATCH * STEPS], split[-32:], split[-64:-32], 3, 0 * one, one)


def net(hidden: int = 20) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(hidden, activation="relu"),
            keras.layers.Dense(3),
        ]
    )


def train(model: keras.Model, phase: recipe.Phase, folder: Path, teacher: keras.Model) -> None:
    folder.mkdir(exist_ok=True)
    recipe.train(
        Keras3(),
        model,
        blobs(),
        phase,
        batch_size=BATCH,
        steps_per_epoch=STEPS,
        seed=5,
        output_dir=folder,
        ternary=True,
        jit_compile=False,
        distil=Distillation(teacher, 0.6, last_share=0.1, steps=phase.epochs * STEPS),
        mixup=0.3,
        verbose=0,
    )


class KilledError(Exception):
    pass


def test_killed_and_resumed_with_every_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = recipe.Phase("ternary", 4, 3e-3, "adam", cycles=2, ema=0.9)
    keras.utils.set_random_seed(1)
    float_net = net()
    models = [ec2t_tf.apply(float_net, EC2T(target_sparsity=0.5)) for _ in range(3)]
    train(models[0], phase, tmp_path / "whole", float_net)
    keep = recipe.Checkpoints.on_epoch_end

    def die(self: recipe.Checkpoints, epoch: int, logs: dict | None = None) -> None:
        keep(self, epoch, logs)
        if epoch == 2:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(recipe.Checkpoints, "on_epoch_end", die)
        with pytest.raises(KilledError):
            train(models[1], phase, tmp_path / "killed", float_net)
    train(models[1], phase, tmp_path / "killed", float_net)
    train(models[2], phase, tmp_path / "killed", float_net)  # done before: nothing but its end
    for other in models[1:]:
        for a, b in zip(models[0].variables, other.variables, strict=True):
            if "seed" not in a.name:
                np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_a_phase_ends_at_the_moving_average(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = net()
    phase = recipe.Phase("float", 1, 1e-2, "adam", ema=0.5)
    kept: list[list[np.ndarray]] = []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            kept.append([v.numpy() for v in model.trainable_variables])

    data = blobs()
    model.compile(recipe.optimiser(Keras3(), phase, STEPS), "mse")
    targets = np.eye(3, dtype=np.float32)[data.train.labels]
    model.fit(data.train.inputs, targets, batch_size=BATCH, callbacks=[Keep()], verbose=0)
    average = kept[0]
    for after in kept[1:]:
        average = [0.5 * a + 0.5 * b for a, b in zip(average, after, strict=True)]
    for found, expected in zip(model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_cycles_are_that_many_schedules(tmp_path: Path) -> None:
    once = recipe.optimiser(Keras3(), recipe.Phase("ternary", 3, 0.1, "adam"), STEPS)
    twice = recipe.optimiser(Keras3(), recipe.Phase("ternary", 6, 0.1, "adam", cycles=2), STEPS)
    rates = []
    for optimiser, steps in ((once, 3 * STEPS), (twice, 6 * STEPS)):
        rates.append([])
        for step in range(steps):
            optimiser.iterations.assign(step)
            rates[-1].append(float(optimiser.learning_rate))
    np.testing.assert_allclose(rates[1], rates[0] * 2)
    assert max(rates[0]) == pytest.approx(0.1)
