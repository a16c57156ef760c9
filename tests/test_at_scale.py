"""Training as large projects do it: mixed precision, compilation, replicas, loops of one's own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.export import to_tflite, verify
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models


def net(policy: str = "float32", *, normalised: bool = True) -> tf_keras.Model:
    """Like `models.convolutional`, with another dtype policy and synchronised normalisation."""
    tf_keras.utils.set_random_seed(0)
    options = {"dtype": policy}
    source = layers.Input(models.IMAGE)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first", **options)(source)
    bias = not normalised  # before a normalisation its gradient is nothing but rounding
    x = layers.Conv2D(6, 3, padding="same", use_bias=bias, name="middle", **options)(x)
    if normalised:
        x = layers.BatchNormalization(synchronized=True, name="norm", **options)(x)
    x = layers.ReLU(**options)(x)
    x = layers.GlobalAveragePooling2D(**options)(x)
    x = layers.Dense(6, activation="relu", name="hidden", **options)(x)
    return tf_keras.Model(source, layers.Dense(models.CLASSES, name="last")(x))


def fit(model: tf_keras.Model, *, optimizer: Any = None, epochs: int = 1, **options: Any) -> Any:
    images, labels = models.examples()
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or tf_keras.optimizers.Adam(1e-2), loss, **options)
    history = model.fit(images, labels, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return history.history["loss"]


def codes(model: tf_keras.Model) -> list[np.ndarray]:
    return [layer.assign().codes for layer in ternary_layers(model)]


class TestMixedPrecision:
    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_assignment_in_float32_product_in_the_compute_dtype(self, policy: str) -> None:
        trained = ec2t_tf.apply(net(policy))
        compute = policy.removeprefix("mixed_")
        reference = ec2t_tf.apply(net())
        for one, other in zip(codes(trained), codes(reference), strict=True):
            np.testing.assert_array_equal(one, other)
        images, _ = models.examples()
        for layer in ternary_layers(trained):
            assert layer.latent.dtype == tf.float32
            for variable in layer.state.values():
                assert variable.dtype in (tf.float32, tf.int32, tf.int8)
        outputs = trained(images, training=True)
        for layer in ternary_layers(trained):
            weights = getattr(layer.layer, layer.kernel_name)  # what the last call computed with
            assert weights.dtype == compute
            expected = tf.cast(layer.assign().dequantise(), compute)
            np.testing.assert_array_equal(
                tf.cast(weights, tf.float32), tf.cast(expected, tf.float32)
            )
            assert layer.wrapper.compute_dtype == compute
        difference = np.abs(outputs - reference(images, training=True)).max()
        # Steps of the outputs, which begin with +-6; bfloat16 has three bits less than float16.
        steps = 2 if compute == "bfloat16" else 1
        assert difference <= 1.01 * steps * 12.0 / 255.0

    @pytest.mark.parametrize(
        "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
    )
    def test_trains_and_exports(self, policy: str, tmp_path: Path) -> None:
        trained = ec2t_tf.apply(net(policy))
        before = codes(trained)
        losses = fit(trained, epochs=4)
        assert losses[-1] < losses[0]
        assert any(np.any(a != b) for a, b in zip(before, codes(trained), strict=True))
        images, _ = models.examples()
        trained.save(tmp_path / "model.keras")
        loaded = ec2t_tf.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            loaded.predict(images, verbose=0), trained.predict(images, verbose=0)
        )
        result = verify(trained, to_tflite(trained, tmp_path / "model.tflite"), images)
        assert result.agreement >= 0.95, str(result)


class TestOptions:
    """Options of `compile` and `fit` that change how a step runs, not what it computes."""

    @pytest.mark.parametrize(
        "options", [{"jit_compile": True}, {"steps_per_execution": 4}], ids=str
    )
    def test_same_weights(self, options: dict) -> None:
        reference, model = ec2t_tf.apply(net()), ec2t_tf.apply(net())
        fit(reference)
        fit(model, **options)
        for a, b in zip(codes(reference), codes(model), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(reference.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3)
            # Of a gradient near 0 Adam makes a whole step, in which XLA's order of sums shows.
            assert np.mean(~np.isclose(a, b, rtol=1e-4, atol=1e-5)) <= 0.02

    @pytest.mark.few(1)
    @pytest.mark.parametrize("clipping", ["clipnorm", "clipvalue", "global_clipnorm"])
    def test_gradient_clipping(self, clipping: str) -> None:
        """Clipped to nearly nothing, nothing moves; the step is the optimiser's own."""
        free, held = ec2t_tf.apply(net()), ec2t_tf.apply(net())
        fit(free, optimizer=tf_keras.optimizers.SGD(0.1))
        fit(held, optimizer=tf_keras.optimizers.SGD(0.1, **{clipping: 1e-9}))
        start = ec2t_tf.apply(net())
        moved = [
            max(
                float(np.abs(a.latent - b.latent).max())
                for a, b in zip(ternary_layers(model), ternary_layers(start), strict=True)
            )
            for model in (free, held)
        ]
        assert moved[0] > 1e-4
        assert moved[1] < 1e-7

    def test_weight_decay_leaves_centroids_and_codes(self) -> None:
        """AdamW shrinks latent weights; without a gradient, centroids and codes stay."""
        model = ec2t_tf.apply(net(), methods.EC2T(centroid_scale=0.6))
        before = codes(model)
        centroids = [layer.state["centroids"].numpy() for layer in ternary_layers(model)]
        latents = [layer.latent.numpy() for layer in ternary_layers(model)]
        optimizer = tf_keras.optimizers.AdamW(1e-3, weight_decay=0.01)
        variables = model.trainable_variables
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])
        model(models.examples()[0], training=True)  # takes in the optimiser's step
        for layer, old in zip(ternary_layers(model), latents, strict=True):
            np.testing.assert_allclose(layer.latent, old * (1 - 1e-5), rtol=1e-6)
        for layer, old in zip(ternary_layers(model), centroids, strict=True):
            np.testing.assert_array_equal(layer.state["centroids"], old)
        for a, b in zip(before, codes(model), strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_loop_of_ones_own() -> None:
    """A GradientTape loop gives the same weights as `fit`."""
    reference, model = ec2t_tf.apply(net()), ec2t_tf.apply(net())
    fit(reference)
    images, labels = models.examples()
    optimizer = tf_keras.optimizers.Adam(1e-2)
    loss_of = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True)) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for start in range(0, len(images), 16):
        step(images[start : start + 16], labels[start : start + 16])
    for a, b in zip(reference.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Two replicas against one on the same global batches: sums are taken in another order.
REPLICA_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}

