"""Callbacks say what the layers hold, and change nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import callbacks
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models


def fit(watchers: list) -> tf_keras.Model:
    model = models.compiled(ec2t_tf.apply(models.sequential()))
    images, labels = models.examples()
    model.fit(images, labels, epochs=2, shuffle=False, verbose=0, callbacks=watchers)
    return model


def test_both_write_what_the_layers_hold_and_change_nothing(tmp_path: Path) -> None:
    model = fit([callbacks.CSVLogger(tmp_path / "a.csv"), callbacks.TensorBoard(tmp_path / "logs")])
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    (layer,) = ternary_layers(model)
    assignment = layer.assign()
    assert [(row["epoch"], row["layer"]) for row in rows] == [("0", "hidden"), ("1", "hidden")]
    assert float(rows[-1]["zeros"]) == assignment.sparsity
    assert float(rows[-1]["w_p"]) == assignment.scale_pos
    assert 0 <= float(rows[-1]["changed"]) <= 1
    kept = np.abs(layer.latent.numpy()[assignment.codes > 0]).min()
    assert float(rows[-1]["threshold_p"]) == pytest.approx(float(kept))

    (events,) = (tmp_path / "logs").iterdir()
    tags = {
        value.tag
        for record in tf.data.TFRecordDataset(str(events))
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    }
    assert tags == {f"hidden/{name}" for name in (*callbacks.COLUMNS, "latent")}

    for weight, other in zip(model.get_weights(), fit([]).get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_float_model_is_refused() -> None:
    model = models.compiled(models.sequential())
    images, labels = models.examples()
    with pytest.raises(ValueError, match="no ternary layer"):
        model.fit(images, labels, verbose=0, callbacks=[callbacks.CSVLogger("unused.csv")])
