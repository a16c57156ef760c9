"""Is a sparse ternary net better than a smaller int8 net? docs/when.json, and of it docs/when.md.

    python -m tests.bench.when --write

Int8 nets of several widths, ternary nets of two widths with several shares of zeros, and an int8
net pruned by magnitude, all with the same care: the same epochs of float training and of training
with rounding, the same teacher. Gestures from a smartwatch, another two people tested in each of
three trainings. Accuracy is that of the .tflite file; bytes and instructions are measured on one of
the three. Stopped and started again, the bench repeats nothing that it has written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import in_process, mcu
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
CORES = ("m4", "m0", "m55")
RECIPE = [
    *("--dataset=watch", "--model=sensor_cnn", "--float_epochs=15", "--epochs=15"),
    *("--batch_size=64", "--float_learning_rate=0.05", "--float_weight_decay=5e-4"),
    "--distill=0.5",
]
PEOPLE = {"1+2": 1, "5+6": 2, "9+10": 3}  # tested -> seed
MIDDLE = "conv[12]"  # the layers that are ternary by default
RULES: dict[str, list[dict[str, str]]] = {
    "int8": [{"treatment": "int8"}],
    "ternary": [],
    "int8, pruned": [{"treatment": "prune", "name": MIDDLE}],
}


@dataclasses.dataclass(frozen=True)
class Point:
    kind: str
    width: float
    zeros: float = 0.0  # asked for in the middle layers

    def __str__(self) -> str:
        share = f", {self.zeros:.0%} zeros" if self.zeros else ""
        return f"{self.kind}, width {self.width:g}{share}"

    def flags(self, policy: Path) -> list[str]:
        policy.write_text(json.dumps({"rules": RULES[self.kind]}))
        words = [f"--width={self.width:g}", f"--policy={policy}"]
        return words + ([f"--target_sparsity={self.zeros}"] if self.zeros else [])


POINTS = [
    Point("int8", 1.0),
    Point("ternary", 1.0, 0.8),
    Point("int8", 0.5),
    Point("ternary", 1.0, 0.9),
    Point("int8", 0.75),
    Point("ternary", 1.5, 0.9),
    Point("int8", 1.5),
    Point("ternary", 1.5, 0.8),
    Point("int8, pruned", 1.0, 0.8),
    Point("ternary", 1.0, 0.5),
    Point("ternary", 1.0, 0.93),
]


def measure(runs: in_process.Runs, point: Point, people: str, *, costs: bool) -> dict[str, Any]:
    """What a training came to: which windows its file classifies rightly, and what it costs."""
    from ec2t_tf import export
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.verification import run as run_file

    words = [*RECIPE, f"--apart={people}", f"--seed={PEOPLE[people]}"]
    trained = runs.train([*words, *point.flags(runs.folder / "policy.json")])
    path = runs.folder / "net.tflite"
    export.to_tflite(trained.net, path)
    test = trained.data.test
    outputs, _ = run_file(path, np.asarray(trained.data.normalise(test.inputs)))
    right = outputs.argmax(axis=1) == test.labels
    found: dict[str, Any] = {
        "windows": len(right),
        "right": np.packbits(right).tobytes().hex(),
        "accuracy": float(right.mean()),
    }
    if costs:
        int8 = path.read_bytes()
        found["int8"] = len(int8)
        found["packed"] = len(rewrite(int8, format="packed").content)
        for core in CORES:
            with tempfile.TemporaryDirectory() as folder:
                found[core] = mcu.whole(mcu.int8_borders(int8), core, Path(folder))
    return found


def right_of(rows: Mapping[str, Any], name: str, folds: Sequence[str]) -> np.ndarray:
    """Whether each window of the folds is classified rightly, one after another."""
    parts = []
    for fold in folds:
        row = rows[name][fold]
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))
        parts.append(bits[: row["windows"]])
    return np.concatenate(parts).astype(float)


def folds_of(rows: Mapping[str, Any], *names: str) -> list[str]:
    return [fold for fold in PEOPLE if all(fold in rows.get(name, {}) for name in names)]


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: accuracy, the paired difference from int8 at width 1, bytes, instructions."""
    base = str(POINTS[0])
    lines = [
        "| net | trainings | accuracy, % | difference from int8, width 1 | packed or int8 file "
        "| flash, M4 | RAM, M4 | instructions, M4 | M0 | M55 |",
        "|---|" + "---:|" * 9,
    ]
    for point in sorted(POINTS, key=lambda one: (one.kind, one.width, one.zeros)):
        name = str(point)
        folds = folds_of(rows, name, base)
        if not folds:
            continue
        right, other = right_of(rows, name, folds), right_of(rows, base, folds)
        gain = right - other
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        difference = "" if name == base else f"{100 * gain.mean():+.2f} ± {100 * half:.2f}"
        cost = next(row for row in rows[name].values() if "m4" in row)
        cells = [f"{min(cost['packed'], cost['int8']):,}", f"{cost['m4']['flash']:,}"]
        cells += [f"{cost['m4']['ram']:,}"]
        cells += [f"{cost[core]['instructions']:,}" for core in CORES]
        start = f"| {name} | {len(folds)} | {100 * right.mean():.2f} | {difference} | "
        lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Mapping[str, Any], path: Path) -> None:
    """Accuracy against bytes and against instructions on M4."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "when"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    labels = ("file (packed or int8), bytes", "flash on M4, bytes", "instructions on M4")
    kinds = {"int8": "s", "ternary": "o", "int8, pruned": "^"}
    for kind, marker in kinds.items():
        found = []
        for point in POINTS:
            name = str(point)
            folds = folds_of(rows, name)
            if point.kind != kind or not folds:
                continue
            cost = next(row for row in rows[name].values() if "m4" in row)
            values = (min(cost["packed"], cost["int8"]), cost["m4"]["flash"])
            text = f"{point.width:g}" + (f", {point.zeros:.0%}" if point.zeros else "")
            accuracy = 100 * right_of(rows, name, folds).mean()
            found.append((*values, cost["m4"]["instructions"], accuracy, text))
        for axis, (ax, label) in enumerate(zip(axes, labels, strict=True)):
            ax.scatter([f[axis] for f in found], [f[3] for f in found], marker=marker, label=kind)
            for one in found:
                ax.annotate(
                    one[4],
                    (one[axis], one[3]),
                    fontsize=7,
                    xytext=(3, 3),
                    textcoords="offset points",
                )
            ax.set_xlabel(label)
            ax.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy on people apart, %")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    return between(page, "measured", table(rows))


def load() -> dict[str, Any]:
    return json.loads((DOCS / "when.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=DOCS / "when.json")
    parser.add_argument("--first", type=int, default=len(POINTS), help="so many of the points")
    parser.add_argument("--people", default=",".join(PEOPLE), help="groups that are tested")
    parser.add_argument("--write", action="store_true", help="table and plot into docs/")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.figures.read_text()) if given.figures.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        runs = in_process.Runs(Path(folder))
        for people in given.people.split(","):
            for point in POINTS[: given.first]:
                row = rows.setdefault(str(point), {})
                if people in row:
                    continue
                costs = not any("m4" in one for one in row.values())
                row[people] = measure(runs, point, people, costs=costs)
                print(f"{people}: {point}: {row[people]['accuracy']:.4f}", flush=True)
                given.figures.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if given.write:
        page = DOCS / "when.md"
        page.write_text(filled(page.read_text(), rows))
        plot(rows, DOCS / "when.svg")


if __name__ == "__main__":
    main()
