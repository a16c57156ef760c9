"""The tests of this folder on the other backends of Keras, each in a process of its own.

They run on TensorFlow as they stand; `KERAS_BACKEND=jax pytest tests/native` does it by hand.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
