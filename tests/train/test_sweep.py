"""The sweep: its grid, resuming after a kill, the Pareto front; the runs are stood in."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from ec2t_tf.train import sweep


def small_grid(**changes):
    return list(
        sweep.grid(
            **{
                "methods": ["ec2t"],
                "targets": ["0.6", "0.9"],
                "centroid_scales": ["0.3"],
                "entropy_gains": ["0.0", "0.1"],
                "seeds": [1, 2],
                **changes,
            }
        )
    )


def test_grid():
    runs = small_grid()
    assert len(runs) == 2 * (2 + 2)
    assert runs[0].folder == "ec2t_zeros0.6_seed1"
    assert runs[0].flags() == ["--method=ec2t", "--seed=1", "--target_sparsity=0.6"]
    assert runs[3].folder == "ec2t_s0.3_gamma0.1_seed1"
    assert len({run.folder for run in runs}) == len(runs)
    (default,) = small_grid(targets=[], centroid_scales=[], entropy_gains=[], seeds=[1])
    assert default.flags() == ["--method=ec2t", "--seed=1"]


class Script:
    """Stands for `python -m ec2t_tf.train`. Dies after `lives` runs."""

    def __init__(self, lives: int = 100):
        self.lives = lives
        self.commands: list[list[str]] = []

    def __call__(self, command):
        if not self.lives:
            return SimpleNamespace(returncode=1)
        self.lives -= 1
        self.commands.append(command)
        flags = dict(flag.split("=", 1) for flag in command if "=" in flag)
        folder = sweep.Path(flags["--output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        zeros = float(flags.get("--target_sparsity", 0.5))
        (folder / "settings.json").write_text(
            json.dumps({"float_epochs": int(flags["--float_epochs"])})
        )
        metrics = {
            "float_accuracy": 0.9,
            "ternary_accuracy": 0.9 - zeros / 10,
            "zeros": zeros,
            "entropy_bytes": 1000 * (1 - zeros),
            "tflite_bytes": 5000,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return SimpleNamespace(returncode=0)


PASSED_ON = ["--float_epochs=3"]


def test_a_killed_sweep_repeats_nothing(tmp_path, monkeypatch):
    runs = small_grid()
    first = Script(lives=3)
    monkeypatch.setattr(subprocess, "run", first)
    with pytest.raises(RuntimeError, match=r"ec2t_s0\.3_gamma0\.1_seed1.*failed"):
        sweep.sweep(runs, tmp_path, PASSED_ON)
    second = Script()
    monkeypatch.setattr(subprocess, "run", second)
    table = sweep.sweep(runs, tmp_path, PASSED_ON)
    assert (len(first.commands), len(second.commands)) == (3, 5)
    assert len(table) == 8
    assert not any("--resume" in command for command in first.commands + second.commands)
    # One float net a seed: trained by its first run, loaded by the others.
    trains = [
        command
        for command in first.commands + second.commands
        if not any(flag.startswith("--float_weights") for flag in command)
    ]
    assert len(trains) == 2
    assert str(tmp_path / "ec2t_zeros0.6_seed1" / "float.weights.h5") in first.commands[1][-1]
    images = sweep.plot(table, tmp_path)
    assert [path.name for path in images] == ["accuracy_zeros.png", "accuracy_bytes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in images)
    assert "0.9" in sweep.text(table)


def test_a_run_that_was_killed_is_resumed(tmp_path, monkeypatch):
    (run, *_) = small_grid()
    (tmp_path / run.folder).mkdir()
    (tmp_path / run.folder / "settings.json").write_text('{"float_epochs": 3}')
    script = Script()
    monkeypatch.setattr(subprocess, "run", script)
    sweep.sweep([run], tmp_path, PASSED_ON)
    assert "--resume" in script.commands[0]


def test_pareto():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 4.5), (0.5, 4.0)]
    assert sweep.pareto(points, larger=True) == [(3.0, 4.5), (1.0, 5.0)]
    assert sweep.pareto(points, larger=False) == [(0.5, 4.0), (1.0, 5.0)]
