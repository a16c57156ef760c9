"""Phases of a training: the frozen assignment, and pruning of the int8 layers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from ec2t_tf.methods import EC2T
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests.train.scheduled import X, Y, fit, gradients_of, ternary_net


def codes_of(model) -> list[np.ndarray]:
    return [layer.assign().codes for layer in ternary_layers(model)]


@pytest.mark.parametrize("options", [{}, {"target_sparsity": 0.8}])
def test_a_frozen_phase_changes_no_code(options):
    method = EC2T(frozen_from=0.5, total_steps=8, **options)
    model = ternary_net(method, optimizer=tf_keras.optimizers.Adam(0.03))
    fit(model, steps=4)
    before = codes_of(model)  # what the next pass freezes
    moving = [layer.latent.numpy() for layer in ternary_layers(model)]
    centroids = [layer.assign().levels for layer in ternary_layers(model)]
    first = model.get_layer("quant_first").get_weights()[0]
    for at in (0, 16, 32, 48):
        model.train_on_batch(X[at : at + 16], Y[at : at + 16])
        for frozen, now in zip(before, codes_of(model), strict=True):
            np.testing.assert_array_equal(frozen, now)
    # The rest goes on training: centroids, int8 layers.
    assert any(
        np.abs(old - layer.assign().levels).max() > 1e-5
        for old, layer in zip(centroids, ternary_layers(model), strict=True)
    )
    assert np.abs(first - model.get_layer("quant_first").get_weights()[0]).max() > 1e-3
    # Without the freeze the codes would have moved: the latents' momentum alone moves weights.
    assert any(
        not np.array_equal(old, layer.latent.numpy())
        for old, layer in zip(moving, ternary_layers(model), strict=True)
    )


def test_without_a_frozen_phase_codes_change():
    model = ternary_net(EC2T(), optimizer=tf_keras.optimizers.Adam(0.03))
    fit(model, steps=4)
    before = codes_of(model)
    fit(model, steps=4)
    assert any(not np.array_equal(a, b) for a, b in zip(before, codes_of(model), strict=True))


def test_frozen_latents_get_no_gradient():
    model = ternary_net(EC2T(frozen_from=0))
    gradients = gradients_of(model, X, Y)
    by_name = {
        variable.name.removeprefix("quant_"): gradient.numpy()
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
    }
    assert not by_name["large/kernel:0"].any()
    assert by_name["first/kernel:0"].any()
    assert any(value.any() for name, value in by_name.items() if "centroid_step" in name)


@pytest.mark.parametrize("eagerly", [True, False])
def test_int8_layers_are_pruned_from_their_moment_on(eagerly):
    """Train, prune the int8 layers, freeze: one `fit`."""
    method = EC2T(target_sparsity=0.8, prune_int8_from=0.5, frozen_from=0.75, total_steps=16)
    model = ternary_net(method, optimizer=tf_keras.optimizers.Adam(0.01), run_eagerly=eagerly)
    assert model.ec2t_report.of("prune") == ["first", "last"]

    def pruned() -> list[np.ndarray]:
        return [k.assign().codes == 0 for k in ternary_layers(model) if not k.method.is_ternary]

    def share() -> float:
        return float(np.mean(np.concatenate([zeros.ravel() for zeros in pruned()])))

    fit(model, steps=4)
    assert share() < 0.05
    fit(model, steps=4)
    assert share() > 0.15
    fit(model, steps=4)
    frozen = pruned()
    fit(model, steps=4)
    for before, after in zip(frozen, pruned(), strict=True):
        np.testing.assert_array_equal(before, after)
    # What is computed is what is exported.
    for k in ternary_layers(model):
        computed = k.method.quantise(
            tf.convert_to_tensor(k.latent),
            k.state,
            relative_size=k.quantizer.relative_size,
            training=False,
        )
        np.testing.assert_array_equal(computed, k.assign().dequantise())


def test_before_their_moment_int8_layers_train_as_such():
    def gradients(method: EC2T) -> dict[str, np.ndarray]:
        model = ternary_net(method)
        names = [variable.name for variable in model.trainable_variables]
        return dict(zip(names, gradients_of(model, X, Y), strict=True))

    plain, waiting = gradients(EC2T()), gradients(EC2T(prune_int8_from=5))
    for name in ("quant_first/kernel:0", "quant_last/kernel:0"):
        np.testing.assert_allclose(plain[name], waiting[name], rtol=1e-5, atol=1e-7)
