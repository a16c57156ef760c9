"""The teacher's word: the formula, its limits, and the way through `fit`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from ec2t_tf.train import targets, tasks, zoo
from ec2t_tf.train.distillation import Distillation, net_of
from ec2t_tf.train.doors import open_door
from ec2t_tf.train.run import distillation_of

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 5, size=7)
TEACHER, STUDENT = RANDOM.normal(size=(2, 7, 5)).astype(np.float32) * 3


def targets_of(share: float, *, other=LABELS, mixed: float = 0.0) -> np.ndarray:
    columns = [LABELS, other, np.full(7, mixed), np.full(7, share), *TEACHER.T]
    return np.stack(columns, axis=1).astype(np.float32)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def teacher_of():
    return keras.Sequential([keras.Input((5,)), keras.layers.Identity()])


@pytest.mark.parametrize(("share", "temperature"), [(0.7, 2.0), (1.0, 4.0), (0.1, 1.0)])
def test_loss_is_hintons(share, temperature):
    loss = targets.loss(
        keras.ops.convert_to_tensor(targets_of(share)),
        keras.ops.convert_to_tensor(STUDENT),
        temperature=temperature,
    )
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    soft = (p * np.log(p / q)).sum(axis=1)
    hard = -np.log(softmax(STUDENT)[np.arange(7), LABELS])
    loss = keras.ops.convert_to_numpy(loss)
    np.testing.assert_allclose(loss, share * temperature**2 * soft + (1 - share) * hard, rtol=1e-4)


def test_labels_alone_give_cross_entropy():
    hard = -np.log(softmax(STUDENT)[np.arange(7), LABELS])
    for labels in (LABELS, LABELS[:, None]):
        loss = targets.loss(
            keras.ops.convert_to_tensor(labels), keras.ops.convert_to_tensor(STUDENT)
        )
        loss = keras.ops.convert_to_numpy(loss)
        np.testing.assert_allclose(loss, hard, rtol=1e-5)


def test_accuracy_looks_at_the_label_only():
    expected = (STUDENT.argmax(axis=1) == LABELS).astype(np.float32)
    found = targets.accuracy(keras.ops.convert_to_tensor(targets_of(0.7)), STUDENT)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), expected)


def test_targets_carry_the_teachers_logits():
    # The model passes its input on: the images are the teacher's logits.
    teacher = Distillation(teacher_of())
    batches = [(TEACHER[:4], LABELS[:4]), (TEACHER[4:], LABELS[4:])]
    found = np.concatenate([y for _, y in teacher.attach(iter(batches))])
    np.testing.assert_array_equal(found, targets_of(0.7))
    images, in_a_graph = teacher.targets(
        *map(keras.ops.convert_to_tensor, (TEACHER, targets.rows(LABELS)))
    )
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(images), TEACHER)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(in_a_graph), targets_of(0.7))


def test_the_teachers_share_falls_evenly_and_resumes():
    teacher = Distillation(teacher_of(), 0.8, last_share=0.2, steps=4)
    batches = [(TEACHER, LABELS)] * 4
    shares = [y[0, 3] for _, y in teacher.attach(iter(batches))]
    np.testing.assert_allclose(shares, [0.8, 0.6, 0.4, 0.2], rtol=1e-6)
    later = [y[0, 3] for _, y in teacher.attach(iter(batches[:2]), first_step=2)]
    assert later == shares[2:]


def test_a_teacher_is_asked_once_for_images_that_come_again(monkeypatch):
    asked = []

    def answer(images):
        asked.append(len(images))
        return images * 2

    teacher = Distillation(
        teacher_of(), examples=[(TEACHER[:4], LABELS[:4]), (TEACHER[4:], LABELS[4:])]
    )
    monkeypatch.setattr(teacher.teacher, "predict_on_batch", answer)
    order = np.array([6, 2, 0, 5, 1, 3, 4])
    rows = [range(4), range(3, 7), order[:4], order[3:]]
    found = [y for _, y in teacher.attach((TEACHER[list(r)], LABELS[list(r)]) for r in rows)]
    assert asked == [4, 3]
    for r, targets_ in zip(rows, found, strict=True):
        np.testing.assert_array_equal(targets_[:, targets.COLUMNS :], TEACHER[list(r)] * 2)
        np.testing.assert_array_equal(targets_[:, 0], LABELS[list(r)])


@pytest.mark.parametrize("augment", [False, True])
def test_the_script_asks_once_without_augmentation(augment: bool) -> None:
    data = tasks.load("digits")
    data = data if augment else dataclasses.replace(data, augment=tasks.unchanged)
    settings = SimpleNamespace(
        distill=0.5,
        distill_temperature=2.0,
        distill_end=None,
        epochs=2,
        steps_per_epoch=None,
        batch_size=128,
        mixup=0.0,
    )
    found = distillation_of(settings, teacher_of(), data)
    assert (found.examples is None) == augment
    if not augment:
        (batch, _), *_ = data.training(batch_size=128, seed=3, first_epoch=0, last_epoch=1)
        known = {image.tobytes() for images, _ in found.examples for image in images}
        assert {image.tobytes() for image in batch} <= known


@pytest.mark.parametrize(
    "options", [{"share": 0.0}, {"share": 1.5}, {"temperature": 0.0}, {"last_share": -0.1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Distillation(teacher_of(), **options)


@pytest.mark.parametrize("name", ["keras", "tfmot"])
def test_another_net_of_the_zoo_teaches(name: str, tmp_path: Path) -> None:
    data = tasks.load("digits")
    net = zoo.build("resnet8", input_shape=data.input_shape, classes=data.outputs)
    net.save_weights(tmp_path / "its.weights.h5")
    teacher = net_of("resnet8", tmp_path / "its.weights.h5", data, open_door(name))
    images = data.normalise(data.test.inputs[:4])
    found, expected = teacher.predict(images, verbose=0), net.predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.1
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        net_of("resnet8", tmp_path / "none.h5", data, open_door(name))
