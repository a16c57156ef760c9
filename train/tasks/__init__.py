"""Data sets by name, as the script takes them: images, sounds, sensors; classes, or anomalies."""

from __future__ import annotations

from ec2t_tf import progress
from ec2t_tf.train.tasks import anomaly, arrays, images, sensors, speech
from ec2t_tf.train.tasks.base import DataError, Split, TaskData, unchanged

__all__ = ["DataError", "Split", "TaskData", "load", "unchanged"]

OWN = ("arrays", "digits", "folder", "recordings", "watch")
"""Names that are no data set of TFDS."""


def load(
    name: str,
    *,
    tfds_dir: str | None = None,
    data_dir: str | None = None,
    image_size: tuple[int, int] | None = None,
    split: str = "random",
    apart: str | None = None,
    leave_out: str | None = None,
    validation_fraction: float = 0.1,
) -> TaskData:
    """Load a data set into memory; on a terminal, say so where it takes long.

    Args:
      name: "digits" (inside scikit-learn); "folder" (images of `data_dir`, one folder a class);
        "recordings" (.csv or .npy of `data_dir`, one folder a class); "arrays" (the .npz file
        `data_dir`); "watch" (inside seglearn);
        "spoken_digit", "speech_commands" or an image classification set of TFDS.
      tfds_dir: TFDS data folder; None takes TFDS's own default.
      data_dir: of "folder" and "recordings"; of "arrays" the file.
      image_size: of "folder": (height, width) to resize to.
      split: of sounds: "random", or "speaker" for test speakers that training has never heard.
      apart: who is tested: subjects of "watch" or, with `split="speaker"`, speakers, joined by "+".
      leave_out: a class that training does not see, and that is to be told from the others
        (`tasks.anomaly`).
      validation_fraction: share of the training examples, chosen with a fixed seed, held out.

    Raises:
      DataError: the set cannot be used, or an option does not belong to it.
    """
    if (data_dir is None) != (name not in ("arrays", "folder", "recordings")):
        raise DataError(
            "--data_dir belongs to --dataset=folder (images), --dataset=recordings (sensors) and "
            f"--dataset=arrays (a .npz file), which require it. Received: --dataset={name}, "
            f"--data_dir={data_dir}."
        )
    if split != "random" and name not in speech.RATES:
        raise DataError(
            f"--split=speaker belongs to sounds ({', '.join(speech.RATES)}). "
            f"Received: --dataset={name}."
        )
    if apart is not None and name != "watch" and split != "speaker":
        raise DataError(
            "--apart belongs to --dataset=watch and to sounds with --split=speaker. "
            f"Received: --dataset={name}, --split={split}, --apart={apart}."
        )
    if image_size is not None and name != "folder":
        raise DataError(f"--image_size belongs to --dataset=folder. Received: --dataset={name}.")
    with progress.working(f"preparing {name}"):
        data = _load(name, tfds_dir, data_dir, image_size, split, apart, validation_fraction)
        return data if leave_out is None else anomaly.without(data, leave_out)


def _load(
    name: str,
    tfds_dir: str | None,
    data_dir: str | None,
    image_size: tuple[int, int] | None,
    split: str,
    apart: str | None,
    validation_fraction: float,
) -> TaskData:
    if name == "folder":
        return images.load_folder(
            str(data_dir), image_size=image_size, validation_fraction=validation_fraction
        )
    if name == "arrays":
        return arrays.load(str(data_dir), validation_fraction=validation_fraction)
    if name == "recordings":
        return sensors.load_folder(str(data_dir), validation_fraction=validation_fraction)
    if name == "watch":
        return sensors.load_watch(**sensors.subjects(apart))
    if name in speech.RATES:
        return speech.load(
            name,
            tfds_dir=tfds_dir,
            split=split,
            validation_fraction=validation_fraction,
            speakers_apart=tuple(apart.split("+")) if apart else speech.SPEAKERS_APART,
        )
    return images.load(name, tfds_dir=tfds_dir, validation_fraction=validation_fraction)
