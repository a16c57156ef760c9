"""What people do around `fit` in Keras 3, on the backend of this process; see test_backends.py."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.quantisation import TernaryModel, ternary_layers
from tests.native import nets

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()
# On TensorFlow tracing takes longer than these trainings.
EAGER = {"run_eagerly": BACKEND == "tensorflow"}


def numpy(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))


def small(method: Any = "ec2t", seed: int = 0) -> keras.Model:
    """A treated net with one ternary convolution, its normalisation, and a ternary matrix."""
    keras.utils.set_random_seed(seed)
    chain = [keras.Input((6, 6, 2), name="image")]
    chain += [layers.Conv2D(4, 3, activation="relu", name="first")]
    chain += [layers.Conv2D(4, 3, name="middle"), layers.BatchNormalization(name="norm")]
    chain += [layers.ReLU(name="relu"), layers.Flatten(name="flat")]
    chain += [layers.Dense(8, activation="relu", name="hidden"), layers.Dense(3, name="last")]
    return ec2t_tf.apply(keras.Sequential(chain), method, verbose=0)


def examples(count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    images = random.normal(labels[:, None, None, None], 1.0, (count, 6, 6, 2))
    return images.astype(np.float32), labels


def latents(model: keras.Model) -> list[np.ndarray]:
    return [numpy(layer.latent) for layer in ternary_layers(model)]


def fitted(data: Any = None, labels: Any = None, *, model: Any = None, **options: Any) -> Any:
    """A net after one epoch in the order given."""
    model = nets.compiled(small(), **EAGER) if model is None else model
    if data is None:
        data, labels = examples()
    if labels is not None:
        options = {"batch_size": 8, "shuffle": False, "y": labels, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`shuffle=True` was passed")  # its default
        warnings.filterwarnings("ignore", "Your input ran out of data")  # of generators
        model.fit(data, verbose=0, **options)
    return model


def assert_equal_models(one: keras.Model, other: keras.Model, tolerance: float = 1e-6) -> None:
    for ours, theirs in zip(one.variables, other.variables, strict=True):
        np.testing.assert_allclose(
            numpy(ours), numpy(theirs), rtol=tolerance, atol=tolerance, err_msg=ours.path
        )


class TestData:
    def test_tf_data(self) -> None:
        tf = pytest.importorskip("tensorflow")
        x, y = examples()
        assert_equal_models(
            fitted(), fitted(tf.data.Dataset.from_tensor_slices((x, y)).batch(8)), 1e-5
        )

    def test_torch_data_loader(self) -> None:
        torch = pytest.importorskip("torch")
        pairs = torch.utils.data.TensorDataset(*map(torch.from_numpy, examples()))
        assert_equal_models(fitted(), fitted(torch.utils.data.DataLoader(pairs, batch_size=8)))

    def test_generator(self) -> None:
        x, y = examples()
        batches = ((x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8))
        assert_equal_models(fitted(), fitted(batches))

    def test_class_weights_are_sample_weights(self) -> None:
        x, y = examples()
        shares = {0: 0.2, 1: 1.0, 2: 3.0}
        weights = np.array([shares[label] for label in y], np.float32)
        one = fitted(class_weight=shares)
        assert_equal_models(one, fitted(x, y, sample_weight=weights))
        assert any(np.any(a != b) for a, b in zip(latents(one), latents(fitted()), strict=True))


OPTIMIZERS = sorted(
    name
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    # around others
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
)


def test_every_optimizer() -> None:
    x, y = examples(8)
    for name in OPTIMIZERS:
        model = nets.compiled(small(), getattr(keras.optimizers, name)(), **EAGER)
        before = latents(model)
        assert np.isfinite(float(model.train_on_batch(x, y))), name
        assert int(model.optimizer.iterations) == 1
        for old, new in zip(before, latents(model), strict=True):
            assert np.all(np.isfinite(new)), name
            assert np.any(old != new), name
    assert len(OPTIMIZERS) >= 12


def test_losses_and_metrics() -> None:
    x, y = examples(16)
    one_hot = np.eye(3, dtype=np.float32)[y]
    for loss in ("categorical_crossentropy", "mse", "huber", "categorical_hinge", "kl_divergence"):
        model = small()
        metrics = ["accuracy", keras.metrics.AUC(), keras.metrics.F1Score(), "mae"]
        model.compile("adam", loss, metrics=metrics, **EAGER)
        found = model.fit(x, one_hot, verbose=0, validation_split=0.5).history
        assert {"accuracy", "f1_score", "val_mae"} <= set(found), loss
        assert set(model.evaluate(x, one_hot, verbose=0, return_dict=True)) >= {"loss", "mae"}


class TestOptimizerOptions:
    def test_accumulated_gradients_are_one_step(self) -> None:
        """The method's own counter too counts steps, not batches."""
        x, y = examples(32)
        method = methods.EC2T(frozen_from=0.9, total_steps=100)
        options = {"gradient_accumulation_steps": 4}
        model = nets.compiled(small(method), keras.optimizers.Adam(1e-3, **options), **EAGER)
        start = latents(model)
        for batch in range(3):
            model.train_on_batch(x[8 * batch :][:8], y[8 * batch :][:8])
        for old, new in zip(start, latents(model), strict=True):
            np.testing.assert_array_equal(old, new)
        model.train_on_batch(x[24:], y[24:])
        assert all(np.any(a != b) for a, b in zip(start, latents(model), strict=True))
        for _ in range(4):
            model.train_on_batch(x[:8], y[:8])
        model.train_on_batch(x[:8], y[:8])  # a pass counts the steps before it
        assert {int(layer.state["steps"]) for layer in ternary_layers(model)} == {2}

    def test_averages_of_the_weights(self) -> None:
        optimizer = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5)
        model = nets.compiled(small(), optimizer, **EAGER)
        x, y = examples()
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        fitted(x, y, model=model, callbacks=[swap], validation_data=(x, y))
        last = fitted(x, y, model=nets.compiled(small(), keras.optimizers.Adam(1e-2), **EAGER))
        assert any(np.any(a != b) for a, b in zip(latents(last), latents(model), strict=True))
        for layer in ternary_layers(model):
            assert len(np.unique(numpy(layer.quantised_kernel()))) <= 3

    def test_clipping_and_decay(self) -> None:
        """Weight decay reaches latent weights, never centroids."""
        for options in ({"clipnorm": 1e-3}, {"global_clipnorm": 1e-3}, {"clipvalue": 1e-3}):
            fitted(model=nets.compiled(small(), keras.optimizers.SGD(0.1, **options), **EAGER))
        still = keras.optimizers.SGD(1e-9, weight_decay=1e6)
        model = nets.compiled(small(), still, **EAGER)
        start, x = latents(model), examples(8)
        model(x[0], training=True)  # which lifts small centroids to their floor
        centroids = [numpy(layer.state["centroids"]) for layer in ternary_layers(model)]
        model.train_on_batch(*x)
        for old, new in zip(start, latents(model), strict=True):
            assert np.abs(new).max() < 0.9999 * np.abs(old).max()
        for old, layer in zip(centroids, ternary_layers(model), strict=True):
            np.testing.assert_allclose(old, numpy(layer.state["centroids"]), rtol=1e-6)


