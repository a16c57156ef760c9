"""Accuracy against sparsity: a grid of runs, one row each in a CSV, and the Pareto plots.

    python -m ec2t_tf.train.sweep --output_dir=runs/sweep --targets=0.6,0.8,0.9 --seeds=1,2,3 -- \\
        --dataset=mnist --model=lenet5 --epochs=10

Flags after `--` go to every `python -m ec2t_tf.train`. Each run has a folder of its own and each
finished run a row in results.csv: started again after a kill, the sweep goes on with the epoch at
which it was killed, and repeats nothing. The float net of a seed is trained once.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # for the runs; see train/__main__.py

from absl import app, flags

from ec2t_tf import files
from ec2t_tf.run_table import RunTable
from ec2t_tf.train import command_line

FLAGS = flags.FLAGS
KEY = ("method", "target_sparsity", "centroid_scale", "entropy_gain", "seed")
RESULT = ("float_accuracy", "ternary_accuracy", "zeros", "entropy_bytes", "tflite_bytes")
ABSENT = "-"


@dataclasses.dataclass(frozen=True)
class Run:
    """A cell of the grid. `ABSENT` where a knob is left to the script's default."""

    method: str
    target_sparsity: str
    centroid_scale: str
    entropy_gain: str
    seed: int

    @property
    def folder(self) -> str:
        knobs = {
            "zeros": self.target_sparsity,
            "s": self.centroid_scale,
            "gamma": self.entropy_gain,
            "seed": str(self.seed),
        }
        parts = [f"{name}{value}" for name, value in knobs.items() if value != ABSENT]
        return "_".join([self.method, *parts])

    def flags(self) -> list[str]:
        knobs = {
            "target_sparsity": self.target_sparsity,
            "centroid_scale": self.centroid_scale,
            "entropy_gain": self.entropy_gain,
        }
        given = [f"--{name}={value}" for name, value in knobs.items() if value != ABSENT]
        return [f"--method={self.method}", f"--seed={self.seed}", *given]


def grid(
    *,
    methods: Iterable[str],
    targets: Iterable[str],
    centroid_scales: Iterable[str],
    entropy_gains: Iterable[str],
    seeds: Iterable[int],
) -> Iterator[Run]:
    """Every target, and every (centroid_scale, entropy_gain), for each method and seed."""
    knobs = [(target, ABSENT, ABSENT) for target in targets]
    knobs += [(ABSENT, s, gamma) for s, gamma in itertools.product(centroid_scales, entropy_gains)]
    if not knobs:
        knobs = [(ABSENT, ABSENT, ABSENT)]
    for method, seed, (target, s, gamma) in itertools.product(methods, seeds, knobs):
        yield Run(method, target, s, gamma, seed)


def sweep(runs: Iterable[Run], folder: Path, passed_on: list[str]) -> RunTable:
    """Do the runs that have no row yet.

    Raises:
      RuntimeError: a run failed; what it printed is on the screen. The rows before it are kept.
    """
    table = RunTable(folder / "results.csv", key=KEY, columns=RESULT)
    for run in runs:
        key = dataclasses.asdict(run)
        if table.find(**key):
            print(f"{run.folder}: done before", flush=True)
            continue
        command = [sys.executable, "-m", "ec2t_tf.train", *passed_on, *run.flags()]
        command += [f"--output_dir={folder / run.folder}"]
        command += ["--resume"] * (folder / run.folder / "settings.json").exists()
        command += _float_net(folder, run)
        print(f"{run.folder}: {' '.join(command)}", flush=True)
        if subprocess.run(command).returncode:
            raise RuntimeError(
                f"The run '{run.folder}' failed; its message stands above. Rows of finished runs "
                f"are in {table.path}. Start the sweep again once the reason is gone."
            )
        metrics = files.read_json(folder / run.folder / "metrics.json")
        table.add(**key, **{name: metrics.get(name, ABSENT) for name in RESULT})
    return table


def _float_net(folder: Path, run: Run) -> list[str]:
    """Flags that reuse the float net of this seed's first run; kept, so that a resume agrees."""
    own = folder / run.folder / "settings.json"
    note = folder / f"float_net_seed{run.seed}.json"
    if not note.exists():
        files.write_text(note, json.dumps({"run": run.folder}))
    first = files.read_json(note)["run"]
    if first == run.folder or (own.exists() and files.read_json(own)["float_epochs"]):
        return []
    return ["--float_epochs=0", f"--float_weights={folder / first / 'float.weights.h5'}"]


def pareto(points: Iterable[tuple[float, float]], *, larger: bool) -> list[tuple[float, float]]:
    """Points (x, accuracy) that no other beats in both; `larger` if a larger x is better."""
    best: list[tuple[float, float]] = []
    for x, accuracy in sorted(
        points, key=lambda point: (-point[0] if larger else point[0], -point[1])
    ):
        if not best or accuracy > best[-1][1]:
            best.append((x, accuracy))
    return best


