"""The sweep: its grid, resuming after a kill, the Pareto front; the runs are stood in."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from ec2t_tf.train import sweep, sweep_page


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
    written = sweep_page.write(table, table.key, tmp_path)
    assert [path.name for path in written] == [
        *("accuracy_zeros.png", "accuracy_bytes.png", "mean_and_spread.csv", "sweep.html"),
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[:2])
    assert "0.9" in sweep_page.tables(table, table.key)[0].text()
    assert "AUC against zeros" not in written[-1].read_text()
    *_, page = sweep_page.write(table, table.key, tmp_path, figure="AUC")
    assert "AUC against zeros" in page.read_text()
    assert "top-1" not in page.read_text()


def test_a_run_that_was_killed_is_resumed(tmp_path, monkeypatch):
    (run, *_) = small_grid()
    (tmp_path / run.folder).mkdir()
    (tmp_path / run.folder / "settings.json").write_text('{"float_epochs": 3}')
    script = Script()
    monkeypatch.setattr(subprocess, "run", script)
    sweep.sweep([run], tmp_path, PASSED_ON)
    assert "--resume" in script.commands[0]


def test_rows_of_other_flags_are_not_taken_for_these(tmp_path, monkeypatch):
    runs = small_grid()
    monkeypatch.setattr(subprocess, "run", Script(lives=0))
    with pytest.raises(RuntimeError, match="failed"):
        sweep.sweep(runs, tmp_path, ["--float_epochs=2"])
    script = Script(lives=2)  # no run was finished: other flags may be tried
    monkeypatch.setattr(subprocess, "run", script)
    with pytest.raises(RuntimeError, match="failed"):
        sweep.sweep(runs, tmp_path, PASSED_ON)
    with pytest.raises(ValueError, match=r"2 finished runs with .*epochs=3.*another --output_dir"):
        sweep.sweep(runs, tmp_path, ["--float_epochs=9"])
    assert len(script.commands) == 2
    script.lives = 100
    assert len(sweep.sweep(runs, tmp_path, [*PASSED_ON, "--verbose=2"])) == 8


def test_pareto():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 4.5), (0.5, 4.0)]
    assert sweep_page.pareto(points, larger=True) == [(3.0, 4.5), (1.0, 5.0)]
    assert sweep_page.pareto(points, larger=False) == [(0.5, 4.0), (1.0, 5.0)]


def test_names_of_near_points_stand_together():
    points = {"a": (0.0, 0.0), "b": (100.0, 1.0), "c": (99.0, 1.001), "d": (99.0, 0.5)}
    assert sweep_page.together(points) == {
        (0.0, 0.0): ["a"],
        (100.0, 1.0): ["b", "c"],
        (99.0, 0.5): ["d"],
    }
    assert sweep_page.together({"a": (1.0, 1.0)}) == {(1.0, 1.0): ["a"]}


def test_any_knob_is_a_column():
    """Only knobs of the ternary phase share a float net."""
    others = {"width": ["0.5", "1"], "distill": ["0", "0.5"]}
    runs = small_grid(targets=["0.8"], centroid_scales=[], entropy_gains=[], others=others)
    assert len(runs) == 2 * 2 * 2
    assert runs[0].folder == "ec2t_zeros0.8_width0.5_distill0_seed1"
    assert runs[1].flags()[-2:] == ["--width=0.5", "--distill=0.5"]
    assert [run.float_net for run in runs[:4]] == [
        *("seed1_width0.5", "seed1_width0.5", "seed1_width1", "seed1_width1"),
    ]


def test_a_knob_goes_to_the_methods_that_take_it():
    runs = small_grid(
        methods=["ec2t", "ttq", "twn"],
        targets=["0.6", "0.8"],
        centroid_scales=[],
        entropy_gains=[],
        others={"ttq_threshold": ["0.05", "0.1"]},
    )
    assert [run.folder for run in runs if run.seed == 1] == [
        *("ec2t_zeros0.6_seed1", "ec2t_zeros0.8_seed1"),
        *("ttq_ttq_threshold0.05_seed1", "ttq_ttq_threshold0.1_seed1", "twn_seed1"),
    ]
    assert {run.float_net for run in runs} == {"seed1", "seed2"}
    knobs = [flag for run in runs for flag in run.flags() if "target" in flag or "ttq_" in flag]
    assert len(knobs) == 2 * 2 + 2 * 2


def test_mean_and_spread_over_seeds():
    key = ("method", "target_sparsity", "seed")
    shared = {"float_accuracy": "0.95", "entropy_bytes": "1000", "tflite_bytes": "5000"}
    rows = [
        {"method": "ec2t", "target_sparsity": target, "seed": str(seed), "zeros": target, **shared}
        | {"ternary_accuracy": str(accuracy)}
        for target, accuracies in (("0.6", (0.9, 0.92, 0.94)), ("0.8", (0.8, 0.9)))
        for seed, accuracy in enumerate(accuracies)
    ]
    means, runs = sweep_page.tables(rows, key)
    assert len(runs.rows) == 5
    assert [row[:2] for row in means.rows] == [["0.6", 3], ["0.8", 2]]
    assert [row[3:5] for row in means.rows] == [
        [pytest.approx(0.92), pytest.approx(0.02)],
        [pytest.approx(0.85), pytest.approx(0.1 / 2**0.5)],
    ]
    (only,) = sweep_page.tables(rows[:1], key)
    assert only.rows[0][:2] == ["ec2t", "0"]
