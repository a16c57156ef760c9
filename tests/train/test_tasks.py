"""Tasks: held-out validation images, and an epoch as a function of its number."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ec2t_tf.export.features import log_mel
from ec2t_tf.train import tasks
from ec2t_tf.train.tasks import arrays, images, sensors, speech


@pytest.fixture(scope="module")
def digits() -> tasks.TaskData:
    return tasks.load("digits")


def batches(data: tasks.TaskData, first: int, last: int, seed: int = 5) -> list[np.ndarray]:
    pipeline = data.training(batch_size=100, seed=seed, first_epoch=first, last_epoch=last)
    return [np.concatenate([x.ravel(), y]) for x, y in pipeline]


def test_digits_are_split_without_overlap(digits: tasks.TaskData) -> None:
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split) for split in splits] == [1294, 144, 359]
    assert digits.input_shape == (8, 8, 1)
    assert digits.classes == 10
    rows = [set(map(bytes, split.inputs)) for split in splits]
    assert not rows[0] & rows[1]


def test_an_epoch_depends_on_its_number_and_the_seed_only(digits: tasks.TaskData) -> None:
    whole = batches(digits, 0, 3)
    assert len(whole) == 3 * digits.steps_per_epoch(100)
    for a, b in zip(whole[12:], batches(digits, 1, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(whole[0] != whole[12])
    assert np.any(whole[0] != batches(digits, 0, 1, seed=6)[0])


def test_a_short_epoch_is_the_beginning_of_a_whole_one(digits: tasks.TaskData) -> None:
    whole = batches(digits, 0, 2)
    short = digits.training(batch_size=100, steps=3, seed=5, first_epoch=0, last_epoch=2)
    assert [int(y[0]) for _, y in short] == [int(batch[-100]) for batch in whole[:3] + whole[12:15]]


def test_every_image_once_an_epoch(digits: tasks.TaskData) -> None:
    pipeline = digits.training(batch_size=1, seed=0, first_epoch=0, last_epoch=1)
    labels = np.sort([int(y[0]) for _, y in pipeline])
    np.testing.assert_array_equal(labels, np.sort(digits.train.labels))


def test_normalised(digits: tasks.TaskData) -> None:
    pixels = digits.normalise(digits.train.inputs)
    assert abs(pixels.mean()) < 0.05
    assert abs(pixels.std() - 1) < 0.05


def test_augmentation_mirrors_and_shifts() -> None:
    blank = np.zeros((200, 6, 6, 1), np.uint8)
    blank[:, 2, 1] = 255
    random = np.random.default_rng(1)
    mirrored = images.augmentation(mirror=True, shift=0)(blank, random)
    columns = mirrored.argmax(axis=2)[:, 2, 0]
    assert set(columns) == {1, 4}
    shifted = images.augmentation(mirror=False, shift=1)(blank, random)
    assert shifted.shape == blank.shape
    places = {tuple(np.argwhere(image)[0][:2]) for image in shifted}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}


@pytest.mark.parametrize("batch_size", [0, 10_000])
def test_batch_size(digits: tasks.TaskData, batch_size: int) -> None:
    with pytest.raises(tasks.DataError, match=f"Received: batch_size={batch_size}"):
        digits.steps_per_epoch(batch_size)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_validation_must_be_held_out(fraction: float) -> None:
    with pytest.raises(tasks.DataError, match="validation_fraction"):
        tasks.load("digits", validation_fraction=fraction)


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(tasks.DataError, match="'no_such_set' is neither"):
        tasks.load("no_such_set", tfds_dir=str(tmp_path))


def test_prepared_tfds_set(shared: Path) -> None:
    data = tasks.load("mnist", tfds_dir=str(shared / "tfds"))
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.input_shape == (28, 28, 1)
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def image_folder(folder: Path, sizes: dict[str, tuple[int, int]], count: int = 5) -> Path:
    rng = np.random.default_rng(0)
    for label, size in sizes.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"cat": (6, 8), "dog": (6, 8)}, count=10)
    data = tasks.load("folder", data_dir=str(folder))
    assert (data.input_shape, data.classes, data.labels) == ((6, 8, 3), 2, ("cat", "dog"))
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert len(data.train) + len(data.validation) == 16
    small = tasks.load("folder", data_dir=str(folder), image_size=(4, 4))
    assert small.input_shape == (4, 4, 3)


def test_a_folder_with_its_own_split(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 2)):
        image_folder(tmp_path / part, {"cat": (5, 5), "dog": (5, 5)}, count=count)
    data = tasks.load("folder", data_dir=str(tmp_path))
    assert len(data.test) == 4
    assert len(data.train) + len(data.validation) == 12


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(folder: Path, message: str) -> None:
        with pytest.raises(tasks.DataError, match=message):
            tasks.load("folder", data_dir=str(folder))

    refused(tmp_path / "none", "must be a folder of images")
    refused(image_folder(tmp_path / "one", {"cat": (4, 4)}), "Two or more folders")
    uneven = image_folder(tmp_path / "uneven", {"cat": (4, 4), "dog": (4, 5)})
    refused(uneven, "--image_size=HEIGHT,WIDTH")
    damaged = image_folder(tmp_path / "damaged", {"cat": (4, 4), "dog": (4, 4)})
    (damaged / "dog" / "2.png").write_bytes(b"no image")
    refused(damaged, r"2\.png', which cannot be decoded")
    with pytest.raises(tasks.DataError, match="--data_dir belongs to"):
        tasks.load("folder")
    with pytest.raises(tasks.DataError, match="--data_dir belongs to"):
        tasks.load("digits", data_dir=str(tmp_path))
    with pytest.raises(tasks.DataError, match="--split=speaker belongs to sounds"):
        tasks.load("digits", split="speaker")


def test_arrays_of_one_file(tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    assert arrays.main(["digits", str(file)]) == 0
    found, digits = tasks.load("arrays", data_dir=str(file)), tasks.load("digits")
    assert (found.name, found.classes, found.input_shape) == ("digits", 10, (8, 8, 1))
    np.testing.assert_array_equal(found.test.inputs, digits.test.inputs)
    np.testing.assert_array_equal(found.test.labels, digits.test.labels)
    assert len(found.train) + len(found.validation) == len(digits.train) + len(digits.validation)
    random = np.random.default_rng(0)
    floats = {
        "train_inputs": random.normal(3.0, 2.0, (50, 7)).astype(np.float32),
        "train_labels": np.arange(50) % 3,
        "test_inputs": np.zeros((5, 7), np.float32),
        "test_labels": np.arange(5) % 3,
    }
    np.savez(tmp_path / "floats.npz", **floats)
    found = tasks.load("arrays", data_dir=str(tmp_path / "floats.npz"))
    train = found.normalise(found.train.inputs)
    np.testing.assert_allclose([train.mean(), train.std()], [0, 1], atol=1e-3)
    wrong = {
        "train_inputs": floats["train_inputs"].astype(np.float64),
        "train_labels": floats["train_labels"] - 1,
        "test_inputs": np.zeros((5, 8), np.float32),
        "test_labels": np.zeros(4, np.int64),
    }
    for name, array in wrong.items():
        np.savez(tmp_path / "wrong.npz", **{**floats, name: array})
        with pytest.raises(tasks.DataError, match="required"):
            tasks.load("arrays", data_dir=str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "wrong.npz", train_inputs=floats["train_inputs"])
    with pytest.raises(tasks.DataError, match="must hold train_inputs"):
        tasks.load("arrays", data_dir=str(tmp_path / "wrong.npz"))
    with pytest.raises(tasks.DataError, match=r"must be a \.npz file"):
        tasks.load("arrays", data_dir=str(tmp_path / "none.npz"))


def test_people_are_in_one_split_only() -> None:
    data = sensors.load_watch()
    assert (data.input_shape, data.classes) == ((100, 6), 7)
    recordings = sensors._watch()
    subject = np.array(recordings["subject"], int)
    cut = [sensors.windows(np.asarray(x, np.float32)) for x in recordings["X"]]
    for split, subjects in ((data.test, (9, 10)), (data.validation, (8,))):
        expected = np.concatenate([w for w, s in zip(cut, subject, strict=True) if s in subjects])
        np.testing.assert_array_equal(split.inputs, expected)
    assert len(data.train) == sum(map(len, cut)) - len(data.test) - len(data.validation)
    with pytest.raises(tasks.DataError, match="Different subjects"):
        sensors.load_watch(test_subjects=(8,))


def test_people_are_named_by_a_flag() -> None:
    recordings = sensors._watch()
    people = np.asarray(recordings["subject"])
    data = tasks.load("watch", apart="2+1")
    for split, subjects in ((data.test, (1, 2)), (data.validation, (10,))):
        chosen = [x for x, one in zip(recordings["X"], people, strict=True) if one in subjects]
        expected = np.concatenate([sensors.windows(x) for x in chosen]).astype(np.float32)
        np.testing.assert_array_equal(split.inputs, expected)
    np.testing.assert_array_equal(
        tasks.load("watch", apart="9+10").train.inputs, tasks.load("watch").train.inputs
    )
    for wrong in ("0", "11", "a", "1+", "+".join(map(str, range(1, 11)))):
        with pytest.raises(tasks.DataError, match="--apart must"):
            tasks.load("watch", apart=wrong)
    with pytest.raises(tasks.DataError, match="--apart belongs to"):
        tasks.load("digits", apart="1")


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, ("true",)

    file = tmp_path / "evil.npy"
    np.save(file, np.array({"X": Evil()}, dtype=object), allow_pickle=True)
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        with pytest.raises(pickle.UnpicklingError, match="system' is not allowed"):
            sensors._OnlyArrays(stream).load()


def test_recordings_of_ones_own(tmp_path: Path, rng: np.random.Generator) -> None:
    for label in ("rest", "wave"):
        (tmp_path / label).mkdir()
        for i in range(6):
            values = rng.normal(size=(220, 3)).astype(np.float32)
            file = tmp_path / label / f"{i}"
            if i % 2:
                np.save(file.with_suffix(".npy"), values)
            else:
                np.savetxt(file.with_suffix(".csv"), values, delimiter=",", header="x,y,z")
    (tmp_path / "wave" / "0.csv").write_text(
        "\n".join(["x,y,z", *(",".join(map(str, row)) for row in rng.normal(size=(220, 3)))])
    )
    data = tasks.load("recordings", data_dir=str(tmp_path))
    assert data.input_shape == (100, 3)
    assert len(data.test) == 2 * 3  # one recording of each class, three windows each
    (tmp_path / "wave" / "0.csv").write_text("x,y\n1,2,3\n4")
    with pytest.raises(tasks.DataError, match="A table of numbers is required"):
        tasks.load("recordings", data_dir=str(tmp_path))


def test_windows() -> None:
    recording = np.arange(260, dtype=np.float32)[:, None]
    cut = sensors.windows(recording)
    assert cut.shape == (4, 100, 1)
    assert cut[:, 0, 0].tolist() == [0, 50, 100, 150]


def test_log_mel_of_a_tone(rng: np.random.Generator) -> None:
    """A sine stands out in the band that holds its frequency, by an FFT-free sum."""
    features = log_mel.LogMel(8000)
    assert (features.window, features.hop, features.fft) == (320, 160, 512)
    time = np.arange(features.samples) / 8000
    for hertz in (300.0, 1000.0, 2500.0):
        tone = (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        image = features(tone[None])[0]
        assert image.shape == (32, 48)
        weights = log_mel.mel_matrix(features)[round(hertz * 512 / 8000)]
        assert image[:, 20].argmax() == weights.argmax()
    # One value by the definition: the power of one frame at each frequency, summed by a triangle.
    sound = rng.normal(size=features.samples).astype(np.float32)
    frame = sound[5 * 160 : 5 * 160 + 320] * np.hanning(321)[:-1]
    frequency = np.arange(257)[:, None] * np.arange(320) / 512
    power = np.abs(np.exp(-2j * np.pi * frequency) @ frame) ** 2 / (np.hanning(321)[:-1] ** 2).sum()
    expected = np.log(power @ log_mel.mel_matrix(features)[:, 7] + log_mel.FLOOR)
    assert features(sound[None])[0, 7, 5] == pytest.approx(expected, abs=1e-4)


def test_clips_are_placed(rng: np.random.Generator) -> None:
    clips = [np.full(40, 0.1, np.float32), np.linspace(-1, 1, 300, dtype=np.float32)]
    quiet = speech.placed(clips, 100, None)
    assert np.flatnonzero(quiet[0])[[0, -1]].tolist() == [30, 69]
    assert np.abs(quiet).max(axis=1) == pytest.approx([0.5, 0.5])
    a, b = (speech.placed(clips, 100, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(a - b).max() > 0.1


def test_masks_blank_bands_and_frames() -> None:
    images = np.ones([400, 32, 48, 1], np.float32)
    found = speech.masked(-5.0)(images, np.random.default_rng(3))[..., 0] == -5.0
    bands = found.all(axis=2).sum(axis=1)
    frames = found.all(axis=1).sum(axis=1)
    assert set(bands) == set(range(6))
    assert set(frames) == set(range(9))
    assert abs((bands > 0).mean() - 0.5) < 0.1
    # Nothing else is blank: rows and columns explain all.
    explained = found.all(axis=2, keepdims=True) | found.all(axis=1, keepdims=True)
    np.testing.assert_array_equal(found, explained)


@pytest.mark.slow
def test_speakers_are_apart(shared: Path) -> None:
    folder = str(shared / "tfds")
    data = tasks.load("spoken_digit", tfds_dir=folder, split="speaker")
    assert (len(data.train), len(data.validation), len(data.test)) == (1800, 200, 1000)
    assert len(data.variants) == speech.COPIES
    with pytest.raises(tasks.DataError, match="Speakers of 'spoken_digit'"):
        speech.load("spoken_digit", tfds_dir=folder, split="speaker", speakers_apart=("nobody",))


def test_versions_take_turns(digits: tasks.TaskData) -> None:
    """Epoch n has version n of every example, with the labels of the plain ones."""
    versions = tuple(np.full_like(digits.train.inputs, value) for value in (50, 100))
    data = dataclasses.replace(digits, variants=versions)
    for epoch in range(1, 6):
        (x, _), *_ = data.training(batch_size=8, seed=0, first_epoch=epoch, last_epoch=epoch + 1)
        if epoch % 3:
            expected = data.normalise(np.uint8([50 * (epoch % 3)])).ravel()[0]
            np.testing.assert_array_equal(x, np.full_like(x, expected))
        else:
            assert np.ptp(x) > 1
