"""What a file cannot hold is refused, with the name of what is wrong."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export import commands, verification
from tests import models

pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")


@pytest.fixture(scope="module")
def ternary() -> tf_keras.Model:
    return models.trained(ec2t_tf.apply(models.convolutional()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of before, which an error must leave."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")
    return path


@pytest.fixture
def weights(ternary: tf_keras.Model) -> list[np.ndarray]:
    """Those of `ternary`, put back after the test."""
    before = ternary.get_weights()
    yield before
    ternary.set_weights(before)


def names(model: tf_keras.Model) -> list[str]:
    """A kernel, a bias, a moving average, a centroid and both sides of a range."""
    wanted = ("first/kernel", "last/bias", "moving_variance", "hidden/", "_min:", "_max:")
    found = [next(v.name for v in model.weights if part in v.name) for part in wanted]
    assert len(set(found)) == len(wanted)
    return found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(6))
def test_variable_that_is_not_finite(
    ternary: tf_keras.Model, weights: list, path: Path, place: int, value: float
) -> None:
    name = names(ternary)[place]
    variable = next(v for v in ternary.weights if v.name == name)
    flat = variable.numpy().reshape(-1)
    flat[0] = value
    variable.assign(flat.reshape(variable.shape))
    with pytest.raises(ValueError, match=f"finite weights.*{name}"):
        export.to_tflite(ternary, path)
    assert path.read_bytes() == b"before"


def test_one_nan_pixel_in_a_batch(ternary: tf_keras.Model, weights: list, path: Path) -> None:
    images, labels = models.examples()
    images[3, 2, 1, 0] = np.nan
    models.compiled(ternary).fit(images, labels, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="finite weights, ranges and statistics"):
        export.to_tflite(ternary, path)
    with pytest.raises(ValueError, match="finite weights, ranges and statistics"):
        export.to_c(ternary, path.parent / "c")
    assert [p.name for p in path.parent.iterdir()] == ["model.tflite"]


def test_training_that_diverged(path: Path) -> None:
    layers = [keras.layers.Dense(4, name=name) for name in ("one", "two", "three")]
    source = keras.Sequential([keras.Input((4,)), *layers])
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8")])
    made = ec2t_tf.apply(source, policy=policy, verbose=0)
    made(np.ones((2, 4), np.float32), training=True)
    made.get_layer("two").latent.assign(np.full((4, 4), 1e20))
    for layer in made.layers:
        if layer.name == "one_range":
            layer.largest.assign(1e30)
    with pytest.raises(ValueError, match=r"'two' with steps of .* training diverged"):
        export.to_tflite(made, path)
    assert path.read_bytes() == b"before"


def test_representative_data_with_nan(path: Path) -> None:
    images, _ = models.examples(8)
    images[5, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="representative_data must be finite"):
        export.to_tflite(models.sequential(), path, representative_data=images)
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("layer", ["first", "hidden", "last"])
@pytest.mark.parametrize("value", [1e9, -1e6])
def test_bias_that_would_not_fit(
    ternary: tf_keras.Model, weights: list, path: Path, layer: str, value: float
) -> None:
    (bias,) = [v for v in ternary.weights if f"{layer}/bias" in v.name]
    bias.assign(tf.one_hot(1, bias.shape[0], on_value=value, off_value=0.0))
    if layer != "first":  # one scale for all channels
        with pytest.raises(ValueError, match=f"bias of '{layer}' does not fit: required at most"):
            export.to_tflite(ternary, path)
        assert path.read_bytes() == b"before"
        return
    # That channel gets a coarser scale, with which the sum of 32 bits holds the bias.
    export.to_tflite(ternary, path)
    images, _ = models.examples()
    assert export.verify(ternary, path, images).largest_difference <= 2
    exactly = export.exact(ternary, rounding="xnnpack")
    assert export.verify(exactly, path, images).largest_difference == 0
    graph = export.tflite.read(path)
    biases = [t.data for t in graph.tensors if t.dtype == "int32" and t.name.endswith("/bias")]
    assert len(biases) == 4
    assert max(np.abs(one.astype(np.int64)).max() for one in biases) <= 2**30


def test_bias_that_fits(ternary: tf_keras.Model, weights: list, path: Path) -> None:
    (bias,) = [v for v in ternary.weights if "last/bias" in v.name]
    bias.assign(tf.one_hot(1, bias.shape[0], on_value=1e3, off_value=0.0))
    export.to_tflite(ternary, path)
    images, _ = models.examples()
    exactly = export.exact(ternary, rounding="xnnpack")
    assert export.verify(exactly, path, images).largest_difference == 0
    # A step of this output is 0.002; tf_keras computes in floats.
    assert export.verify(ternary, path, images).largest_difference <= 4


def test_verify_refuses_nan(ternary: tf_keras.Model, tmp_path: Path) -> None:
    path = export.to_tflite(ternary, tmp_path / "model.tflite")
    images, _ = models.examples(8)
    images[[2, 5], 0, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="in 2 of 8 inputs, the first one number 2"):
        export.verify(ternary, path, images)
    with pytest.raises(ValueError, match="in 2 of 8 inputs"):
        verification.verify_files(path, [path], images)
    np.save(tmp_path / "data.npy", images)
    words = ["verify", str(path), str(path), "--data", str(tmp_path / "data.npy")]
    assert commands.main(words) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"text"])
def test_damaged_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "data.npy").write_bytes(content)
    words = ["verify", "a.tflite", "b.tflite", "--data", str(tmp_path / "data.npy")]
    assert commands.main(words) == 2
    assert "error: A whole .npz or .npy file of numbers is required" in capsys.readouterr().err


@pytest.mark.parametrize("half", [False, True])
def test_report_of_a_float_file(tmp_path: Path, half: bool) -> None:
    converter = tf.lite.TFLiteConverter.from_keras_model(models.sequential())
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (tmp_path / "float.tflite").write_bytes(converter.convert())
    report = export.report(tmp_path / "float.tflite")
    text = str(report)
    dtypes = {kernel.codes for kernel in report.kernels}
    assert "float32" in dtypes
    for kernel in report.kernels:
        if kernel.is_float:
            assert not kernel.ternary
            assert kernel.entropy == 32
            assert kernel.bound_bytes == kernel.weights_bytes
    floats = sum(kernel.is_float for kernel in report.kernels)
    assert f"no kernel is ternary; {floats} of {len(report.kernels)} kernels are float" in text
    assert ("int8" in text) == ("int8" in dtypes)
