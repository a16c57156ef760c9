"""Opening a prepared tensorflow-datasets set, or preparing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ec2t_tf.train.tasks.base import DataError


def builder_of(name: str, tfds_dir: str | None, feature: str) -> Any:
    """The `tfds.core.DatasetBuilder` of a set with the features `feature` and `label`.

    Args:
      tfds_dir: TFDS data folder; None takes TFDS's own default.

    Raises:
      DataError: the set is unknown, of another kind, or cannot be prepared; the folder is missing.
    """
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
    if feature not in features or "label" not in features:
        raise DataError(
            f"A classification set with features '{feature}' and 'label' is required. "
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
    return builder
