"""The networks have the published shapes; published weights give the published accuracy."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf.policy import Policy
from ec2t_tf.train import recipe, tasks, zoo
from ec2t_tf.train.doors import Keras3
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


NETS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("lenet5", "micronet", "resnet8", "resnet18", "resnet20"), (32, 32, 3)),
    "ds_cnn": (32, 48, 1),
    "mobilenet": (64, 64, 3),
    "sensor_cnn": (100, 6),
}
DEEP = ("micronet", "resnet18")  # as the others, but many layers


@pytest.mark.parametrize("name", [*NETS, pytest.param("efficientnet_b1", marks=pytest.mark.slow)])
def test_no_layer_stays_float(name: str) -> None:
    scale = {"depth": 0.3} if name in DEEP else {}
    shape = NETS.get(name, (32, 32, 3))
    net = zoo.build(name, input_shape=shape, classes=10, **scale)
    report = ec2t_tf.apply(net, verbose=0).ec2t_report
    assert not report.refused
    assert not report.of("float")


@pytest.mark.parametrize(
    "name",
    ["resnet20", *(pytest.param(n, marks=pytest.mark.slow) for n in NETS if n != "resnet20")],
)
def test_no_layer_stays_float_in_tf_keras(name: str) -> None:
    """For `--door=tfmot`: the twin of the net computes the same, and all of it has a rule."""
    from ec2t_tf import tfmot
    from ec2t_tf.quantisation.decide import decide
    from ec2t_tf.tfmot.native import plan_of
    from ec2t_tf.tfmot.rewrite import rewrite

    net = tfmot.to_tf_keras(zoo.build(name, input_shape=NETS[name], classes=10))
    report = decide(plan_of(rewrite(net).model).graph, Policy(), {})
    assert not report.refused
    assert not report.of("float")


@pytest.mark.parametrize("name", [*NETS, "efficientnet_b1"])
def test_momenta(name: str) -> None:
    """0.99 forgets the statistics of an untrained net over hundreds of batches."""
    scale = {"depth": 0.3} if name in (*DEEP, "efficientnet_b1") else {}
    net = zoo.build(name, input_shape=NETS.get(name, (32, 32, 3)), classes=10, **scale)
    momenta = {one.momentum for one in net.layers if hasattr(one, "momentum")}
    assert momenta == ({0.9} if name != "lenet5" else set())


def test_unknown_network_and_small_images() -> None:
    with pytest.raises(ValueError, match="Received: model='lenet6'"):
        zoo.build("lenet6", input_shape=(28, 28, 1), classes=10)
    with pytest.raises(ValueError, match="at least 12x12"):
        zoo.build("lenet5", input_shape=(8, 8, 1), classes=10)


@pytest.mark.parametrize(
    ("name", "shape", "kernels"),
    [
        # stem, then pairs of 3x3 and 1x1, then the classes: kernels without normalisations
        (
            "resnet8",
            (28, 28, 1),
            9 * (8 + 2 * 8 * 8 + 8 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
            + (8 * 16 + 16 * 32)
            + 32 * 10,
        ),
        ("ds_cnn", (32, 48, 1), 4 * 10 * 32 + 4 * (9 * 32 + 32 * 32) + 32 * 10),
        ("sensor_cnn", (100, 6), 5 * (6 * 16 + 16 * 32 + 32 * 32) + 32 * 10),
        (
            "mobilenet",
            (64, 64, 3),
            9 * 3 * 4
            + sum(
                9 * a + a * b for a, b in pairwise((4, 8, 16, 16, 32, 32, 64, *[64] * 5, 128, 128))
            )
            + 128 * 10,
        ),
    ],
)
def test_half_the_width(name: str, shape: tuple[int, ...], kernels: int) -> None:
    model = zoo.build(name, input_shape=shape, classes=10, width=0.5)
    found = [w for w in model.weights if w.name.endswith("kernel")]
    assert sum(math.prod(kernel.shape) for kernel in found) == kernels


def test_a_net_for_other_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="resnet8 requires inputs of 3 axes"):
        zoo.build("resnet8", input_shape=(100, 6), classes=7)
    with pytest.raises(ValueError, match="sensor_cnn requires inputs of 2 axes"):
        zoo.build("sensor_cnn", input_shape=(8, 8, 1), classes=10)
    with pytest.raises(ValueError, match="can be scaled"):
        zoo.build("mobilenet", input_shape=(64, 64, 3), classes=10, depth=2.0)


def test_lenet5_scores_99_20_on_mnist(shared: Path) -> None:
    data = tasks.load("mnist", tfds_dir=str(shared / "tfds"))
    model = zoo.build("lenet5", input_shape=data.input_shape, classes=10)
    load_weights(model, shared / "models" / "lenet5_fp.npz")
    accuracy = recipe.accuracy(Keras3(), model, data.evaluation(data.test))
    assert round(100 * accuracy, 2) == 99.20


def test_resnet20_weights_fit(shared: Path) -> None:
    model = zoo.build("resnet20", input_shape=(32, 32, 3), classes=10)
    load_weights(model, shared / "models" / "resnet20_jpeg_fp.npz")
    with np.load(shared / "models" / "resnet20_jpeg_fp.npz") as archive:
        expected = archive["layer2.1.conv2.weight"].transpose(2, 3, 1, 0)
        kernel = keras.ops.convert_to_numpy(model.get_layer("layer2_1_conv2").kernel)
        np.testing.assert_array_equal(kernel, expected)


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