MIRRORED = """
import sys
import numpy as np
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import ec2t_tf
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests.test_at_scale import codes, fit, net
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = ec2t_tf.apply(net())
    fit(model)
for weight in model.weights:
    if weight.name.split("/")[-1].startswith("moving_"):
        continue  # Keras keeps these apart and reads their mean
    one, other = (value.numpy() for value in strategy.experimental_local_results(weight))
    np.testing.assert_array_equal(one, other, err_msg=weight.name)
np.savez(sys.argv[1], *model.get_weights())
np.savez(sys.argv[2], *codes(model))
"""

WORKER = """
import sys
import numpy as np
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
import ec2t_tf
from tests.test_at_scale import codes, fit, net
with strategy.scope():
    model = ec2t_tf.apply(net())
    fit(model)
np.savez(sys.argv[1], *model.get_weights())
np.savez(sys.argv[2], *codes(model))
"""


@pytest.fixture(scope="module")
def alone() -> tf_keras.Model:
    """The model trained by one replica."""
    model = ec2t_tf.apply(net())
    fit(model)
    return model


def start(program: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    arguments = [str(folder / name) for name in ("weights.npz", "codes.npz")]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


def assert_same(folder: Path, reference: tf_keras.Model) -> None:
    for a, b in zip(arrays(folder / "codes.npz"), codes(reference), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(arrays(folder / "weights.npz"), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **REPLICA_TOLERANCE)


@pytest.mark.slow
def test_mirrored_on_two_devices(alone: tf_keras.Model, tmp_path: Path) -> None:
    process = start(MIRRORED, tmp_path, {})
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    assert_same(tmp_path, alone)


@pytest.mark.slow
def test_two_workers(alone: tf_keras.Model, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    processes = []
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(start(WORKER, tmp_path / str(index), {"TF_CONFIG": json.dumps(task)}))
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    for index in range(2):
        assert_same(tmp_path / str(index), alone)
