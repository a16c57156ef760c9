"""Image classification: scikit-learn's digits, an image set of TFDS, a folder of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ec2t_tf.train.tasks.base import (
    MEMORY_LIMIT_BYTES,
    Augmentation,
    DataError,
    Split,
    TaskData,
    held_out,
)
from ec2t_tf.train.tasks.tfds_data import builder_of

# Channel means and standard deviations on the [0, 1] scale.
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
FOLDER_SHIFT = 4
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
TEST_SHARE = 0.2  # of a folder without folders train/ and test/


def augmentation(*, mirror: bool, shift: int) -> Augmentation:
    """Random mirror and random shift (black border) of a batch."""

    def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        count, height, width = images.shape[:3]
        if mirror:
            flip = np.less(random.random(count), 0.5)
            images = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
        if shift:
            down, right = random.integers(0, 2 * shift + 1, (2, count))
            images = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
            images = np.stack(
                [
                    image[top : top + height, left : left + width]
                    for image, top, left in zip(images, down, right, strict=True)
                ]
            )
        return images

    return augment


def load(name: str, *, tfds_dir: str | None = None, validation_fraction: float = 0.1) -> TaskData:
    """Load `digits` (scikit-learn) or any TFDS image classification set into memory.

    Args:
      name: "digits", or a TFDS name with splits `train` and `test` (or `validation` as the test
        set) and features `image` and `label`.
      tfds_dir: TFDS data folder; None takes TFDS's own default.
      validation_fraction: share of the training images, chosen with a fixed seed, that is held out.

    Raises:
      DataError: the set is missing, is no image classification set, or does not fit in memory.
    """
    train, test, labels = _digits() if name == "digits" else _tfds(name, tfds_dir)
    mirror, shift = name in MIRRORED, SHIFT.get(name, 0)
    return _data(name, train, test, labels, validation_fraction, mirror, shift)


def load_folder(
    folder: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    mirror: bool = False,
    validation_fraction: float = 0.1,
) -> TaskData:
    """Load a folder of images, one folder a class, or with folders train/ and test/ of that kind.

    Without train/ and test/ every fifth image of each class, in the order of the names, is tested.

    Args:
      image_size: (height, width) to which every image is resized; None takes that of the images,
        which must then be the same.
      mirror: whether classes survive a mirror image.

    Raises:
      DataError: there is no image, fewer than two classes, or sizes differ.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"--data_dir must be a folder of images, one folder a class. Received: '{folder}'."
        )
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        labels = _classes(folder / "train")
        train, test = (_decoded(folder / part, labels, image_size) for part in ("train", "test"))
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            raise DataError(
                "Images of one size are required in train/ and test/. Received: "
                f"{train.inputs.shape[1:]} and {test.inputs.shape[1:]}. Pass "
                "--image_size=HEIGHT,WIDTH."
            )
    else:
        labels = _classes(folder)
        everything = _decoded(folder, labels, image_size)
        place = np.concatenate([np.arange(n) for n in np.bincount(everything.labels)])
        is_test = place % round(1 / TEST_SHARE) == round(1 / TEST_SHARE) - 1
        train, test = everything[~is_test], everything[is_test]
        if not len(test):
            raise DataError(
                f"At least {round(1 / TEST_SHARE)} images a class are required, of which each last "
                f"one is tested. Received: {len(everything)} in {len(labels)} classes."
            )
    return _data(folder.name, train, test, labels, validation_fraction, mirror, FOLDER_SHIFT)


def _data(
    name: str,
    train: Split,
    test: Split,
    labels: tuple[str, ...],
    validation_fraction: float,
    mirror: bool,
    shift: int,
) -> TaskData:
    train, validation = held_out(train, validation_fraction)
    mean, std = statistics(name, train)
    return TaskData(
        name,
        train,
        validation,
        test,
        len(labels),
        mean,
        std,
        full_scale=255.0,
        augment=augmentation(mirror=mirror, shift=shift),
        labels=labels,
    )


def _classes(folder: Path) -> tuple[str, ...]:
    labels = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if len(labels) < 2:
        raise DataError(
            f"Two or more folders of images, one a class, are required. Received: '{folder}' with "
            f"{list(labels)}."
        )
    return labels


def _decoded(folder: Path, labels: tuple[str, ...], size: tuple[int, int] | None) -> Split:
    """All images below `folder`, in the order of classes and names, as uint8 RGB."""
    images: list[np.ndarray] = []
    numbers: list[int] = []
    pixels = 0
    for number, label in enumerate(labels):
        files = sorted(p for p in (folder / label).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(
                f"Images ({', '.join(SUFFIXES)}) are required in every class. "
                f"Received: none in '{folder / label}'."
            )
        for file in files:
            image = _image(file, size)
            if images and image.shape != images[0].shape:
                raise DataError(
                    f"Images of one size are required. Received: {images[0].shape} and "
                    f"{image.shape} ('{file}'). Pass --image_size=HEIGHT,WIDTH."
                )
            pixels += image.size
            if pixels > MEMORY_LIMIT_BYTES:
                raise DataError(
                    f"Data sets are held in memory, up to {MEMORY_LIMIT_BYTES >> 30} GiB of "
                    f"pixels. Received: more in '{folder}'. Pass a smaller --image_size."
                )
            images.append(image)
            numbers.append(number)
    return Split(np.stack(images), np.array(numbers, np.int64))


def _image(file: Path, size: tuple[int, int] | None) -> np.ndarray:
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
            if size is not None and image.size != (size[1], size[0]):
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image, np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"An image is required. Received: '{file}', which cannot be decoded "
            f"({str(error).splitlines()[0]}). Remove or replace it."
        ) from error


def statistics(name: str, train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel on the [0, 1] scale, float32."""
    if name in KNOWN_STATISTICS:
        mean, std = (np.array(values) for values in KNOWN_STATISTICS[name])
    else:
        pixels = train.inputs[: 1 << 14] / 255.0
        mean, std = pixels.mean(axis=(0, 1, 2)), np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3)
    return mean.astype(np.float32), std.astype(np.float32)


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    """scikit-learn's 1,797 digits of 8x8 pixels; every fifth image is the test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Split(images, digits.target.astype(np.int64))
    is_test = np.arange(len(everything)) % 5 == 4
    return everything[~is_test], everything[is_test], tuple(map(str, range(10)))


def _tfds(name: str, tfds_dir: str | None) -> tuple[Split, Split, tuple[str, ...]]:
    builder = builder_of(name, tfds_dir, "image")
    features = builder.info.features
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
    return train, test, tuple(features["label"].names)


def _decode(builder: Any, split: str) -> Split:
    batches = builder.as_dataset(split=split, shuffle_files=False).batch(1024)
    parts = [(batch["image"], batch["label"]) for batch in batches.as_numpy_iterator()]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Split(images.astype(np.uint8), labels.astype(np.int64))
