"""Windows cut from recordings of sensors, with whole recordings or people kept apart."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.train.tasks.base import MEMORY_LIMIT_BYTES, Augmentation, DataError, Split, TaskData

WINDOW, STEP = 100, 50  # samples: 2 s at 50 Hz, half of it new
TEST_SUBJECTS = (9, 10)  # of the watch data
VALIDATION_SUBJECTS = (8,)
SUBJECTS = 10
NOISE, LOUDNESS = 0.05, 0.1  # of a standard deviation; of 1


def load_watch(
    *,
    test_subjects: Sequence[int] = TEST_SUBJECTS,
    validation_subjects: Sequence[int] = VALIDATION_SUBJECTS,
) -> TaskData:
    """Seven shoulder exercises from a smartwatch (Burns et al. 2018): windows (100, 6) at 50 Hz.

    The data come with the pip package seglearn. No person is in two splits.

    Raises:
      DataError: the package is missing, or a split would be empty.
    """
    recordings = _watch()
    subjects = np.array(recordings["subject"], int)
    known = sorted(set(subjects.tolist()))
    apart = (*test_subjects, *validation_subjects)
    if not set(apart) < set(known) or len(set(apart)) < len(apart) or not test_subjects:
        raise DataError(
            f"Different subjects for the test and the validation, of {known}, are required. "
            f"Received: {list(test_subjects)} and {list(validation_subjects)}."
        )
    names = tuple(recordings["y_labels"])
    is_test = np.isin(subjects, test_subjects)
    is_validation = np.isin(subjects, validation_subjects)
    return _data(
        "watch",
        [np.asarray(x, np.float32) for x in recordings["X"]],
        np.asarray(recordings["y"], np.int64),
        names,
        is_test,
        is_validation,
    )


def subjects(apart: str | None) -> dict[str, tuple[int, ...]]:
    """Arguments of `load_watch` for the tested subjects, joined by "+"; the one before the first of
    them is validated (before 1 comes 10).

    Raises:
      DataError: these are no numbers of subjects.
    """
    if apart is None:
        return {}
    words = apart.split("+")
    if not all(word.isdecimal() and 1 <= int(word) <= SUBJECTS for word in words):
        raise DataError(
            f"--apart must be subjects of 1 to {SUBJECTS}, joined by +, such as 9+10. "
            f"Received: --apart={apart}."
        )
    tested = tuple(map(int, words))
    others = [(tested[0] - 1 - back) % SUBJECTS + 1 for back in range(1, SUBJECTS)]
    validated = next((one for one in others if one not in tested), None)
    if validated is None:
        raise DataError(
            f"--apart must leave subjects to train on. Received: --apart={apart}, which is all."
        )
    return {"test_subjects": tested, "validation_subjects": (validated,)}


def load_folder(folder: str | Path, *, validation_fraction: float = 0.1) -> TaskData:
    """Recordings of your own: a folder a class, in it .csv files (a row a sample, a column an axis;
    one header line may stand above) or .npy files (samples, axes), one a recording.

    Every fifth recording of a class, in the order of the names, is tested; of the others, those
    that `validation_fraction` takes are validated. No recording has windows in two splits.

    Raises:
      DataError: a class has too few recordings, a file is no such table, or their axes differ.
    """
    folder = Path(folder).expanduser()
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir())) if folder.is_dir() else ()
    if len(names) < 2:
        raise DataError(
            "--data_dir must be a folder with two or more folders of recordings, one a class. "
            f"Received: '{folder}' with {list(names)}."
        )
    recordings: list[np.ndarray] = []
    labels, place = [], []
    for number, name in enumerate(names):
        files = sorted(p for p in (folder / name).iterdir() if p.suffix in (".csv", ".npy"))
        if len(files) < 5:
            raise DataError(
                "At least five recordings (.csv, .npy) a class are required, of which every last "
                f"one is tested. Received: {len(files)} in '{folder / name}'."
            )
        for i, file in enumerate(files):
            recordings.append(_table(file))
            labels.append(number)
            place.append(i)
            if recordings[-1].shape[1] != recordings[0].shape[1]:
                raise DataError(
                    f"Recordings with the same axes are required. Received: "
                    f"{recordings[0].shape[1]} and {recordings[-1].shape[1]} ('{file}')."
                )
    is_test = np.array(place) % 5 == 4
    rest = np.flatnonzero(~is_test)
    chosen = np.random.default_rng(0).permutation(rest)
    is_validation = np.zeros(len(place), bool)
    is_validation[chosen[: max(1, round(len(rest) * validation_fraction))]] = True
    return _data(folder.name, recordings, np.array(labels, np.int64), names, is_test, is_validation)


def _table(file: Path) -> np.ndarray:
    """float32 (samples, axes) of one file."""
    try:
        if file.suffix == ".npy":
            values = files.read_arrays(file)[""]
        else:
            lines = file.read_text(errors="replace").splitlines()
            lines = lines[int(bool(lines) and not _numbers(lines[0])) :]
            values = np.loadtxt(lines, np.float32, delimiter=",", ndmin=2)
        values = np.asarray(values, np.float32)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"A table of numbers is required: a row a sample, a column an axis. Received: '{file}' "
            f"({error})."
        ) from error
    if values.ndim != 2 or len(values) < WINDOW or not np.isfinite(values).all():
        raise DataError(
            f"A recording of at least {WINDOW} samples, all finite, is required. Received: "
            f"'{file}' of shape {values.shape}."
        )
    return values


def _numbers(line: str) -> bool:
    try:
        [float(cell) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def windows(recording: np.ndarray) -> np.ndarray:
    """(samples, axes) -> (count, WINDOW, axes), one every STEP samples."""
    starts = range(0, len(recording) - WINDOW + 1, STEP)
    return np.stack([recording[start : start + WINDOW] for start in starts])


def _data(
    name: str,
    recordings: list[np.ndarray],
    labels: np.ndarray,
    names: tuple[str, ...],
    is_test: np.ndarray,
    is_validation: np.ndarray,
) -> TaskData:
    if sum(recording.nbytes for recording in recordings) * (WINDOW // STEP) > MEMORY_LIMIT_BYTES:
        raise DataError(
            f"Data sets are held in memory, up to {MEMORY_LIMIT_BYTES >> 30} GiB. "
            f"Received: more in '{name}'."
        )

    def part(chosen: np.ndarray) -> Split:
        cut = [windows(recordings[i]) for i in np.flatnonzero(chosen)]
        if not cut:
            raise DataError(f"A split of '{name}' holds no recording: it needs more of them.")
        counts = [len(one) for one in cut]
        return Split(np.concatenate(cut), np.repeat(labels[chosen], counts))

    train = part(~is_test & ~is_validation)
    mean, std = train.inputs.mean(axis=(0, 1)), train.inputs.std(axis=(0, 1))
    std = np.maximum(std, 1e-6).astype(np.float32)
    return TaskData(
        name,
        train,
        part(is_validation),
        part(is_test),
        len(names),
        mean.astype(np.float32),
        std,
        augment=_jitter(std),
        labels=names,
    )


def _jitter(std: np.ndarray) -> Augmentation:
    """Noise on every sample, and all of a window louder or softer."""

    def augment(batch: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.standard_normal(batch.shape, np.float32) * (NOISE * std)
        gain = random.uniform(1.0 - LOUDNESS, 1.0 + LOUDNESS, (len(batch), 1, 1))
        return batch * gain.astype(np.float32) + noise

    return augment


class _OnlyArrays(pickle.Unpickler):
    """Makes NumPy arrays and nothing else: a pickle may name any function to be called."""

    ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"'{module}.{name}' is not allowed in this file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _watch() -> dict[str, Any]:
    """The recordings of seglearn, read without running anything from the file."""
    found = importlib.util.find_spec("seglearn")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "--dataset=watch needs the pip package seglearn, which holds the data. "
            "Received: a Python without it. Run: pip install --no-deps seglearn"
        )
    file = Path(next(iter(found.submodule_search_locations)), "data", "watch_dataset.npy")
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        return _OnlyArrays(stream, encoding="latin1").load().item()
