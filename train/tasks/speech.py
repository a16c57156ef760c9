"""Spoken words: sounds of a TFDS set as log-mel features, split at random or by speaker."""

from __future__ import annotations

from typing import Any

import numpy as np

from ec2t_tf.export.features import LogMel
from ec2t_tf.export.features.fixed_point import PEAK
from ec2t_tf.train.tasks.base import Augmentation, DataError, Split, TaskData, held_out
from ec2t_tf.train.tasks.tfds_data import builder_of

RATES = {"spoken_digit": 8000, "speech_commands": 16000}
SPLITS = ("random", "speaker")
# Speakers of spoken_digit that are tested in the split by speaker.
SPEAKERS_APART = ("theo", "yweweler")
TEST_SHARE = 0.1  # of the split at random
COPIES = 10  # differently placed, loud and noisy versions of the training clips
LARGEST_MASK = (5, 8)  # bands, frames that SpecAugment blanks
_CHUNK = 512  # clips that are padded at a time


def load(
    name: str,
    *,
    tfds_dir: str | None = None,
    validation_fraction: float = 0.1,
    split: str = "random",
    speakers_apart: tuple[str, ...] = SPEAKERS_APART,
) -> TaskData:
    """Log-mel features (bands, frames, 1) of `spoken_digit` or `speech_commands`.

    Training sounds come in `COPIES` versions besides the plain one: at another place in the window,
    6 dB louder or softer, with noise; bands and frames are blanked (SpecAugment, Park et al. 2019).

    Args:
      split: "random": a tenth of the clips is tested (or the set's own test split, where it has
        one); "speaker": the clips of `speakers_apart`, whose voices training has never heard.

    Raises:
      DataError: the set is missing, or cannot be split like that.
    """
    if split not in SPLITS:
        raise DataError(f"split must be one of {SPLITS}. Received: split='{split}'.")
    builder = builder_of(name, tfds_dir, "audio")
    features = LogMel(RATES[name])
    splits = builder.info.splits
    names = tuple(builder.info.features["label"].names)
    clips, labels, speakers = _clips(builder, "train")
    if "test" in splits and split == "random":
        tested, tested_labels, _ = _clips(builder, "test")
    else:
        is_test = _tested(name, speakers, split, speakers_apart)
        tested = [clip for clip, test in zip(clips, is_test, strict=True) if test]
        tested_labels = labels[is_test]
        clips = [clip for clip, test in zip(clips, is_test, strict=True) if not test]
        labels = labels[~is_test]
    rows = Split(np.arange(len(clips)), labels)
    train, validation = held_out(rows, validation_fraction)

    def images(chosen: list[np.ndarray], random: np.random.Generator | None) -> np.ndarray:
        parts = [chosen[i : i + _CHUNK] for i in range(0, len(chosen), _CHUNK)]
        found = [features(placed(part, features.samples, random)) for part in parts]
        return np.concatenate(found)[..., None]

    training = [clips[i] for i in train.inputs]
    plain = images(training, None)
    copies = tuple(images(training, np.random.default_rng(i)) for i in range(COPIES))
    return TaskData(
        f"{name} by {split}" if split != "random" else name,
        Split(plain, train.labels),
        Split(images([clips[i] for i in validation.inputs], None), validation.labels),
        Split(images(tested, None), tested_labels),
        len(names),
        mean=np.array([plain.mean()], np.float32),
        std=np.array([plain.std()], np.float32),
        augment=masked(float(plain.mean())),
        variants=copies,
        labels=names,
    )


def _tested(
    name: str, speakers: list[str], split: str, speakers_apart: tuple[str, ...]
) -> np.ndarray:
    """Which clips are tested, where the set has no test split of its own."""
    if split == "random":
        place = np.random.default_rng(1000).permutation(len(speakers))
        return place < round(len(speakers) * TEST_SHARE)
    known = sorted(set(speakers))
    unknown = sorted(set(speakers_apart) - set(known))
    if unknown or not speakers_apart or set(known) == set(speakers_apart):
        raise DataError(
            f"Speakers of '{name}' that leave others to train on are required: {known}. "
            f"Received: {list(speakers_apart)}."
        )
    return np.isin(speakers, speakers_apart)


def _clips(builder: Any, split: str) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Sounds of -1 to 1 in the order of their file names, labels, and who speaks."""
    data = builder.as_dataset(split=split, shuffle_files=False)
    rows: list[tuple[str, int, np.ndarray, int]] = []
    for row in data.as_numpy_iterator():
        name = row.get("audio/filename", b"").decode()
        rows.append((name, len(rows), row["audio"], int(row["label"])))
    rows.sort(key=lambda row: row[:2])
    sounds = [np.asarray(sound, np.float32) / 32768.0 for _, _, sound, _ in rows]
    speakers = [name.split("_")[1] if name.count("_") >= 2 else "" for name, _, _, _ in rows]
    return sounds, np.array([label for *_, label in rows], np.int64), speakers


def placed(clips: list[np.ndarray], samples: int, random: np.random.Generator | None) -> np.ndarray:
    """Every clip in `samples` samples of silence: in the middle and as loud as the others, or
    (with `random`) anywhere, at another loudness, with noise. A longer clip loses its ends."""
    out = np.zeros((len(clips), samples), np.float32)
    for row, clip in zip(out, clips, strict=True):
        room = samples - len(clip)
        start = abs(room) // 2 if random is None else int(random.integers(0, abs(room) + 1))
        if room >= 0:
            row[start : start + len(clip)] = clip
        else:
            row[:] = clip[start : start + samples]
        row *= PEAK / max(float(np.abs(row).max()), 1e-3)
        if random is not None:
            row *= 10.0 ** (random.uniform(-6.0, 6.0) / 20.0)
            noise = random.standard_normal(samples, np.float32)
            row += noise * np.float32(10.0 ** random.uniform(-4.0, -2.2))
    return out


def masked(filler: float) -> Augmentation:
    """SpecAugment: in half of the clips each, up to 5 bands and up to 8 frames at `filler`."""

    def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        count = len(images)
        for axis, largest in zip((1, 2), LARGEST_MASK, strict=True):
            size = images.shape[axis]
            draws = random.random((3, count, 1, 1, 1))
            width = np.floor(draws[0] * largest) + 1.0
            begin = np.floor(draws[1] * (size - width))
            place = np.arange(size).reshape([1] * axis + [size] + [1] * (3 - axis))
            inside = (place >= begin) & (place < begin + width) & (draws[2] < 0.5)
            images = np.where(inside, np.float32(filler), images)
        return images

    return augment
