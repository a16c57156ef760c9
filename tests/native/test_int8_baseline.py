"""The int8 net of the same architecture, and plain Keras 3 models, all the way to files and C."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import Policy, Rule, export
from ec2t_tf.export.file_formats import FORMATS
from tests.native import nets


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    policy = Policy([Rule("int8")])
    model = nets.compiled(ec2t_tf.apply(nets.convolutional(), policy=policy, verbose=0))
    model.fit(*nets.examples(model), batch_size=32, verbose=0)
    return model


def test_every_format_and_c(trained: keras.Model, tmp_path: Path) -> None:
    """Each format takes it, or says in a sentence that it wants ternary layers."""
    refused = {}
    for name in FORMATS:
        path = tmp_path / f"{name}.out"
        try:
            export.to_tflite(trained, path, format=name)
        except ValueError as error:
            refused[name] = str(error)
            continue
        if name != "download":
            assert export.verify(trained, path).largest_difference <= 2, name
    assert "int8" not in refused
    for name, sentence in refused.items():
        assert "ternary" in sentence, name
        assert not (tmp_path / f"{name}.out").exists()
    report = export.to_c(trained, tmp_path / "c")
    assert (tmp_path / "c" / "model.c").is_file()
    assert "int8" in str(report)


def test_a_plain_model_and_its_file(tmp_path: Path) -> None:
    """to_tflite with data, verify against the model and a data set; summary and load_model."""
    model = nets.randomise(nets.convolutional())
    x, y = nets.examples(model, 16)
    path = export.to_tflite(model, tmp_path / "m.tflite", representative_data=list(x))
    assert export.verify(model, path, x).inputs == 16
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        assert export.verify(model, path, data).inputs == 16
    model.save(tmp_path / "m.keras")
    loaded = ec2t_tf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert {row.treatment for row in ec2t_tf.summary(tmp_path / "m.keras").rows} == {"float"}
