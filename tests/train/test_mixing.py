"""Cutout and mixup against plain loops; the loss of mixed labels by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ec2t_tf.train import mixing, targets

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("side", [1, 4, 5, 40])
def test_cutout_blanks_one_square_of_each_image(side: int) -> None:
    images = RANDOM.integers(1, 255, (50, 12, 9, 3)).astype(np.uint8)
    filler = np.array([0.0, 7.4, 250.0], np.float32)
    before = images.copy()
    found = mixing.cutout(side, filler)(images, np.random.default_rng(1))
    np.testing.assert_array_equal(images, before)
    assert found.dtype == np.uint8
    centres = set()
    for image, blanked in zip(images, found, strict=True):
        rows, columns = np.nonzero((blanked == filler.astype(np.uint8)).all(axis=-1))
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        assert len(rows) == (bottom - top + 1) * (right - left + 1)  # all of one rectangle
        assert bottom - top < side
        assert right - left < side
        if top > 0 and bottom < 11 and side < 9:
            assert bottom - top + 1 == side
        outside = np.ones((12, 9), bool)
        outside[rows, columns] = False
        np.testing.assert_array_equal(image[outside], blanked[outside])
        centres.add((int(top), int(left)))
    assert len(centres) > 5 or side == 40


def test_mixup_mixes_inputs_as_labels() -> None:
    inputs = RANDOM.normal(size=(16, 5, 2)).astype(np.float32)
    labels = np.arange(16)
    batches = [(inputs, labels)] * 3
    found = list(mixing.mixup(iter(batches), 0.4, seed=3))
    for mixed, rows in found:
        for example, (label, other, share, taught) in zip(mixed, rows, strict=True):
            expected = (1 - share) * inputs[int(label)] + share * inputs[int(other)]
            np.testing.assert_allclose(example, expected, atol=1e-6)
            assert taught == 0
    assert not np.array_equal(found[0][1], found[1][1])
    later = list(mixing.mixup(iter(batches[:1]), 0.4, seed=3, first_step=2))
    np.testing.assert_array_equal(later[0][0], found[2][0])  # resumed
    np.testing.assert_array_equal(later[0][1], found[2][1])
    shares = np.concatenate([rows[:, 2] for _, rows in found])
    assert 0.2 < shares.mean() < 0.8
    assert ((shares < 0.1) | (shares > 0.9)).mean() > 0.2


def test_the_loss_of_mixed_labels() -> None:
    logits = RANDOM.normal(size=(6, 4)).astype(np.float32)
    rows = targets.rows(np.array([0, 1, 2, 3, 0, 1]))
    rows[:, 1], rows[:, 2] = [3, 3, 0, 1, 0, 2], [0.0, 0.25, 0.5, 1.0, 0.3, 0.9]
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [
        -(1 - row[2]) * log[i, int(row[0])] - row[2] * log[i, int(row[1])]
        for i, row in enumerate(rows)
    ]
    found = targets.loss(keras.ops.convert_to_tensor(rows), keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-4)
    right = targets.accuracy(keras.ops.convert_to_tensor(rows), keras.ops.convert_to_tensor(logits))
    greater = np.where(rows[:, 2] > 0.5, rows[:, 1], rows[:, 0])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(right), logits.argmax(axis=1) == greater
    )
