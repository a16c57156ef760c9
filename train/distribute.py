"""Training on several devices or machines: `--distribute`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

CPU_PARTS = 2  # replicas on a machine without a GPU, where only the trying out makes sense


def strategy(name: str | None) -> tf.distribute.Strategy:
    """The strategy of `--distribute`; to be made before TensorFlow computes anything.

    Args:
      name: None (one device), "mirrored" (all GPUs of this machine; without any, the CPU as
        `CPU_PARTS` devices) or "multiworker" (the machines in the variable TF_CONFIG).

    Raises:
      ValueError: "multiworker" without TF_CONFIG.
    """
    import tensorflow as tf

    if name is None:
        return tf.distribute.get_strategy()
    if name == "multiworker":
        worker()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * CPU_PARTS
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{part}" for part in range(CPU_PARTS)])


def worker() -> int:
    """The number of this process among the workers of TF_CONFIG."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        return int(json.loads(text)["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "--distribute=multiworker requires the variable TF_CONFIG on every machine, e.g. "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
            f'"index": 0}}}}. Received: {text!r}.'
        ) from error


def output_dir(name: str | None, folder: Path) -> Path:
    """Where this process writes: the workers after the first into folders of their own."""
    if name != "multiworker" or worker() == 0:
        return folder
    return folder / f"worker_{worker()}"
