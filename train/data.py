"""Image classification data, and one epoch of it as a pure function of (seed, epoch).

Because an epoch's order and augmentation depend on nothing but the seed and the epoch's number, a
run that is killed and resumed sees exactly the batches that an uninterrupted run sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

# Decoded images are held in memory; a larger set would need a streaming reader.
MEMORY_LIMIT_BYTES = 4 << 30

# Channel means and standard deviations on the [0, 1] scale. CIFAR: ec2t.md section 3.
KNOWN_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
}
KNOWN_STATISTICS["cifar10_jpeg"] = KNOWN_STATISTICS["cifar10"]

# Sets whose classes survive a mirror image.
MIRRORED = {"fashion_mnist", "cifar10", "cifar10_jpeg", "cifar100"}
# Pixels of random shift.
SHIFT = {"cifar10": 4, "cifar10_jpeg": 4, "cifar100": 4}


class DataError(ValueError):
    """The requested data set cannot be used; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Images (count, height, width, channels) uint8 and labels (count,) int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | np.ndarray) -> Split:
        return Split(self.images[rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set with its validation images held out of the training images."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: np.ndarray
    std: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train.images.shape[1:])

    def normalise(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """uint8 images to float32 with zero mean and unit variance a channel."""
        return (tf.cast(images, tf.float32) / 255.0 - self.mean) / self.std

    def evaluation(self, split: Split, batch_size: int = 256) -> tf.data.Dataset:
        """Normalised (images, labels) batches in the stored order."""
        batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        return batches.batch(batch_size).map(lambda x, y: (self.normalise(x), y)).prefetch(2)

    def training(
        self,
        *,
        batch_size: int,
        seed: int,
        first_epoch: int,
        last_epoch: int,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Shuffled, augmented, normalised batches of epochs [first_epoch, last_epoch).

        An epoch has all whole batches, or the first `steps` of them.
        """
        images, labels = tf.constant(self.train.images), tf.constant(self.train.labels)
        augment = augmentation(mirror=self.name in MIRRORED, shift=SHIFT.get(self.name, 0))

        def batch(epoch: tf.Tensor, number: tf.Tensor, rows: tf.Tensor) -> tuple:
            x = tf.gather(images, rows)
            x = augment(x, tf.stack([seed + 7919 * (epoch + 1), number]))
            return self.normalise(x), tf.gather(labels, rows)

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(self.train)), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
            )
            order = order if steps is None else order[: steps * batch_size]
            rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
            return rows.enumerate().map(lambda number, rows: batch(epoch, number, rows))

        return tf.data.Dataset.range(first_epoch, last_epoch).flat_map(one_epoch).prefetch(4)

    def steps_per_epoch(self, batch_size: int) -> int:
        if batch_size < 1 or batch_size > len(self.train):
            raise DataError(
                f"batch_size must be between 1 and the {len(self.train)} training images of "
                f"'{self.name}'. Received: batch_size={batch_size}. Choose a smaller --batch_size."
            )
        return len(self.train) // batch_size


def augmentation(*, mirror: bool, shift: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Random mirror and random shift (black border) of a batch, decided by a stateless seed."""

    def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        batch, height, width = images.shape[0], images.shape[1], images.shape[2]
        batch = tf.shape(images)[0] if batch is None else batch
        if mirror:
            flip = tf.random.stateless_uniform([batch, 1, 1, 1], seed) < 0.5
            images = tf.where(flip, tf.reverse(images, axis=[2]), images)
        if shift:
            offsets = tf.random.stateless_uniform(
                [2, batch, 1], seed + 1, maxval=2 * shift + 1, dtype=tf.int32
            )
            padding = [[0, 0], [shift, shift], [shift, shift], [0, 0]]
            images = tf.pad(images, padding)
            images = tf.gather(images, offsets[0] + tf.range(height), axis=1, batch_dims=1)
            images = tf.transpose(images, [0, 2, 1, 3])
            images = tf.gather(images, offsets[1] + tf.range(width), axis=1, batch_dims=1)
            images = tf.transpose(images, [0, 2, 1, 3])
        return images

    return augment


def load(name: str, *, tfds_dir: str | None = None, validation_fraction: float = 0.1) -> ImageData:
    """Load `digits` (scikit-learn) or any TFDS image classification set into memory.

    Args:
      name: "digits", or a TFDS name with splits `train` and `test` (or `validation` as the test
        set) and features `image` and `label`.
      tfds_dir: TFDS data folder; None takes TFDS's own default.
      validation_fraction: share of the training images, chosen with a fixed seed, that is held out.

    Raises:
      DataError: the set is missing, is no image classification set, or does not fit in memory.
    """
    if not 0 < validation_fraction < 1:
        raise DataError(
            "validation_fraction must lie between 0 and 1 (exclusive), because choices need held "
            f"out data. Received: validation_fraction={validation_fraction}."
        )
    train, test, classes = _digits() if name == "digits" else _tfds(name, tfds_dir)
    order = np.random.default_rng(0).permutation(len(train))
    held_out = max(1, round(len(train) * validation_fraction))
    validation, train = train[np.sort(order[:held_out])], train[np.sort(order[held_out:])]
    mean, std = statistics(name, train)
    return ImageData(name, train, validation, test, classes, mean, std)


def statistics(name: str, train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel on the [0, 1] scale, float32."""
    if name in KNOWN_STATISTICS:
        mean, std = (np.array(values) for values in KNOWN_STATISTICS[name])
    else:
        pixels = train.images[: 1 << 14] / 255.0
        mean, std = pixels.mean(axis=(0, 1, 2)), np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3)
    return mean.astype(np.float32), std.astype(np.float32)


def _digits() -> tuple[Split, Split, int]:
    """scikit-learn's 1,797 digits of 8x8 pixels; every fifth image is the test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Split(images, digits.target.astype(np.int64))
    is_test = np.arange(len(everything)) % 5 == 4
    return everything[~is_test], everything[is_test], 10


def _tfds(name: str, tfds_dir: str | None) -> tuple[Split, Split, int]:
    if tfds_dir is not None and not Path(tfds_dir).expanduser().is_dir():
        raise DataError(
            "--tfds_dir must be a folder of TFDS data that exists. "
            f"Received: '{tfds_dir}'. Create it to have '{name}' downloaded there."
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=tfds_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise DataError(
            f"The data set '{name}' is neither 'digits' nor known to tensorflow-datasets"
            f"{f' in {tfds_dir}' if tfds_dir else ''}. Check --dataset, or point --tfds_dir at the "
            "folder that holds it."
        ) from error
    features = builder.info.features
    if "image" not in features or "label" not in features:
        raise DataError(
            f"An image classification set with features 'image' and 'label' is required. "
            f"Received: '{name}' with features {sorted(features)}."
        )
    if not builder.info.splits:
        try:
            builder.download_and_prepare()
        except Exception as error:  # the many ways in which a download fails
            raise DataError(
                f"The data set '{name}' is not in {builder.data_dir} and could not be prepared: "
                f"{error}. Point --tfds_dir at a folder that holds it, or use --dataset=digits."
            ) from error
    splits = builder.info.splits
    test_split = next((s for s in ("test", "validation") if s in splits), None)
    if "train" not in splits or test_split is None:
        raise DataError(
            "Splits 'train' and 'test' (or 'validation') are required. "
            f"Received: '{name}' with splits {sorted(splits)}."
        )
    shape = features["image"].shape
    if None in shape:
        raise DataError(
            f"Images of one size are required. Received: '{name}' with image shape {shape}."
        )
    images = splits["train"].num_examples + splits[test_split].num_examples
    if images * int(np.prod(shape)) > MEMORY_LIMIT_BYTES:
        raise DataError(
            f"Data sets are held in memory, up to {MEMORY_LIMIT_BYTES >> 30} GiB of pixels. "
            f"Received: '{name}' with {images} images of {shape}."
        )
    train, test = (_decode(builder, split) for split in ("train", test_split))
    return train, test, features["label"].num_classes


def _decode(builder: object, split: str) -> Split:
    batches = builder.as_dataset(split=split, shuffle_files=False).batch(1024)  # type: ignore[attr-defined]
    parts = [(batch["image"], batch["label"]) for batch in batches.as_numpy_iterator()]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Split(images.astype(np.uint8), labels.astype(np.int64))
