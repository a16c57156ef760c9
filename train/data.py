"""Moved: `ec2t_tf.train.tasks`."""

from __future__ import annotations

import warnings

from ec2t_tf.train.tasks import load
from ec2t_tf.train.tasks.base import DataError, Split
from ec2t_tf.train.tasks.base import TaskData as ImageData

__all__ = ["DataError", "ImageData", "Split", "load"]
warnings.warn(
    "ec2t_tf.train.data has moved to ec2t_tf.train.tasks.", DeprecationWarning, stacklevel=2
)
