"""The tests of this folder on the other backends of Keras, each in a process of its own.

They run on TensorFlow as they stand; `KERAS_BACKEND=jax pytest tests/native` does it by hand.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from tests.native import nets

ROOT = Path(__file__).parents[2]
# What is fast everywhere: the assignment, all gradients, one small net.
QUICK = "golden or Gradients or ranges_follow or averages_follow or schedule_of_the_network"


@pytest.mark.skipif(bool(os.environ.get("EC2T_ON_BACKEND")), reason="is that process")
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("what", [QUICK, pytest.param("", marks=pytest.mark.slow)])
def test_on(backend: str, what: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "EC2T_ON_BACKEND": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-k", what, "tests/native"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


PREDICT = """
import sys
import ec2t_tf, keras
import numpy as np
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    given = dict(np.load(path + ".npz"))
    inputs = given if len(given) > 1 else given["image" if "image" in given else "signal"]
    outputs = keras.tree.flatten(model(inputs, training=False))
    np.savez(path + ".out.npz", *[keras.ops.convert_to_numpy(x) for x in outputs])
"""
NETS = {"convolutional": nets.convolutional, "nested": nets.nested, "sequence": nets.sequence}


@pytest.mark.skipif(bool(os.environ.get("EC2T_ON_BACKEND")), reason="is that process")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_saved_model_predicts_the_same_elsewhere(backend: str, tmp_path: Path) -> None:
    """Trained and saved here, loaded in a fresh process of another backend."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    expected = {}
    for name, build in NETS.items():
        model = nets.compiled(ec2t_tf.apply(build(), verbose=0))
        inputs, labels = nets.examples(model)
        model.fit(inputs, labels, batch_size=32, verbose=0)
        path = str(tmp_path / f"{name}.keras")
        model.save(path)
        given = inputs if isinstance(inputs, dict) else {model.inputs[0].name: inputs}
        np.savez(f"{path}.npz", **given)
        outputs = keras.tree.flatten(model(inputs, training=False))
        expected[path] = [np.asarray(keras.ops.convert_to_numpy(x)) for x in outputs]
    subprocess.run(
        [sys.executable, "-c", PREDICT, *expected],
        check=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    for path, ours in expected.items():
        with np.load(f"{path}.out.npz") as archive:
            theirs = [archive[name] for name in archive.files]
        for one, other in zip(ours, theirs, strict=True):
            step = np.ptp(one) / 255
            # Sums in another order, and ties of a rounding: now and then a step.
            assert np.abs(one - other).max() <= 16 * step, path
            assert np.mean(np.abs(one - other) > step / 2) <= 0.05, path
