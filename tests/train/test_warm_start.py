"""`--ternary_start`: what is copied from an earlier ternary net, and what begins anew."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.methods import EC2T, TTQ
from ec2t_tf.train import zoo
from ec2t_tf.train.warm_start import begin_from

STEPS = 4


def ternary(
    method: ec2t_tf.methods.TernaryMethod,
    *,
    classes: int = 10,
    policy: ec2t_tf.Policy | None = None,
) -> keras.Model:
    net = zoo.build("lenet5", input_shape=(28, 28, 1), classes=classes)
    model = ec2t_tf.apply(net, method, policy=policy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def method(target: float) -> EC2T:
    return EC2T(target_sparsity=target, frozen_from=STEPS // 2, total_steps=STEPS)


def fit(model: keras.Model) -> None:
    random = np.random.default_rng(1)
    images = random.uniform(size=(32 * STEPS, 28, 28, 1)).astype(np.float32)
    model.fit(images, random.integers(0, 10, len(images)), verbose=0)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("earlier")
    model = ternary(method(0.6))
    fit(model)
    model.save(folder / "model.keras")
    return folder


def test_begins_with_the_earlier_net(earlier: Path) -> None:
    model = ternary(method(0.6))
    begin_from(model, earlier, None)
    counted = 0
    before = ec2t_tf.load_model(earlier / "model.keras").weights
    for variable, other in zip(model.weights, before, strict=True):
        name = variable.path
        value, trained = map(keras.ops.convert_to_numpy, (variable, other))
        if name.endswith(("/steps", "/clock", "/clock_seen", "/frozen")):
            assert not value, name
            assert trained, name
            counted += 1
        elif value.dtype == np.float32:
            np.testing.assert_array_equal(value, trained, err_msg=name)
    assert counted == 3 * 4


def test_codes_held_by_a_margin_come_along(tmp_path: Path) -> None:
    # Thresholds alone decide other codes: the margin is around the codes of before.
    keras.utils.set_random_seed(2)
    margin = EC2T(target_sparsity=0.6, hysteresis=0.4)
    before = ternary(margin)
    fit(before)
    before.save(tmp_path / "model.keras")
    model = ternary(margin)
    begin_from(model, tmp_path, None)
    images = np.random.default_rng(3).uniform(size=(64, 28, 28, 1)).astype(np.float32)
    wanted, outputs = (m.predict(images, verbose=0) for m in (before, model))
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)


def test_trains_on_to_another_target(earlier: Path) -> None:
    model = ternary(method(0.8))
    begin_from(model, earlier, None)
    fit(model)
    assert ec2t_tf.summary(model).zeros == pytest.approx(0.8, abs=0.01)


@pytest.mark.few(1)
@pytest.mark.parametrize("target", [0.4, 0.95])
def test_shares_are_kept_at_another_target(target: float, tmp_path: Path) -> None:
    before = ternary(EC2T(target_sparsity=0.6, layer_shares="kept", hysteresis=0.2))
    fit(before)
    before.save(tmp_path / "model.keras")
    model = ternary(EC2T(target_sparsity=target, layer_shares="kept", hysteresis=0.2))
    begin_from(model, tmp_path, None)
    fit(model)
    found, earlier = (
        [(one.assign().codes == 0).mean() for one in ternary_layers(m)] for m in (model, before)
    )
    assert ec2t_tf.summary(model).zeros == pytest.approx(target, abs=0.01)
    assert max(found) < 1
    assert np.argsort(found).tolist() == np.argsort(earlier).tolist()


def test_a_rise_begins_at_the_earlier_net(tmp_path: Path) -> None:
    """Where the earlier shares, of another sparsity, would have taken all of a layer."""
    keras.utils.set_random_seed(1)
    before = ternary(
        EC2T(target_sparsity=0.6, layer_shares="kept", frozen_from=2, total_steps=STEPS)
    )
    fit(before)
    before.save(tmp_path / "model.keras")
    rise = ec2t_tf.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=STEPS, frequency=1)
    model = ternary(EC2T(schedule=rise, layer_shares="kept"))
    begin_from(model, tmp_path, None)
    zeros = [float((layer.assign().codes == 0).mean()) for layer in ternary_layers(before)]
    for layer, own in zip(ternary_layers(model), zeros, strict=True):
        share = float(layer.state["layer_share"].value)
        assert 0.9 * share == pytest.approx(1 - (1 - own) * 0.1 / 0.4, abs=0.01)
        assert layer.method.schedule.initial_sparsity == pytest.approx(0.6, abs=0.01)
    fit(model)
    after = [float((layer.assign().codes == 0).mean()) for layer in ternary_layers(model)]
    assert max(after) < 0.99


def test_another_net_or_method_is_refused(earlier: Path) -> None:
    with pytest.raises(ValueError, match=r"same architecture.*shape \[84, 10\]"):
        begin_from(ternary(method(0.6), classes=7), earlier, None)
    with pytest.raises(ValueError, match="none at all"):
        begin_from(ternary(TTQ()), earlier, None)
    kept = ec2t_tf.Policy([ec2t_tf.Rule("int8", name="fc2")])
    with pytest.raises(ValueError, match=r"fc2.*where none at all"):
        begin_from(ternary(method(0.6), policy=kept), earlier, None)
    with pytest.raises(FileNotFoundError, match="finished run"):
        begin_from(ternary(method(0.6)), earlier / "nothing", None)
