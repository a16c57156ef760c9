"""Every method in models: saved, loaded, exported, on two devices, in two passes.

Tracing and exporting one takes 20 s of CPU, so all but two are slow.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import export, methods
from ec2t_tf.tfmot.native import native
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models
from tests.kernels_of import kernels_of

IN_MODELS = {
    "twn per channel": methods.TWN(per_channel=True, threshold="exact"),
    "generalized_ternary_connect": methods.GeneralizedTernaryConnect(
        bits_every=1, level_penalty=1e-4
    ),
    "ttq": methods.TTQ(),
    "abs_mean": methods.AbsMean(),
    "tga": methods.TGA(update="two_pass"),
    "sparsity_regularized": methods.SparsityRegularized(prune_from=2, mode="learned"),
}
QUICK = ("twn per channel", "generalized_ternary_connect")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in IN_MODELS]
)
def test_fit_save_load_export(name: str, tmp_path: Path) -> None:
    float_model = models.convolutional()
    gamma = float_model.get_layer("norm").gamma
    gamma.assign(gamma * tf.constant([1.0, -1.0, 0.5, -2.0]))  # folded into the scales at export
    model = models.trained(ec2t_tf.apply(float_model, IN_MODELS[name]), epochs=2)
    images, labels = models.examples(seed=1)
    outputs = model.predict(images, verbose=0)
    assert np.all(np.isfinite(outputs))
    plain = ec2t_tf.strip(model)
    for layer in ternary_layers(model):
        kernel = plain.get_layer(layer.name).kernel.numpy()
        np.testing.assert_array_equal(kernel, layer.assign().dequantise())
    # What files are written from: a value may be rounded to the other side of a tie.
    exported = np.asarray(native(model)(images))
    assert np.isclose(exported, model(images, training=False), atol=1e-5).mean() >= 0.99

    model.save(tmp_path / "model.keras")
    loaded = ec2t_tf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), outputs)
    for before, after in zip(ternary_layers(model), ternary_layers(loaded), strict=True):
        assert after.method.get_config() == before.method.get_config()
        assert {n: float(v) for n, v in before.losses().items()} == pytest.approx(
            {n: float(v) for n, v in after.losses().items()}
        )
    for one in (model, loaded):
        one.fit(images, labels, batch_size=32, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    path = export.to_tflite(model, tmp_path / "model.tflite")
    check = export.verify(model, path, images)
    # Float32 sums near a tie, in a net whose ranges are as narrow as its first batch.
    assert check.largest_difference <= 4
    assert sum(n for step, n in check.steps.items() if step > 1) <= 0.02 * sum(check.steps.values())
    middle, hidden = (layer.assign() for layer in ternary_layers(model))
    _, conv, dense, _ = kernels_of(path.read_bytes())
    mirror = np.array([1, -1, 1, -1])[:, None]
    codes = np.moveaxis(middle.codes, -1, 0).reshape(4, -1) * mirror
    np.testing.assert_array_equal(np.sign(conv.codes), np.sign(codes))
    ratio = hidden.dequantise().T / hidden.largest
    np.testing.assert_array_equal(dense.codes, np.rint(127 * ratio))


def test_losses_are_in_the_loss() -> None:
    """What `TernaryLayer.losses` names is what Keras adds: the sum over the layers."""
    method = methods.SparsityRegularized(l2=0.5, mode="learned")
    model = ec2t_tf.apply(models.sequential(), method)
    (layer,) = ternary_layers(model)
    named = layer.losses()
    assert set(named) == {"l2", "threshold"}
    assert float(tf.add_n(model.losses)) == pytest.approx(sum(float(v) for v in named.values()))
    images, labels = models.examples()
    models.compiled(model)
    logits = model(images, training=False)
    cross_entropy = model.loss(labels, logits)
    reported = model.test_on_batch(images, labels, return_dict=True)["loss"]
    expected = float(cross_entropy) + sum(float(v) for v in named.values())
    assert reported == pytest.approx(expected, rel=1e-4)


def train_on_two_devices() -> None:
    """Run in a process of its own; see below."""
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    images, labels = models.examples()
    for name, method in IN_MODELS.items():
        with strategy.scope():
            model = ec2t_tf.apply(models.sequential(), method)
            models.compiled(model)
        model.fit(images, labels, batch_size=32, epochs=2, verbose=0)
        for layer in ternary_layers(model):
            assert np.all(np.isfinite(layer.assign().dequantise())), name
            for variable in (layer.latent, *layer.state.values()):
                copies = [copy.numpy() for copy in strategy.experimental_local_results(variable)]
                assert len(copies) == 2
                np.testing.assert_array_equal(copies[0], copies[1], err_msg=variable.name)


@pytest.mark.slow
def test_distribution() -> None:
    """Two replicas train with every method, and hold one state."""
    # Logical devices exist only if they are asked for before TensorFlow starts: a new process.
    program = """
import importlib.util, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
spec = importlib.util.spec_from_file_location("test_methods_in_models", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train_on_two_devices()
"""
    subprocess.run(
        [sys.executable, "-c", program, __file__], check=True, cwd=Path(__file__).parents[1]
    )


class TestTwoPass:
    def test_thresholds_step_first_and_statistics_see_the_batch_once(self) -> None:
        images, labels = models.examples(32)

        def stepped(update: str) -> tuple[tf_keras.Model, list[np.ndarray]]:
            method = methods.TGA(update=update, initial_threshold=0.2, threshold_learning_rate=1.0)
            model = ec2t_tf.apply(models.convolutional(), method)
            models.compiled(model, tf_keras.optimizers.Adam(0.01))
            model.run_eagerly = True
            model.train_on_batch(images, labels)
            moving = [v.numpy() for v in model.variables if "moving_mean" in v.name]
            return model, moving

        (joint, moving_joint), (twice, moving_twice) = stepped("joint"), stepped("two_pass")
        assert int(twice.optimizer.iterations) == 1
        # Seen twice, the moving mean would have gone about twice as far.
        for one, other in zip(moving_joint, moving_twice, strict=True):
            assert 0 < np.abs(other).sum() < 1.5 * np.abs(one).sum()
        for a, b in zip(ternary_layers(joint), ternary_layers(twice), strict=True):
            # Joint: the step waits for the next pass. Two passes: the second one has taken it in.
            assert float(a.state["threshold_step"]) != 0
            assert float(b.state["threshold_step"]) == 0
            moved = a.state["threshold"] + a.state["threshold_step"]  # the rate is 1
            assert float(b.state["threshold"]) == pytest.approx(float(moved), rel=1e-5)
            assert np.any(b.latent.numpy() != a.latent.numpy())
