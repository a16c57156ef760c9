"""A grid of runs, one row each in a CSV; mean and spread over seeds, and the Pareto plots.

    python -m ec2t_tf.train.sweep --output_dir=runs/sweep --targets=0.6,0.8,0.9 --seeds=1,2,3 \\
        --grid=width=0.5,1 --grid=distill=0,0.5 -- --dataset=mnist --model=resnet8 --epochs=10

Flags after `--` go to every `python -m ec2t_tf.train`. Each run has a folder of its own and each
finished run a row in results.csv: started again after a kill, the sweep goes on with the epoch at
which it was killed, and repeats nothing. The float net of a seed is trained once.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import app, flags

from ec2t_tf import files, progress
from ec2t_tf.run_table import RunTable
from ec2t_tf.train import command_line, sweep_page
from ec2t_tf.train.method_flags import METHOD_FLAGS, OF_A_METHOD, flags_of

FLAGS = flags.FLAGS
# Flags of the script with a list of their own here.
OWN_LISTS = {
    "method": "--methods",
    "target_sparsity": "--targets",
    "centroid_scale": "--centroid_scales",
    "entropy_gain": "--entropy_gains",
    "seed": "--seeds",
}
KEY = tuple(OWN_LISTS)
RESULT = ("float_accuracy", "ternary_accuracy", "zeros", "entropy_bytes", "tflite_bytes")
ABSENT = "-"
# Flags that do not change the float net; all others do.
OF_THE_TERNARY_PHASE = OF_A_METHOD | {
    *("epochs", "learning_rate", "distill", "distill_temperature", "policy"),
    *("distill_end", "cycles", "ema", "recalibrate"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A cell of the grid. `ABSENT` where a knob is left to the script's default."""

    method: str
    target_sparsity: str
    centroid_scale: str
    entropy_gain: str
    seed: int
    knobs: tuple[tuple[str, str], ...] = ()  # other flags of the script

    @property
    def key(self) -> dict[str, object]:
        """Its columns in the table."""
        return {**{name: getattr(self, name) for name in KEY}, **dict(self.knobs)}

    @property
    def float_net(self) -> str:
        """Names the float net that it begins with: runs of the same name share it."""
        others = [f"{n}{v}" for n, v in self.knobs if n not in OF_THE_TERNARY_PHASE]
        return "_".join([f"seed{self.seed}", *(part.replace("/", "-") for part in others)])

    @property
    def folder(self) -> str:
        knobs = {
            "zeros": self.target_sparsity,
            "s": self.centroid_scale,
            "gamma": self.entropy_gain,
            **dict(self.knobs),
            "seed": str(self.seed),
        }
        parts = [f"{name}{value}" for name, value in knobs.items() if value != ABSENT]
        return "_".join([self.method, *parts]).replace("/", "-")

    def flags(self) -> list[str]:
        knobs = {
            "target_sparsity": self.target_sparsity,
            "centroid_scale": self.centroid_scale,
            "entropy_gain": self.entropy_gain,
            **dict(self.knobs),
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
    others: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Run]:
    """Every target, and every (centroid_scale, entropy_gain), for each method, seed, and cell of
    `others` (flag of the script -> values).

    A knob that belongs to other methods is left out of a method's runs: TTQ has no target."""
    knobs = [(target, ABSENT, ABSENT) for target in targets]
    knobs += [(ABSENT, s, gamma) for s, gamma in itertools.product(centroid_scales, entropy_gains)]
    if not knobs:
        knobs = [(ABSENT, ABSENT, ABSENT)]
    others = others or {}
    cells = [tuple(zip(others, cell, strict=True)) for cell in itertools.product(*others.values())]
    every = (
        _run(method, knob, seed, cell)
        for method, seed, cell, knob in itertools.product(methods, seeds, cells, knobs)
    )
    yield from dict.fromkeys(every)  # what differed in such a knob alone is one run


def _run(method: str, knobs: Sequence[str], seed: int, cell: Sequence[tuple[str, str]]) -> Run:
    foreign = OF_A_METHOD - flags_of(method)
    target, scale, gain = (
        ABSENT if name in foreign else value for name, value in zip(KEY[1:4], knobs, strict=True)
    )
    left = tuple((name, ABSENT if name in foreign else value) for name, value in cell)
    return Run(method, target, scale, gain, seed, left)


def sweep(runs: Iterable[Run], folder: Path, passed_on: list[str]) -> RunTable:
    """Do the runs that have no row yet.

    Raises:
      RuntimeError: a run failed; what it printed is on the screen. The rows before it are kept.
      ValueError: the folder has rows of runs with other flags.
    """
    runs = list(runs)
    names = list(dict.fromkeys([*KEY, *(name for run in runs for name, _ in run.knobs)]))
    table = RunTable(folder / "results.csv", key=names, columns=RESULT)
    _keep_flags(folder / "flags.json", passed_on, rows=len(table))
    for run in progress.bar(runs, "runs"):
        key = run.key
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