def plot(rows: Iterable[Mapping[str, str]], folder: Path) -> list[Path]:
    """accuracy_zeros.png, accuracy_bytes.png: a point for each run, the Pareto front as a line."""
    from matplotlib.figure import Figure

    rows = list(rows)
    written = []
    for column, label, scale, larger in (
        ("zeros", "zeros in ternary layers, %", 100.0, True),
        ("entropy_bytes", "ternary weights, entropy bound, kB", 1e-3, False),
    ):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        kinds = sorted({(row["method"], row["target_sparsity"] == ABSENT) for row in rows})
        for method, by_knobs in kinds:
            chosen = [
                (scale * float(row[column]), 100 * float(row["ternary_accuracy"]))
                for row in rows
                if (row["method"], row["target_sparsity"] == ABSENT) == (method, by_knobs)
            ]
            name = f"{method}, own knobs" if by_knobs else f"{method}, target sparsity"
            (drawn,) = axes.plot(*zip(*chosen, strict=True), "o", label=name, markersize=4)
            front = pareto(chosen, larger=larger)
            axes.plot(*zip(*front, strict=True), "-", color=drawn.get_color(), linewidth=1)
        floats = [100 * float(row["float_accuracy"]) for row in rows]
        axes.axhline(sum(floats) / len(floats), linestyle="--", linewidth=1, label="float net")
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        axes.legend(fontsize=8)
        written.append(folder / f"accuracy_{'zeros' if larger else 'bytes'}.png")
        with files.replacing(written[-1]) as fresh:
            figure.savefig(fresh, dpi=120)
    return written


def text(rows: Iterable[Mapping[str, str]]) -> str:
    """The rows as a table, in the order they were run."""
    rows = list(rows)
    wide = max([len("method"), *(len(row["method"]) for row in rows)])
    lines = [
        f"{'method':{wide}}  target      s  gamma  seed  float %  ternary %  zeros %"
        "  at entropy  .tflite"
    ]
    for row in rows:
        lines.append(
            f"{row['method']:{wide}}{row['target_sparsity']:>8}{row['centroid_scale']:>7}"
            f"{row['entropy_gain']:>7}{row['seed']:>6}{100 * float(row['float_accuracy']):9.2f}"
            f"{100 * float(row['ternary_accuracy']):11.2f}{100 * float(row['zeros']):9.2f}"
            f"{round(float(row['entropy_bytes'])):12,}{row['tflite_bytes']:>9}"
        )
    return "\n".join(lines)


def _define_flags() -> None:
    flags.DEFINE_string("output_dir", "runs/sweep", "folder of the table, the plots and the runs")
    flags.DEFINE_list("targets", [], "target sparsities, e.g. 0.6,0.8,0.9")
    flags.DEFINE_list("methods", ["ec2t"], "ternary methods")
    flags.DEFINE_list("seeds", ["1"], "seeds")
    flags.DEFINE_list("centroid_scales", [], "EC2T's s; with --entropy_gains a grid of its own")
    flags.DEFINE_list("entropy_gains", [], "EC2T's gamma")


def _numbers(name: str, kind: type) -> list:
    try:
        return [kind(value) for value in FLAGS[name].value]
    except ValueError as error:
        raise app.UsageError(
            f"--{name} must be numbers separated by commas. Received: {FLAGS[name].value}."
        ) from error


def main(argv: list[str]) -> None:
    if bool(FLAGS.centroid_scales) != bool(FLAGS.entropy_gains):
        raise app.UsageError(
            "--centroid_scales and --entropy_gains span a grid together. Received only one of them."
        )
    _numbers("targets", float), _numbers("centroid_scales", float), _numbers("entropy_gains", float)
    runs = grid(
        methods=FLAGS.methods,
        targets=FLAGS.targets,
        centroid_scales=FLAGS.centroid_scales,
        entropy_gains=FLAGS.entropy_gains,
        seeds=_numbers("seeds", int),
    )
    folder = Path(FLAGS.output_dir)
    try:
        table = sweep(runs, folder, argv[1:])
    except (RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(text(table))
    for path in plot(table, folder):
        print(path)


def command(argv: Sequence[str]) -> int:
    """Runs the sweep; `argv` has the program's name first. Returns the exit code."""
    own = ["output_dir", "targets", "methods", "seeds", "centroid_scales", "entropy_gains"]
    _define_flags()
    about = (
        "Trains every cell of a grid; a table of accuracy against sparsity and Pareto plots. What "
        "stands after -- goes to every 'ec2t train'. Started again, it repeats nothing."
    )
    return command_line.run(main, argv, about=about, sections={"grid": own})


if __name__ == "__main__":
    sys.exit(command(["python -m ec2t_tf.train.sweep", *sys.argv[1:]]))
