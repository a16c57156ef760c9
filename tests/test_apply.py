"""`apply`, `strip`, `summary`, `load_model` on small networks."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config
from tf_keras import layers

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.policy import Treatment
from ec2t_tf.tfmot.native import native
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models


@pytest.fixture(scope="module")
def ternary() -> tf_keras.Model:
    """A trained ternary model; tests must not change it."""
    return models.trained(ec2t_tf.apply(models.convolutional()), epochs=3)


@pytest.fixture
def one_order_of_sums() -> Iterator[None]:
    """Threads add in one order, so that two trainings can be compared bit for bit."""
    tf.config.experimental.enable_op_determinism()
    yield
    config.disable_op_determinism()


class TestApply:
    def test_copies_weights_and_leaves_the_original_alone(self) -> None:
        original = models.convolutional()
        before = original.get_weights()
        config = original.get_config()
        quantised = models.trained(ec2t_tf.apply(original))
        assert original.get_config() == config
        for old, new in zip(before, original.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        fresh = ec2t_tf.apply(original)
        # The channels of "middle", in front of a normalisation, were equalised.
        (_, hidden) = ternary_layers(fresh)
        np.testing.assert_array_equal(hidden.latent, original.get_layer("hidden").kernel)
        (_, trained_hidden) = ternary_layers(quantised)
        assert np.any(trained_hidden.latent.numpy() != hidden.latent.numpy())

    def test_default_policy(self, capsys: pytest.CaptureFixture[str]) -> None:
        quantised = ec2t_tf.apply(models.convolutional())
        report = quantised.ec2t_report
        assert report.of("ternary") == ["middle", "hidden"]
        assert report.of("int8") == ["first", "norm", "last"]
        assert not report.refused
        printed = capsys.readouterr().out
        assert printed.count("ec2t_tf.apply: 2 ternary, 2 int8") == 1
        assert "first layer with weights" in printed
        assert "middle  Conv2D  ternary  default; with norm" in printed
        ec2t_tf.apply(models.convolutional(), verbose=0)
        assert capsys.readouterr().out == ""

    def test_depthwise_stays_int8(self) -> None:
        model = tf_keras.Sequential(
            [
                layers.InputLayer(models.IMAGE),
                layers.Conv2D(4, 3, name="first"),
                layers.DepthwiseConv2D(3, name="depthwise"),
                layers.Conv2D(4, 1, name="pointwise"),
                layers.Flatten(),
                layers.Dense(2, name="last"),
            ]
        )
        report = ec2t_tf.apply(model).ec2t_report
        assert report.of(Treatment.TERNARY) == ["pointwise"]
        assert "depthwise" in report.of(Treatment.INT8)

    @pytest.mark.parametrize("strict", [False, True])
    def test_layer_without_a_rule_is_refused_by_name(self, strict: bool) -> None:
        model = tf_keras.Sequential(
            [
                layers.InputLayer((6, 3)),
                layers.SimpleRNN(4, activation="gelu", name="loop"),
                layers.Dense(6, name="first"),
                layers.Dense(5, name="hidden"),
                layers.Dense(2, name="last"),
            ]
        )
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'loop'.*SimpleRNN.*gelu"):
            ec2t_tf.apply(model, strict=strict)

    def test_regularisers_of_latent_weights_are_dropped(self) -> None:
        model = tf_keras.Sequential(
            [
                layers.InputLayer((4,)),
                layers.Dense(4, name="first", kernel_regularizer="l2"),
                layers.Dense(4, name="hidden", kernel_regularizer="l2"),
                layers.Dense(2, name="last"),
            ]
        )
        assert len(ec2t_tf.apply(model).losses) == 1

    def test_three_values_a_layer_and_every_step_reassigns(self) -> None:
        quantised = ec2t_tf.apply(models.convolutional())
        before = [layer.assign() for layer in ternary_layers(quantised)]
        models.compiled(quantised, tf_keras.optimizers.Adam(0.05))
        images, labels = models.examples()
        quantised.train_on_batch(images, labels)
        after = [layer.assign() for layer in ternary_layers(quantised)]
        for old, new in zip(before, after, strict=True):
            assert set(np.unique(new.codes)) <= {-1, 0, 1}
            assert np.any(old.codes != new.codes)

    def test_predictions_change_no_variable(self, ternary: tf_keras.Model) -> None:
        before = ternary.get_weights()
        ternary.predict(models.examples()[0], verbose=0)
        for old, new in zip(before, ternary.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_what_files_are_written_from_computes_the_same(self, ternary: tf_keras.Model) -> None:
        images, _ = models.examples()
        expected = ternary(images, training=False).numpy()
        np.testing.assert_allclose(native(ternary)(images), expected, atol=1e-5)


class TestOptimisers:
    """Centroids get their own learning rate and no decay under any stock optimiser."""

    RATE = 0.1

    def moved(self, optimizer: tf_keras.optimizers.Optimizer, rate: float) -> np.ndarray:
        method = methods.EC2T(centroid_scale=0.6, centroid_learning_rate=rate)
        quantised = ec2t_tf.apply(models.convolutional(), method)
        (layer, _) = ternary_layers(quantised)
        before = layer.method.centroids(layer.latent, layer.state).numpy()
        images, labels = models.examples()
        models.compiled(quantised, optimizer, run_eagerly=True).train_on_batch(images, labels)
        # Without the floor, which the latent weights may move.
        state = layer.state
        after = state["centroids"] + rate * state["centroid_step"]
        return np.abs(after.numpy() - before)

    @pytest.mark.few(2)
    @pytest.mark.parametrize("name", ["Adam", "AdamW", "Nadam", "RMSprop", "Adamax", "Lion"])
    def test_scale_free_optimisers_move_centroids_by_rate(self, name: str) -> None:
        make = getattr(tf_keras.optimizers, name)
        step = self.moved(make(1e-2), self.RATE)
        full = self.moved(make(1e-2), 1.0)
        assert np.all(step > 0)
        np.testing.assert_allclose(step, self.RATE * full, rtol=0.05)

    @pytest.mark.few(2)
    @pytest.mark.parametrize("name", ["SGD", "Adagrad", "Ftrl", "Adadelta"])
    def test_other_optimisers_move_them_less(self, name: str) -> None:
        make = getattr(tf_keras.optimizers, name)
        assert np.all(self.moved(make(1e-2), self.RATE) < self.moved(make(1e-2), 1.0))

    def test_weight_decay_does_not_reach_the_centroids(self) -> None:
        with_decay = self.moved(tf_keras.optimizers.AdamW(1e-2, weight_decay=0.9), self.RATE)
        without = self.moved(tf_keras.optimizers.AdamW(1e-2, weight_decay=0.0), self.RATE)
        np.testing.assert_allclose(with_decay, without, rtol=1e-5)


class TestBadInput:
    def test_not_a_model(self) -> None:
        with pytest.raises(TypeError, match=r"Received: builtins\.int"):
            ec2t_tf.apply(3)

    def test_subclassed_model(self) -> None:
        class Subclassed(tf_keras.Model):
            def call(self, x: tf.Tensor) -> tf.Tensor:
                return x

        with pytest.raises(TypeError, match="subclassed model Subclassed"):
            ec2t_tf.apply(Subclassed())

    def test_unbuilt_model(self) -> None:
        with pytest.raises(ValueError, match="requires a built model"):
            ec2t_tf.apply(tf_keras.Sequential([layers.Dense(3)], name="unbuilt"))

    def test_no_weights(self) -> None:
        model = tf_keras.Sequential([layers.InputLayer((3,)), layers.ReLU()])
        with pytest.raises(ValueError, match="no layer has any"):
            ec2t_tf.apply(model)

    def test_nothing_can_be_ternary(self) -> None:
        model = tf_keras.Sequential([layers.InputLayer((3,)), layers.Dense(3), layers.Dense(2)])
        with pytest.raises(ValueError, match="at least one layer that can be ternary"):
            ec2t_tf.apply(model)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, value: float) -> None:
        model = models.sequential()
        kernel = model.get_layer("hidden").kernel.numpy()
        kernel[0, 0] = value
        model.get_layer("hidden").kernel.assign(kernel)
        with pytest.raises(ValueError, match="'hidden'"):
            ec2t_tf.apply(model)

    def test_unknown_method(self) -> None:
        with pytest.raises(ValueError, match="Received: method='ect2'"):
            ec2t_tf.apply(models.sequential(), "ect2")

    def test_applied_twice(self) -> None:
        with pytest.raises(ValueError, match="treated already"):
            ec2t_tf.apply(ec2t_tf.apply(models.sequential()))

    @pytest.mark.parametrize("value", [0.5, -0.5, 0.0])
    def test_odd_layers_train(self, value: float) -> None:
        """A constant layer, and so a layer of one sign, trains and stays finite."""
        model = models.sequential()
        kernel = model.get_layer("hidden").kernel
        kernel.assign(tf.fill(kernel.shape, value))
        quantised = models.trained(ec2t_tf.apply(model))
        assert all(np.all(np.isfinite(weight)) for weight in quantised.get_weights())


class TestStrip:
    @pytest.mark.parametrize("build", [models.convolutional, models.sequential])
    def test_plain_layers_hold_three_values(self, build) -> None:
        quantised = models.trained(ec2t_tf.apply(build()), epochs=6)
        plain = ec2t_tf.strip(quantised)
        assert [layer.name for layer in plain.layers] == [layer.name for layer in build().layers]
        assert plain.count_params() == build().count_params()
        for layer in ternary_layers(quantised):
            kernel = plain.get_layer(layer.name).kernel.numpy()
            np.testing.assert_array_equal(kernel, layer.assign().dequantise())
            assert len(np.unique(kernel)) <= 3
        assert plain.get_layer("first").activation.__name__ == "relu"
        # Only the rounding of activations and of the int8 layers is missing.
        images, _ = models.examples()
        outputs = quantised.predict(images, verbose=0)
        difference = np.abs(plain.predict(images, verbose=0) - outputs).max()
        assert difference < 0.25 * np.ptp(outputs)

    def test_float_model_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no ternary or int8 layer"):
            ec2t_tf.strip(models.sequential())


class TestSummary:
    def test_rows_agree_with_the_weights(self, ternary: tf_keras.Model) -> None:
        table = ec2t_tf.summary(ternary)
        assert [row.layer for row in table.rows] == ["first", "middle", "hidden", "last"]
        plain = ec2t_tf.strip(ternary)
        for row in table.ternary:
            kernel = plain.get_layer(row.layer).kernel.numpy()
            assert row.zeros == np.mean(kernel == 0)
            assert (-row.w_n, row.w_p) == (kernel.min(), kernel.max())
            assert row.shape == kernel.shape
        middle = table.rows[1]
        assert middle.macs == 8 * 8 * 3 * 3 * 4 * 4
        assert middle.size == 3 * 3 * 4 * 4
        assert table.rows[3].size == 6 * 4 + 4 * 4
        total = sum(np.count_nonzero(plain.get_layer(r.layer).kernel == 0) for r in table.ternary)
        assert table.zeros == pytest.approx(total / sum(r.weights for r in table.ternary))

    def test_table_is_printed(self, ternary: tf_keras.Model) -> None:
        text = str(ec2t_tf.summary(ternary))
        assert text.splitlines()[0].split()[:3] == ["layer", "treatment", "shape"]
        assert "middle" in text
        assert "total" in text

    def test_files(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        table = ec2t_tf.summary(ternary)
        for suffix in ("json", "csv", "html", "txt"):
            table.save(tmp_path / f"summary.{suffix}")
        assert json.loads((tmp_path / "summary.json").read_text()) == table.as_dict()
        rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
        assert [row["layer"] for row in rows] == [row.layer for row in table.rows]
        assert float(rows[1]["zeros"]) == table.rows[1].zeros
        assert rows[0]["zeros"] == ""
        page = (tmp_path / "summary.html").read_text()
        assert f"<td>{table.rows[1].layer}</td>" in page
        assert (tmp_path / "summary.txt").read_text() == f"{table}\n"
        with pytest.raises(ValueError, match=r"ends in \.json"):
            table.save(tmp_path / "summary.xls")

    def test_float_model_has_no_ternary_rows(self) -> None:
        table = ec2t_tf.summary(models.sequential())
        assert {row.treatment for row in table.rows} == {Treatment.FLOAT}
        assert table.zeros == 0

    def test_not_a_model(self) -> None:
        with pytest.raises(TypeError, match="Received: int"):
            ec2t_tf.summary(3)


class TestSaving:
    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    def test_round_trips_in_a_fresh_process(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        """Whole models by our function and by Keras' own, weights into a model made anew."""
        for name in ("model.keras", "model.h5", "saved_model"):
            ternary.save(tmp_path / name)
        for name in ("checkpoint", "weights.weights.h5"):
            ternary.save_weights(tmp_path / name)
        images, _ = models.examples()
        np.save(tmp_path / "images.npy", images)
        program = (
            "import sys, pathlib, numpy, tf_keras, ec2t_tf\n"
            "from tests import models\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "images = numpy.load(folder / 'images.npy')\n"
            "found = {}\n"
            "for name in ('model.keras', 'model.h5', 'saved_model'):\n"
            "    for load in (ec2t_tf.load_model, tf_keras.models.load_model):\n"
            "        key = f'{load.__module__} {name}'\n"
            "        found[key] = load(folder / name).predict(images, verbose=0)\n"
            "for name in ('checkpoint', 'weights.weights.h5'):\n"
            "    model = ec2t_tf.apply(models.convolutional(seed=5))\n"
            "    model.load_weights(folder / name)\n"
            "    found[name] = model.predict(images, verbose=0)\n"
            "numpy.savez(folder / 'outputs.npz', **found)\n"
        )
        root = str(Path(__file__).parents[1])
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            check=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        expected = ternary.predict(images, verbose=0)
        with np.load(tmp_path / "outputs.npz") as outputs:
            assert len(outputs.files) == 8
            for name in outputs.files:
                np.testing.assert_array_equal(outputs[name], expected, err_msg=name)

    def test_clone(self, ternary: tf_keras.Model) -> None:
        clone = tf_keras.models.clone_model(ternary)
        clone.set_weights(ternary.get_weights())
        images, _ = models.examples()
        np.testing.assert_array_equal(
            clone.predict(images, verbose=0), ternary.predict(images, verbose=0)
        )
        assert [layer.name for layer in ternary_layers(clone)] == ["middle", "hidden"]

    @pytest.mark.usefixtures("one_order_of_sums")
    def test_backup_and_restore(self, tmp_path: Path) -> None:
        """Killed after the first of two epochs and started again: as if nothing had happened."""

        class Killed(Exception):
            pass

        def kill(epoch: int, logs: object) -> None:
            if epoch == 1:
                raise Killed

        images, labels = models.examples()
        second_epoch = []

        def fit(*callbacks: tf_keras.callbacks.Callback) -> tf_keras.Model:
            model = models.compiled(ec2t_tf.apply(models.convolutional()))

            def remember(epoch: int, logs: object) -> None:
                if epoch == 1:
                    variables = model.variables + model.optimizer.variables
                    second_epoch.append([variable.numpy() for variable in variables])

            callbacks = tf_keras.callbacks.LambdaCallback(on_epoch_begin=remember), *callbacks
            with contextlib.suppress(Killed):
                model.fit(
                    *(images, labels, 32, 2),
                    verbose=0,
                    shuffle=False,
                    callbacks=list(callbacks),
                )
            return model

        reference = fit()
        fit(
            tf_keras.callbacks.BackupAndRestore(str(tmp_path)),
            tf_keras.callbacks.LambdaCallback(on_epoch_begin=kill),
        )
        restored = fit(tf_keras.callbacks.BackupAndRestore(str(tmp_path)))
        uninterrupted, killed, again = second_epoch
        np.testing.assert_equal(killed, uninterrupted)
        np.testing.assert_equal(again, killed)
        np.testing.assert_equal(restored.get_weights(), reference.get_weights())
        np.testing.assert_array_equal(restored(images), reference(images))

    @pytest.mark.usefixtures("one_order_of_sums")
    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    def test_training_goes_on_the_same(self, tmp_path: Path) -> None:
        first = models.trained(ec2t_tf.apply(models.convolutional()))
        first.save(tmp_path / "model.keras")
        second = ec2t_tf.load_model(tmp_path / "model.keras")
        images, labels = models.examples(seed=1)
        for model in (first, second):
            model.fit(images, labels, batch_size=32, shuffle=False, verbose=0)
        np.testing.assert_equal(second.get_weights(), first.get_weights())

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="does not exist"):
            ec2t_tf.load_model(tmp_path / "nothing.keras")

    def test_file_of_another_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "text.h5"
        path.write_text("no model")
        with pytest.raises(ValueError, match="Keras cannot read"):
            ec2t_tf.load_model(path)