class TestCompileOptions:
    # XLA and Inductor compile for a while.
    @pytest.mark.parametrize(
        "jit", [pytest.param(True, marks=[] if BACKEND == "jax" else pytest.mark.slow)]
    )
    def test_jit_compile(self, jit: bool) -> None:
        model = nets.compiled(small(), jit_compile=jit)
        assert_equal_models(fitted(), fitted(model=model), 2e-3)

    def test_steps_per_execution(self) -> None:
        if BACKEND == "torch":
            with pytest.raises(ValueError, match="steps_per_execution"):
                fitted(model=nets.compiled(small(), steps_per_execution=2))
            return
        model = fitted(model=nets.compiled(small(), steps_per_execution=2))
        assert int(model.optimizer.iterations) == 4
        assert_equal_models(fitted(), model, 2e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy: str, tmp_path: Path) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = nets.compiled(small(), **EAGER)
    finally:
        keras.config.set_dtype_policy(before)
    fitted(model=model)
    assert model.get_layer("middle").layer.compute_dtype == policy.removeprefix("mixed_")
    for variable in model.variables:
        assert "float16" not in variable.dtype, variable.path  # bfloat16 neither
        assert np.all(np.isfinite(numpy(variable))), variable.path
    x, _ = examples(8)
    expected = model.predict(x, verbose=0)
    assert np.ptp(expected) > 0
    model.save(tmp_path / "net.keras")
    with warnings.catch_warnings():  # Keras loses the state of its own loss scaling
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    steps = np.abs(ec2t_tf.exact(loaded).predict(x, verbose=0) - expected) / np.ptp(expected) * 255
    assert np.median(steps) <= 4


