"""Data: held-out validation images, and an epoch as a function of its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ec2t_tf.train import data as image_data


@pytest.fixture(scope="module")
def digits() -> image_data.ImageData:
    return image_data.load("digits")


def batches(data: image_data.ImageData, first: int, last: int, seed: int = 5) -> list[np.ndarray]:
    pipeline = data.training(batch_size=100, seed=seed, first_epoch=first, last_epoch=last)
    return [np.concatenate([x.numpy().ravel(), y.numpy()]) for x, y in pipeline]


def test_digits_are_split_without_overlap(digits: image_data.ImageData) -> None:
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split) for split in splits] == [1294, 144, 359]
    assert digits.image_shape == (8, 8, 1)
    assert digits.classes == 10
    rows = [set(map(bytes, split.images)) for split in splits]
    assert not rows[0] & rows[1]


def test_an_epoch_depends_on_its_number_and_the_seed_only(digits: image_data.ImageData) -> None:
    whole = batches(digits, 0, 3)
    assert len(whole) == 3 * digits.steps_per_epoch(100)
    for a, b in zip(whole[12:], batches(digits, 1, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(whole[0] != whole[12])
    assert np.any(whole[0] != batches(digits, 0, 1, seed=6)[0])


def test_a_short_epoch_is_the_beginning_of_a_whole_one(digits: image_data.ImageData) -> None:
    whole = batches(digits, 0, 2)
    short = digits.training(batch_size=100, steps=3, seed=5, first_epoch=0, last_epoch=2)
    assert [int(y[0]) for _, y in short] == [int(batch[-100]) for batch in whole[:3] + whole[12:15]]


def test_every_image_once_an_epoch(digits: image_data.ImageData) -> None:
    pipeline = digits.training(batch_size=1, seed=0, first_epoch=0, last_epoch=1)
    labels = np.sort([int(y[0]) for _, y in pipeline])
    np.testing.assert_array_equal(labels, np.sort(digits.train.labels))


def test_normalised(digits: image_data.ImageData) -> None:
    pixels = digits.normalise(digits.train.images).numpy()
    assert abs(pixels.mean()) < 0.05
    assert abs(pixels.std() - 1) < 0.05


def test_augmentation_mirrors_and_shifts() -> None:
    images = np.zeros((200, 6, 6, 1), np.uint8)
    images[:, 2, 1] = 255
    seed = tf.constant([1, 2], tf.int64)
    mirrored = image_data.augmentation(mirror=True, shift=0)(tf.constant(images), seed).numpy()
    columns = mirrored.argmax(axis=2)[:, 2, 0]
    assert set(columns) == {1, 4}
    shifted = image_data.augmentation(mirror=False, shift=1)(tf.constant(images), seed).numpy()
    assert shifted.shape == images.shape
    places = {tuple(np.argwhere(image)[0][:2]) for image in shifted}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}


@pytest.mark.parametrize("batch_size", [0, 10_000])
def test_batch_size(digits: image_data.ImageData, batch_size: int) -> None:
    with pytest.raises(image_data.DataError, match=f"Received: batch_size={batch_size}"):
        digits.steps_per_epoch(batch_size)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_validation_must_be_held_out(fraction: float) -> None:
    with pytest.raises(image_data.DataError, match="validation_fraction"):
        image_data.load("digits", validation_fraction=fraction)


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(image_data.DataError, match="'no_such_set' is neither"):
        image_data.load("no_such_set", tfds_dir=str(tmp_path))


def test_prepared_tfds_set(shared: Path) -> None:
    data = image_data.load("mnist", tfds_dir=str(shared / "tfds"))
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.image_shape == (28, 28, 1)
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
