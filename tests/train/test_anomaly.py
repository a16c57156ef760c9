"""Anomaly detection: a class that training never sees; the AUC against counting pairs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ec2t_tf
from ec2t_tf.train import tasks, zoo
from ec2t_tf.train.tasks import anomaly
from ec2t_tf.train.tasks.base import Split, TaskData


@pytest.fixture(scope="module")
def digits() -> TaskData:
    return tasks.load("digits")


def test_training_never_sees_the_class(digits: TaskData) -> None:
    data = anomaly.without(digits, "3")
    seen = {bytes(image) for image in data.train.inputs} | set(map(bytes, data.validation.inputs))
    threes = {bytes(i) for i in digits.train.inputs[digits.train.labels == 3]}
    threes |= {bytes(i) for i in digits.validation.inputs[digits.validation.labels == 3]}
    assert threes
    assert not seen & threes
    assert len(seen) + len(threes) == len(digits.train) + len(digits.validation)
    np.testing.assert_array_equal(data.test.labels == 1, digits.test.labels == 3)
    pixels = data.normalise(data.train.inputs)  # by statistics of its own
    assert abs(pixels.mean()) < 1e-3
    assert abs(pixels.std() - 1) < 1e-3


def test_a_class_by_its_name_and_variants_along() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(30, 4)).astype(np.float32)
    split = Split(inputs, np.arange(30) % 3)
    one = np.ones(1, np.float32)
    data = TaskData(
        "made", split, split, split, 3, 0 * one, one, variants=(2 * inputs,), labels=("a", "b", "c")
    )
    found = tasks.anomaly.without(data, "b")
    np.testing.assert_array_equal(found.variants[0], 2 * found.train.inputs)
    assert found.test.labels.sum() == 10
    with pytest.raises(tasks.DataError, match="must be a class of 'made', a, b, c"):
        anomaly.without(data, "d")
    lonely = TaskData("made", split[:1], split, split, 3, 0 * one, one)
    with pytest.raises(tasks.DataError, match="0 and 20 others"):
        anomaly.without(lonely, "0")


def test_it_learns_what_it_is_given(digits: TaskData) -> None:
    data = anomaly.without(digits, "0")
    batches = data.training(batch_size=50, seed=1, first_epoch=0, last_epoch=1)
    (inputs, expected), *_ = batches
    np.testing.assert_array_equal(inputs.reshape(50, -1), expected)
    inputs, expected = data.evaluation(data.test)[1]
    np.testing.assert_array_equal(inputs.reshape(len(inputs), -1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs(digits: TaskData, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = anomaly.without(digits, "1")
    part = data.test[:60]

    def share(error: np.ndarray) -> float:
        unusual, usual = (error[part.labels == label] for label in (1, 0))
        pairs = unusual[:, None] - usual[None, :]
        return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())

    error = random.permutation(60) + 1.0
    sign = random.choice([-1.0, 1.0], (60, 64))
    outputs = data.normalise(part.inputs).reshape(60, -1) + sign * error[:, None]
    assert data.figure(outputs.astype(np.float32), part) == pytest.approx(share(error))
    ties = random.integers(1, 5, 60).astype(np.float32)
    black = Split(np.zeros_like(part.inputs), part.labels)
    plain = dataclasses.replace(data, mean=0 * data.mean, std=1 + 0 * data.std)
    assert plain.figure(np.repeat(ties[:, None], 64, 1), black) == pytest.approx(share(ties))


def test_an_autoencoder_needs_it() -> None:
    with pytest.raises(ValueError, match="Pass --leave_out=CLASS"):
        zoo.build("autoencoder", input_shape=(8, 8, 1), classes=10)
    net = zoo.build("autoencoder", input_shape=(640,), classes=640)
    weights = sum(int(np.prod(w.shape)) for w in net.weights if w.name == "kernel")
    # MLPerf Tiny's: 640-128-128-128-128-8-128-128-128-128-640
    assert weights == 2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8
    assert {one.momentum for one in net.layers if hasattr(one, "momentum")} == {0.9}
    report = ec2t_tf.apply(net, verbose=0).ec2t_report
    assert report.of("ternary") == [f"dense{number}" for number in range(1, 9)]
    assert not report.of("float")


def test_a_run(tmp_path: Path, here: Callable[..., subprocess.CompletedProcess]) -> None:
    """Float net, ternary net and file tell the class that they have never seen from the others."""
    program = ["--dataset=digits", "--model=autoencoder"]
    flags = ["--leave_out=0", "--width=0.5", "--batch_size=64", "--float_epochs=12", "--epochs=8"]
    flags += ["--float_weight_decay=0", "--float_learning_rate=0.05", "--target_sparsity=0.7"]
    done = here(*program, *flags, f"--output_dir={tmp_path / 'run'}", "--verbose=0")
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["figure"] == "AUC"
    for net in ("float", "int8", "ternary", "tflite"):
        assert metrics[f"{net}_accuracy"] > 0.85, net
    assert metrics["ternary_accuracy"] == pytest.approx(metrics["tflite_accuracy"], abs=1e-6)
    assert metrics["zeros"] == pytest.approx(0.7, abs=0.03)
    assert "AUC on the test examples" in (tmp_path / "run" / "report.txt").read_text()
    assert "AUC of the file" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "predictions.npz").exists()
    other = f"--output_dir={tmp_path / 'other'}"
    refused = here(*program, "--leave_out=0", "--distill=0.5", other)
    assert refused.returncode == 2
    assert "--distill and --mixup need classes" in refused.stderr