TWO_DEVICES = """
import sys
import jax, keras, numpy as np
from tests.native import nets
from tests.native.test_habits import assert_equal_models, examples, fitted, small
assert len(jax.devices()) == 2
# A bias before a normalisation has only rounding for a gradient, of which Adam makes whole steps.
one = fitted(model=nets.compiled(small(), keras.optimizers.SGD(0.05)))
kind = sys.argv[1]
if kind == "data":
    keras.distribution.set_distribution(keras.distribution.DataParallel())
else:
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden.*kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )
two = fitted(model=nets.compiled(small(), keras.optimizers.SGD(0.05)))
shards = [v.value.sharding for v in two.variables if v.path.endswith("kernel")]
assert any(len(s.device_set) == 2 for s in shards), shards
assert_equal_models(one, two, 1e-4)
two.save(sys.argv[2])
x, _ = examples(8)
expected = two.predict(x, verbose=0)
found = keras.saving.load_model(sys.argv[2]).predict(x, verbose=0)
np.testing.assert_allclose(found, expected, atol=1e-5)
"""


@pytest.mark.parametrize("kind", ["data", pytest.param("model", marks=pytest.mark.slow)])
@pytest.mark.skipif(bool(os.environ.get("EC2T_ON_BACKEND")), reason="chooses JAX by itself")
def test_two_devices(kind: str, tmp_path: Path) -> None:
    """keras.distribution, which Keras has on JAX: the same training as on one device."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, kind, str(tmp_path / "net.keras")],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


class TestLoops:
    """A loop of one's own gives the weights that `train_on_batch` gives."""

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def by_hand(self, model: keras.Model, optimizer: Any, x: Any, y: Any) -> None:
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                value = self.loss(y, model(x, training=True)) + sum(model.losses)
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
        elif BACKEND == "torch":
            model.zero_grad()
            value = self.loss(y, model(x, training=True)) + sum(model.losses)
            value.backward()
            with __import__("torch").no_grad():
                variables = model.trainable_variables
                optimizer.apply([v.value.grad for v in variables], variables)
        else:
            self.stateless(model, optimizer, x, y)

    def stateless(self, model: keras.Model, optimizer: Any, x: Any, y: Any) -> None:
        import jax

        def value(trained: Any, others: Any) -> Any:
            outputs, others, losses = model.stateless_call(
                trained, others, x, training=True, return_losses=True
            )
            return self.loss(y, outputs) + sum(losses), others

        optimizer.build(model.trainable_variables)
        trained = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        step = jax.jit(jax.value_and_grad(value, has_aux=True))
        (_, others), gradients = step(trained, others)
        own = [v.value for v in optimizer.variables]
        trained, own = optimizer.stateless_apply(own, gradients, trained)
        values = [*trained, *others, *own]
        targets = [*model.trainable_variables, *model.non_trainable_variables]
        for variable, new in zip([*targets, *optimizer.variables], values, strict=True):
            variable.assign(new)

    @pytest.mark.parametrize("method", ["ec2t", "sparsity_regularized", "twn"])
    def test_same_weights(self, method: str) -> None:
        x, y = examples(16)
        one = nets.compiled(small(method), keras.optimizers.SGD(0.1), **EAGER)
        two, optimizer = small(method), keras.optimizers.SGD(0.1)
        for _ in range(3):
            one.train_on_batch(x, y)
            self.by_hand(two, optimizer, x, y)
        assert_equal_models(one, two, 1e-5)


