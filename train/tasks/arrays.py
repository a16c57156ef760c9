"""Examples out of one .npz file: what a machine without TensorFlow and TFDS trains on.

    python -m ec2t_tf.train.tasks.arrays cifar10_jpeg cifar10_jpeg.npz     # where TFDS is
    KERAS_BACKEND=jax ec2t train --dataset=arrays --data_dir=cifar10_jpeg.npz --model=resnet20

The file holds `train_inputs`, `train_labels`, `test_inputs`, `test_labels`: uint8 images (count,
height, width, channels), or float32 inputs of any shape; labels are whole numbers from 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ec2t_tf import files
from ec2t_tf.train.tasks.base import DataError, Split, TaskData, held_out
from ec2t_tf.train.tasks.images import MIRRORED, SHIFT, augmentation, statistics

NAMES = ("train_inputs", "train_labels", "test_inputs", "test_labels")


def load(file: str | Path, *, validation_fraction: float = 0.1) -> TaskData:
    """Load such a file; its stem names the data set, whose augmentation and statistics are known.

    Raises:
      DataError: the file is missing or damaged, or holds other arrays.
    """
    file = Path(file).expanduser()
    try:
        found = files.read_arrays(file)
    except (OSError, ValueError) as error:
        raise DataError(
            f"--data_dir must be a .npz file of {', '.join(NAMES)}. Received: '{file}' ({error})."
        ) from error
    if not set(NAMES) <= found.keys():
        raise DataError(f"'{file}' must hold {', '.join(NAMES)}. Received: {sorted(found)}.")
    splits = [_split(file, part, found) for part in ("train", "test")]
    if splits[0].inputs.shape[1:] != splits[1].inputs.shape[1:]:
        raise DataError(
            f"Inputs of one shape are required in '{file}'. "
            f"Received: {splits[0].inputs.shape[1:]} and {splits[1].inputs.shape[1:]}."
        )
    train, validation = held_out(splits[0], validation_fraction)
    classes = int(max(split.labels.max() for split in splits)) + 1
    name = file.stem
    if train.inputs.dtype == np.uint8:
        mean, std = statistics(name, train)
        augment = augmentation(mirror=name in MIRRORED, shift=SHIFT.get(name, 0))
        return TaskData(
            name, train, validation, splits[1], classes, mean, std, 255.0, augment=augment
        )
    axes = tuple(range(train.inputs.ndim - 1))
    mean = train.inputs.mean(axis=axes, dtype=np.float64).astype(np.float32)
    std = np.maximum(train.inputs.std(axis=axes, dtype=np.float64), 1e-6).astype(np.float32)
    return TaskData(name, train, validation, splits[1], classes, mean, std)


def _split(file: Path, part: str, found: dict[str, np.ndarray]) -> Split:
    inputs, labels = found[f"{part}_inputs"], found[f"{part}_labels"]
    images = inputs.dtype == np.uint8 and inputs.ndim == 4
    numbers = inputs.dtype == np.float32 and inputs.ndim > 1 and bool(np.isfinite(inputs).all())
    if not (images or numbers):
        raise DataError(
            f"uint8 images (count, height, width, channels) or finite float32 inputs are required. "
            f"Received: {part}_inputs of '{file}', {inputs.dtype} {inputs.shape}."
        )
    whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (len(inputs),)
    if not whole or not len(labels) or labels.min() < 0:
        raise DataError(
            "A label of 0 or more for each input is required. "
            f"Received: {part}_labels of '{file}', {labels.dtype} {labels.shape}."
        )
    return Split(inputs, labels.astype(np.int64))


def save(data: TaskData, file: Path) -> None:
    """Write the examples of a data set, validation ones among the training ones."""
    train = [
        np.concatenate([getattr(split, part) for split in (data.train, data.validation)])
        for part in ("inputs", "labels")
    ]
    with files.replacing(file) as fresh, fresh.open("wb") as stream:
        np.savez_compressed(
            stream,
            train_inputs=train[0],
            train_labels=train[1],
            test_inputs=data.test.inputs,
            test_labels=data.test.labels,
        )


def main(argv: Sequence[str] | None = None) -> int:
    from ec2t_tf.train import tasks

    parser = argparse.ArgumentParser(
        prog="python -m ec2t_tf.train.tasks.arrays",
        description="Writes a data set as one .npz file for --dataset=arrays.",
    )
    parser.add_argument("dataset", help="as --dataset of 'ec2t train'")
    parser.add_argument("file", type=Path, help="to write; name it after the data set")
    parser.add_argument("--tfds_dir")
    given = parser.parse_args(argv)
    try:
        data = tasks.load(given.dataset, tfds_dir=given.tfds_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    save(data, given.file)
    print(f"{given.file}: {len(data.train) + len(data.validation)} + {len(data.test)} examples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
