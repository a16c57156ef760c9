"""`--ternary_start` with an exported file: the net that training begins with is the file's."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.running import run
from ec2t_tf.methods import EC2T, TWN, TernaryMethod
from ec2t_tf.train import zoo
from ec2t_tf.train.warm_start import begin_from

NETS = {
    "resnet8": ((8, 8, 3), {"width": 0.5}),
    "ds_cnn": ((16, 16, 1), {"width": 0.25, "depth": 0.5}),
    "lenet5": ((12, 12, 1), {}),
    "sensor_cnn": ((32, 3), {"width": 0.5}),
}
COUNT = 32  # examples


def examples(name: str) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(COUNT, *NETS[name][0])).astype(np.float32)


def applied(name: str, method: TernaryMethod | None = None) -> keras.Model:
    shape, scaling = NETS[name]
    net = zoo.build(name, input_shape=shape, classes=5, **scaling)
    return ec2t_tf.apply(net, method or EC2T(target_sparsity=0.7))


@pytest.fixture(scope="module", params=NETS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A net with batch normalisations of all signs, its exported file and what it answers."""
    keras.utils.set_random_seed(4)
    model = applied(request.param)
    random = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(
                random.choice([-1.0, 1.0, 1.0], shape) * random.uniform(0.5, 2, shape)
            )
            layer.beta.assign(random.normal(size=shape))
        if "centroids" in getattr(layer, "state", {}):
            layer.state["centroids"].assign(layer.state["centroids"] * np.array([0.8, 1.1]))
    inputs = examples(request.param)
    for _ in range(4):
        model(inputs, training=True)
    file = tmp_path_factory.mktemp("file") / "packed.tflite"
    content = export.to_tflite(model, file.with_name("int8.tflite")).read_bytes()
    file.write_bytes(export.rewrite(content, format="packed").content)
    (outputs,) = run(content, [inputs])
    return request.param, model, file, outputs.values


@pytest.mark.few(2)
def test_training_begins_with_the_net_of_the_file(exported) -> None:
    name, before, file, wanted = exported
    keras.utils.set_random_seed(6)
    model = applied(name, EC2T(target_sparsity=0.7, layer_shares="kept", hysteresis=0.2))
    inputs = examples(name)
    begin_from(model, file, inputs)
    zeros = ec2t_tf.summary(before).zeros
    assert ec2t_tf.summary(model).zeros == pytest.approx(zeros, abs=1e-3)
    step = float(np.ptp(wanted)) / 255
    found = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=4 * step)
    assert float(np.abs(found - wanted).mean()) <= 0.5 * step
    model(inputs, training=True)  # thresholds of training agree with the codes
    assert ec2t_tf.summary(model).zeros == pytest.approx(zeros, abs=1e-3)


@pytest.mark.parametrize("exported", ["lenet5"], indirect=True)
@pytest.mark.parametrize("target", [0.5, 0.95])
def test_shares_are_kept_at_another_target(exported, target: float) -> None:
    name, _, file, _ = exported
    model = applied(name, EC2T(target_sparsity=target, layer_shares="kept", hysteresis=0.2))
    begin_from(model, file, examples(name))
    model(examples(name), training=True)
    assert ec2t_tf.summary(model).zeros == pytest.approx(target, abs=1e-3)
    assert all(row.zeros < 0.99 for row in ec2t_tf.summary(model).ternary)


@pytest.mark.parametrize("exported", ["lenet5"], indirect=True)
def test_thresholds_alone_begin_near_the_net_of_the_file(exported) -> None:
    name, before, file, wanted = exported
    model = applied(name)
    begin_from(model, file, examples(name))
    assert ec2t_tf.summary(model).zeros == pytest.approx(ec2t_tf.summary(before).zeros, abs=0.01)
    found = model.predict(examples(name), verbose=0)
    assert float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1]) > 0.9


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("small") / "model.tflite"
    model = applied("lenet5")
    model(examples("lenet5"), training=True)
    return export.to_tflite(model, file)


def test_a_file_of_another_net_is_refused(small: Path) -> None:
    with pytest.raises(ValueError, match=r"same architecture.* is needed"):
        begin_from(applied("ds_cnn"), small, examples("ds_cnn"))
    small.with_name("cut.tflite").write_bytes(small.read_bytes()[:1000])
    with pytest.raises(ValueError, match="tflite"):
        begin_from(applied("lenet5"), small.with_name("cut.tflite"), examples("lenet5"))


def test_another_method_is_refused(small: Path) -> None:
    with pytest.raises(ValueError, match="--method=ec2t only"):
        begin_from(applied("lenet5", TWN()), small, examples("lenet5"))