class TestCallbacks:
    def test_interrupted_and_resumed(self, tmp_path: Path) -> None:
        """BackupAndRestore goes on after the last whole epoch, with all state of the methods."""
        x, y = examples()

        def run(*callbacks: Any) -> keras.Model:
            method = methods.EC2T(target_sparsity=0.6, frozen_from=0.5, total_steps=12)
            model = nets.compiled(small(method), keras.optimizers.SGD(0.05), **EAGER)
            fitted(x, y, model=model, epochs=3, callbacks=list(callbacks))
            return model

        class Killed(Exception):
            pass

        def kill(epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise Killed

        whole = run()
        restore = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        with pytest.raises(Killed):
            run(restore, keras.callbacks.LambdaCallback(on_epoch_begin=kill))
        restored = run(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
        assert int(restored.optimizer.iterations) == 12
        assert_equal_models(whole, restored)

    def test_those_that_change_the_training(self, tmp_path: Path) -> None:
        x, y = examples()
        of = keras.callbacks
        model = nets.compiled(small(), keras.optimizers.SGD(0.4), metrics=["accuracy"], **EAGER)
        history = fitted(
            x,
            y,
            model=model,
            epochs=4,
            validation_data=(x, y),
            callbacks=[
                of.LearningRateScheduler(lambda epoch, rate: 0.2 if epoch == 1 else rate),
                of.ReduceLROnPlateau(monitor="val_loss", min_delta=1e9, patience=1, factor=0.5),
                of.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
                of.CSVLogger(tmp_path / "log.csv"),
                of.TerminateOnNaN(),
            ],
        ).history.history
        assert history["learning_rate"][:3] == pytest.approx([0.4, 0.2, 0.1])
        assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
        other = small(seed=3)
        other.load_weights(tmp_path / "4.weights.h5")
        assert_equal_models(model, other)
        stopping = of.EarlyStopping(
            monitor="loss", min_delta=1e9, patience=1, restore_best_weights=True
        )
        assert len(fitted(model=model, epochs=5, callbacks=[stopping]).history.epoch) == 2

    @pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("tensorflow", "tensorboard"))),
        reason="TensorFlow and tensorboard write the events on every backend",
    )
    def test_tensorboard(self, tmp_path: Path) -> None:
        x, y = examples()
        board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_graph=False)
        fitted(x, y, validation_data=(x, y), callbacks=[board])
        assert {f.parent.name for f in tmp_path.rglob("events.out.*")} == {"train", "validation"}

    def test_terminated(self) -> None:
        x, y = examples()
        model = nets.compiled(small(), **EAGER)
        x[8] = np.nan
        fitted(x, y, model=model, epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
        assert model.stop_training
        with pytest.raises(ValueError, match="NaN or infinity in"):
            ternary_layers(model)[0].assign()


class TestSaved:
    def test_every_way(self, tmp_path: Path) -> None:
        model, (x, _) = fitted(), examples(8)
        expected = model.predict(x, verbose=0)

        def check(other: keras.Model) -> None:
            assert isinstance(other, TernaryModel)
            np.testing.assert_allclose(other.predict(x, verbose=0), expected, atol=1e-6)

        keras.saving.save_model(model, tmp_path / "net.keras")
        check(keras.models.load_model(tmp_path / "net.keras"))
        model.save_weights(tmp_path / "net.weights.h5")
        other = keras.models.model_from_json(model.to_json())
        other.load_weights(tmp_path / "net.weights.h5")
        check(other)
        other = TernaryModel.from_config(model.get_config())
        other.set_weights(model.get_weights())
        check(other)
        plain = ec2t_tf.strip(model)
        plain.save(tmp_path / "plain.keras")
        again = keras.models.load_model(tmp_path / "plain.keras")
        assert not isinstance(again, TernaryModel)
        np.testing.assert_array_equal(again.predict(x, verbose=0), plain.predict(x, verbose=0))

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="what Keras exports from TensorFlow")
    def test_as_a_saved_model(self, tmp_path: Path) -> None:
        import tensorflow as tf

        model, (x, _) = fitted(), examples(8)
        model.export(tmp_path / "net", verbose=False)
        loaded = tf.saved_model.load(str(tmp_path / "net"))
        served = loaded.serve(x)
        np.testing.assert_allclose(served, model.predict(x, verbose=0), atol=1e-5)
