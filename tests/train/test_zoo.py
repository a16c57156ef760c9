"""The networks have the published shapes; published weights give the published accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.policy import Policy
from ec2t_tf.train import data as image_data
from ec2t_tf.train import zoo
from ec2t_tf.train.zoo.published import load_weights


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet5", (28, 28, 1), 61_706),
        ("resnet8", (32, 32, 3), 78_666),
        # 269,722 trainable ones and 1,376 moving statistics
        ("resnet20", (32, 32, 3), 269_722 + 1_376),
    ],
)
def test_parameters(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    model = zoo.build(name, input_shape=shape, classes=10)
    assert model.count_params() == parameters
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", ["lenet5", "micronet", "resnet8", "resnet18", "resnet20"])
def test_no_layer_stays_float(name: str) -> None:
    report = Policy().decide(zoo.build(name, input_shape=(32, 32, 3), classes=10))
    assert not report.refused
    assert not report.of("float")


def test_unknown_network_and_small_images() -> None:
    with pytest.raises(ValueError, match="Received: model='lenet6'"):
        zoo.build("lenet6", input_shape=(28, 28, 1), classes=10)
    with pytest.raises(ValueError, match="at least 12x12"):
        zoo.build("lenet5", input_shape=(8, 8, 1), classes=10)


def test_lenet5_scores_99_20_on_mnist(shared: Path) -> None:
    data = image_data.load("mnist", tfds_dir=str(shared / "tfds"))
    model = zoo.build("lenet5", input_shape=data.image_shape, classes=10)
    load_weights(model, shared / "models" / "lenet5_fp.npz")
    model.compile(metrics=["sparse_categorical_accuracy"])
    _, accuracy = model.evaluate(data.evaluation(data.test), verbose=0)
    assert round(100 * accuracy, 2) == 99.20


def test_resnet20_weights_fit(shared: Path) -> None:
    model = zoo.build("resnet20", input_shape=(32, 32, 3), classes=10)
    load_weights(model, shared / "models" / "resnet20_jpeg_fp.npz")
    with np.load(shared / "models" / "resnet20_jpeg_fp.npz") as archive:
        expected = archive["layer2.1.conv2.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(model.get_layer("layer2_1_conv2").kernel, expected)


def test_wrong_files(tmp_path: Path) -> None:
    model = zoo.build("lenet5", input_shape=(28, 28, 1), classes=10)
    with pytest.raises(FileNotFoundError):
        load_weights(model, tmp_path / "missing.h5")
    np.savez(tmp_path / "other.npz", **{"stem.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"must hold 'conv1\.weight'"):
        load_weights(model, tmp_path / "other.npz")
    np.savez(tmp_path / "shape.npz", **{"conv1.weight": np.zeros((6, 1, 3, 3))})
    with pytest.raises(ValueError, match=r"must hold 'conv1\.bias'"):
        load_weights(model, tmp_path / "shape.npz")
