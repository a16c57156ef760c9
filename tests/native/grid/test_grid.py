"""Backends x nets: one epoch with Keras' own objects, saved, loaded by each other backend.

Each backend is a process of its own. Whole: `pytest -m "slow or not slow" tests/native/grid`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.native.grid.nets import NETS

ROOT = Path(__file__).parents[3]
BACKENDS = ("tensorflow", "jax", "torch")

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("EC2T_ON_BACKEND")), reason="its processes choose their backends"
)


def run(backend: str, action: str, folder: Path, names: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.grid.program", action, str(folder), *names],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{backend} {action}: {done.stderr[-4000:]}"


def recorded(folder: Path, backend: str, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{backend}.{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def check(folder: Path, name: str, trained_on: str, loaded_on: list[str]) -> None:
    """What the callbacks left, and that all backends find the same model in the file."""
    left = json.loads((folder / f"{name}.json").read_text())
    assert left["steps"] == 3
    assert np.isfinite(left["loss"]).all()
    assert {"best.keras", "latest.weights.h5"} <= set(left["files"])
    if importlib.util.find_spec("tensorboard"):
        assert any("tfevents" in file for file in left["files"])
    ours = recorded(folder, trained_on, name)
    for backend in loaded_on:
        theirs = recorded(folder, backend, name)
        assert theirs.keys() == ours.keys()
        for key, one in ours.items():
            if key.endswith("seed_generator_state"):
                continue  # of dropout: Keras does not save it
            if key.startswith(("variable", "codes")):
                np.testing.assert_array_equal(one, theirs[key], f"{name} {backend} {key}")
                continue
            # In float32, sums in another order: now and then another code, which others follow.
            # The net in exact integers has multipliers that were computed so.
            step = np.ptp(one) / 255
            apart = np.abs(one - theirs[key])
            print(f"{name}: {trained_on} to {backend}, {key}: {apart.max() / step:.1f} steps")
            assert apart.max() <= 16 * step, (name, backend, key)
            assert np.median(apart) <= step, (name, backend, key)


def installed(backend: str) -> bool:
    return importlib.util.find_spec(backend) is not None


def all_of(trained_on: str, names: list[str], others: list[str], folder: Path) -> None:
    for backend in (trained_on, *others):
        if not installed(backend):
            pytest.skip(f"{backend} is not installed")
    run(trained_on, "train", folder, names)
    for backend in others:
        run(backend, "predict", folder, names)
    for name in names:
        check(folder, name, trained_on, others)


@pytest.mark.parametrize(("trained_on", "loaded_on"), [("jax", "tensorflow"), ("torch", "jax")])
def test_one_net(trained_on: str, loaded_on: str, tmp_path: Path) -> None:
    all_of(trained_on, ["cnn_1d"], [loaded_on], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("trained_on", BACKENDS)
def test_all_nets(trained_on: str, tmp_path: Path) -> None:
    all_of(trained_on, list(NETS), [b for b in BACKENDS if b != trained_on], tmp_path)


@pytest.mark.slow
def test_the_same_training_on_each_backend(tmp_path: Path) -> None:
    """From one float net: equal codes to begin with, zeros a layer within 0.02 at the end."""
    for backend in BACKENDS:
        if not installed(backend):
            pytest.skip(f"{backend} is not installed")
    name = "cnn_1d"
    run("tensorflow", "float", tmp_path, [name])
    found = []
    for backend in BACKENDS:
        run(backend, "ternary", tmp_path, [name])
        with np.load(tmp_path / f"{backend}.{name}.codes.npz") as archive:
            found.append({key: archive[key] for key in archive.files})
    ours, *others = found
    for theirs in others:
        assert theirs.keys() == ours.keys()
        for key, codes in ours.items():
            if key.startswith("before"):
                np.testing.assert_array_equal(codes, theirs[key], key)
            else:
                zeros = [np.mean(x == 0) for x in (codes, theirs[key])]
                print(f"{key}: zeros {zeros[0]:.4f} {zeros[1]:.4f}")
                assert abs(zeros[0] - zeros[1]) <= 0.02, key