def _keep_flags(note: Path, passed_on: list[str], *, rows: int) -> None:
    """Rows of one table are runs with the same flags, those that tell no run apart left out."""
    told = sorted(x for x in passed_on if not x.startswith(("--verbose", "--tfds_dir")))
    before = files.read_json(note) if note.exists() and rows else told
    if before != told:
        raise ValueError(
            f"The sweep in '{note.parent}' has {rows} finished runs with {before} behind --. "
            f"Received: {told}. Name another --output_dir for these."
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(note, json.dumps(told))


def _float_net(folder: Path, run: Run) -> list[str]:
    """Flags that reuse the float net of the first such run; kept, so that a resume agrees."""
    own = folder / run.folder / "settings.json"
    note = folder / f"float_net_{run.float_net}.json"
    if not note.exists():
        files.write_text(note, json.dumps({"run": run.folder}))
    first = files.read_json(note)["run"]
    if first == run.folder or (own.exists() and files.read_json(own)["float_epochs"]):
        return []
    return ["--float_epochs=0", f"--float_weights={folder / first / 'float.weights.h5'}"]


def _define_flags() -> None:
    flags.DEFINE_string("output_dir", "runs/sweep", "folder of the table, the plots and the runs")
    flags.DEFINE_list("targets", [], "EC2T: target sparsities, e.g. 0.6,0.8,0.9")
    flags.DEFINE_list(
        "methods", ["ec2t"], "ternary methods; a knob of another method is left out of its runs"
    )
    flags.DEFINE_list("seeds", ["1"], "seeds")
    flags.DEFINE_list("centroid_scales", [], "EC2T's s; with --entropy_gains a grid of its own")
    flags.DEFINE_list("entropy_gains", [], "EC2T's gamma")
    flags.DEFINE_multi_string(
        "grid", [], "NAME=V1,V2: a flag of 'ec2t train' and its values; may be given several times"
    )


def _numbers(name: str, kind: type) -> list:
    try:
        return [kind(value) for value in FLAGS[name].value]
    except ValueError as error:
        raise app.UsageError(
            f"--{name} must be numbers separated by commas. Received: {FLAGS[name].value}."
        ) from error


def _others() -> dict[str, list[str]]:
    """The flags of --grid and their values."""
    found: dict[str, list[str]] = {}
    for text in FLAGS.grid:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("--")
        if not (name and equals and all(values.split(","))) or name in (*KEY, "output_dir"):
            raise app.UsageError(
                "--grid must be NAME=V1,V2 with a flag of 'ec2t train' that has no list of its own "
                f"here. Received: --grid={text}."
            )
        found[name] = values.split(",")
    return found


def _check_passed_on(passed_on: Sequence[str], method: str) -> None:
    """A flag of another method would stop the run, perhaps after hours of others."""
    given = {text.lstrip("-").partition("=")[0] for text in passed_on}
    for name in sorted(given & (OF_A_METHOD - flags_of(method))):
        raise app.UsageError(
            f"What stands behind -- goes to every run, and --{name} does not belong to {method}. "
            f"Received: --methods={','.join(FLAGS.methods)}. Use "
            f"{OWN_LISTS.get(name, f'--grid={name}')}=VALUE: it goes to the methods that take it."
        )


def main(argv: list[str]) -> None:
    if bool(FLAGS.centroid_scales) != bool(FLAGS.entropy_gains):
        raise app.UsageError(
            "--centroid_scales and --entropy_gains span a grid together. Received only one of them."
        )
    unknown = [name for name in FLAGS.methods if name not in METHOD_FLAGS]
    if unknown or not FLAGS.methods:
        raise app.UsageError(
            f"--methods must be among {', '.join(sorted(METHOD_FLAGS))}. "
            f"Received: {','.join(FLAGS.methods)}."
        )
    for method in FLAGS.methods:
        _check_passed_on(argv[1:], method)
    _numbers("targets", float), _numbers("centroid_scales", float), _numbers("entropy_gains", float)
    runs = list(
        grid(
            methods=FLAGS.methods,
            targets=FLAGS.targets,
            centroid_scales=FLAGS.centroid_scales,
            entropy_gains=FLAGS.entropy_gains,
            seeds=_numbers("seeds", int),
            others=_others(),
        )
    )
    folder = Path(FLAGS.output_dir)
    try:
        table = sweep(runs, folder, argv[1:])
    except (RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    kept = [path for run in runs if (path := folder / run.folder / "metrics.json").exists()]
    figure = files.read_json(kept[0]).get("figure", "top-1") if kept else "top-1"
    print()
    for part in sweep_page.tables(table, table.key, figure=figure):
        print(f"{part.caption}\n{part.text()}\n")
    for path in sweep_page.write(table, table.key, folder, figure=figure):
        print(path)


def command(argv: Sequence[str]) -> int:
    """Runs the sweep; `argv` has the program's name first. Returns the exit code."""
    own = ["output_dir", "targets", "methods", "seeds", "centroid_scales", "entropy_gains", "grid"]
    _define_flags()
    about = (
        "Trains every cell of a grid; tables of mean and spread over seeds, and Pareto plots. What "
        "stands after -- goes to every 'ec2t train'. Started again, it repeats nothing."
    )
    return command_line.run(main, argv, about=about, sections={"grid": own})


if __name__ == "__main__":
    sys.exit(command(["python -m ec2t_tf.train.sweep", *sys.argv[1:]]))
