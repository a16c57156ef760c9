"""TensorFlow's own reader reads what we write, checksums included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.util import event_pb2

from ec2t_tf.train.tensorboard import Scalars


def test_scalars(tmp_path: Path, rng: np.random.Generator) -> None:
    scalars = Scalars(tmp_path / "logs" / "ternary")
    written = []
    for step in (1, 2, 300, 10**6):
        values = {"accuracy": float(rng.uniform()), "zeros ä": float(rng.normal())}
        scalars.add(step, values)
        written.append((step, values))
    records = tf.data.TFRecordDataset(str(scalars.path)).as_numpy_iterator()
    first, *events = [event_pb2.Event.FromString(record) for record in records]
    assert first.file_version == "brain.Event:2"
    read = [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events]
    assert read == [
        (step, {tag: float(np.float32(value)) for tag, value in values.items()})
        for step, values in written
    ]
    assert 1.7e9 < events[0].wall_time < 1e11
