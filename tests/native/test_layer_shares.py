"""EC2T(layer_shares=...): whether zeros move between layers while a net trains."""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.quantisation.quantised import Quantised


def net() -> keras.Model:
    keras.utils.set_random_seed(3)
    sizes = (12, 40, 40, 12, 3)
    return keras.Sequential([layers.Input((16,)), *(layers.Dense(n) for n in sizes)])


def shares(model: keras.Model) -> list[float]:
    return [row.zeros for row in ec2t_tf.summary(model).ternary]


def trained(
    kind: Literal["free", "kept"], *, largest: bool = True, **options: object
) -> tuple[list[float], list[float]]:
    """Shares of zeros at the start, and after most weights of one layer have shrunk, or (of the
    smallest layer) grown."""
    method = methods.EC2T(layer_shares=kind, **options)
    model = ec2t_tf.apply(net(), method)
    before = shares(model)
    layer = (max if largest else min)(
        (one for one in model.layers if isinstance(one, Quantised) and one.method is not None),
        key=lambda one: one.latent.shape[0] * one.latent.shape[1],
    )
    latent = keras.ops.convert_to_numpy(layer.latent.value)
    rare = np.random.default_rng(1).random(latent.shape) < 0.02
    even = np.random.default_rng(4).uniform(0.3, 1.0, latent.shape)
    changed = 0.6 * latent if largest else np.sign(latent) * np.abs(latent).max() * even
    layer.latent.assign(np.where(rare, latent, changed))
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    inputs = np.random.default_rng(2).normal(size=(8, 16)).astype(np.float32)
    model.fit(inputs, inputs[:, :3], epochs=5, verbose=0)
    return before, shares(model)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "options",
    [
        {"target_sparsity": 0.8},
        {
            "schedule": ec2t_tf.PolynomialDecay(
                initial_sparsity=0.0, final_sparsity=0.8, begin_step=0, end_step=2, frequency=1
            )
        },
    ],
    ids=["target", "schedule"],
)
def test_zeros_move_between_layers_only_if_they_are_free(options: dict) -> None:
    started, moved = trained("free", target_sparsity=0.8)
    assert np.ptp(np.subtract(moved, started)) > 0.05
    _, after = trained("kept", **options)
    np.testing.assert_allclose(after, started, atol=0.01)


def test_a_small_layer_keeps_its_share_however_large_its_weights_are() -> None:
    started, after = trained("kept", target_sparsity=0.8, largest=False)
    np.testing.assert_allclose(after, started, atol=0.01)


def test_it_is_kept_in_the_config_and_checked() -> None:
    method = methods.EC2T(target_sparsity=0.8, layer_shares="kept")
    assert methods.deserialize(methods.serialize(method)).layer_shares == "kept"
    with pytest.raises(ValueError, match="layer_shares must be one of"):
        methods.EC2T(layer_shares="even")


def test_every_layer_counts_each_step_once() -> None:
    schedule = ec2t_tf.PolynomialDecay(
        initial_sparsity=0.0, final_sparsity=0.8, begin_step=0, end_step=2, frequency=1
    )
    inputs = np.random.default_rng(2).normal(size=(8, 16)).astype(np.float32)
    for _ in range(4):  # what was wrong was so in a quarter of the runs
        model = ec2t_tf.apply(net(), methods.EC2T(schedule=schedule), verbose=0)
        model.compile(keras.optimizers.SGD(1e-6), "mse")
        model.fit(inputs, inputs[:, :3], epochs=5, verbose=0)
        states = [
            x.state for x in model.layers if isinstance(x, Quantised) and x.method is not None
        ]
        counted = [int(keras.ops.convert_to_numpy(state["steps"])) for state in states]
        assert counted == [4, 4, 4]  # before the fifth pass four steps were made
        target = float(keras.ops.convert_to_numpy(states[0]["target_sparsity"]))
        assert target == pytest.approx(0.8)  # a pass that sees another step misses it
