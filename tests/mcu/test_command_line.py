"""`--format=c`: of an int8 file (rewrite) and of a model (to_c)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras

from ec2t_tf import export
from ec2t_tf.export import commands
from tests import c_runner, nets


def test_rewrite_writes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "net.tflite", tmp_path / "net_c"
    file.write_bytes(nets.lenet5())
    options = ["--core=m4", "--optimize=speed", "--example", f"--output={folder}"]
    assert commands.main(["rewrite", str(file), "--format=c", *options]) == 0
    assert "bytes of flash" in capsys.readouterr().out
    assert "EC2T_MCU_ENCODING_DISTANCES" in (folder / "model.c").read_text()
    assert (folder / "example" / "Makefile").exists()


def test_rewrite_says_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.tflite"
    file.write_bytes(b"no model")
    assert commands.main(["rewrite", str(file), "--format=c", f"--output={tmp_path}"]) == 2
    assert "'TFL3'" in capsys.readouterr().err


def test_a_model_becomes_c(tmp_path: Path) -> None:
    """Float borders are the caller's: the C takes and gives int8."""
    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((9, 8, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(5, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    data = np.random.default_rng(1).normal(size=(50, 9, 8, 3)).astype(np.float32)
    report = export.to_c(model, tmp_path / "c", representative_data=lambda: data)
    assert [layer.name for layer in report.layers][:2] == [
        "convolution 3x3 3 -> 6",
        "convolution 3x3 6 -> 5",
    ]
    file = tmp_path / "model.tflite"
    export.to_tflite(model, file, representative_data=lambda: data, io_dtype="int8")
    values = nets.inputs(file.read_bytes(), 3)
    want = nets.reference(file.read_bytes(), values)
    program = c_runner.build_host(tmp_path / "c")
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)
