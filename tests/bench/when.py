"""Is a sparse ternary net better than a smaller int8 net? docs/when.json, and of it docs/when.md.

    python -m tests.bench.when --tasks=watch --write
    python -m tests.bench.when --tasks=fashion,speech --tfds_dir=../shared/tfds --write

Int8 nets of several widths, ternary nets of two widths with several shares of zeros, and an int8
net pruned by magnitude, all with the same care: the same epochs of float training and of training
with rounding, the same teacher. A training of each is a fold: other people tested, or another seed.
Accuracy is that of the .tflite file; bytes and instructions are measured on one of the folds.
Stopped and started again, the bench repeats nothing that it has written.
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

from ec2t_tf.train import paired
from tests.bench import in_process, mcu
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
CORES = ("m4", "m0", "m55")
SMALL_IMAGES = "fashion_mnist.npz"  # what --dataset=arrays makes of the name: its augmentation


@dataclasses.dataclass(frozen=True)
class Point:
    kind: str
    width: float
    zeros: float = 0.0  # asked for in the middle layers

    def __str__(self) -> str:
        share = f", {self.zeros:.0%} zeros" if self.zeros else ""
        return f"{self.kind}, width {self.width:g}{share}"

    def flags(self, policy: Path, middle: str) -> list[str]:
        rules: dict[str, list[dict[str, str]]] = {
            "int8": [{"treatment": "int8"}],
            "ternary": [],
            "int8, pruned": [{"treatment": "prune", "name": middle}],
        }
        policy.write_text(json.dumps({"rules": rules[self.kind]}))
        words = [f"--width={self.width:g}", f"--policy={policy}"]
        return words + ([f"--target_sparsity={self.zeros}"] if self.zeros else [])


POINTS = [  # the most wanted first: a bench that is cut short has those
    Point("int8", 1.0),
    Point("ternary", 1.0, 0.8),
    Point("int8", 0.5),
    Point("ternary", 1.0, 0.9),
    Point("int8", 0.75),
    Point("ternary", 1.0, 0.5),
    Point("int8, pruned", 1.0, 0.8),
    Point("ternary", 1.5, 0.9),
    Point("int8", 1.5),
    Point("ternary", 1.5, 0.8),
    Point("ternary", 1.0, 0.93),
]
BASE = str(POINTS[0])
# Column of cost -> its unit in the plot, and the word for that.
PLOTTED = {
    "packed or int8 file": (1000, "1,000 bytes"),
    "flash, M4": (1000, "1,000 bytes"),
    "instructions, M4": (1_000_000, "millions"),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
      words: flags of `ec2t train`, of every training.
      folds: name -> flags of a training.
      middle: the layers that are ternary by default, as a regular expression.
      same_examples: whether all folds are tested on the same examples (seeds), or on others.
    """

    title: str
    words: Sequence[str]
    folds: Mapping[str, Sequence[str]]
    middle: str
    same_examples: bool = False


CARE = ("--distill=0.5", "--float_weight_decay=5e-4", "--float_learning_rate=0.05")
TASKS = {
    "watch": Task(
        "gestures of people never seen",
        (
            *("--dataset=watch", "--model=sensor_cnn", "--float_epochs=15", "--epochs=15"),
            *("--batch_size=64", *CARE),
        ),
        {
            # The order of importance: the more folds, the more people.
            "1+2": ("--apart=1+2", "--seed=1"),
            "5+6": ("--apart=5+6", "--seed=2"),
            "9+10": ("--apart=9+10", "--seed=3"),
            "3+4": ("--apart=3+4", "--seed=4"),
            "7+8": ("--apart=7+8", "--seed=5"),
        },
        "conv[12]",
    ),
    "fashion": Task(
        "4,000 images of Fashion-MNIST at 14x14",
        (
            *("--dataset=arrays", "--model=resnet8", "--float_epochs=10", "--epochs=12"),
            *("--batch_size=64", *CARE),
        ),
        {f"seed {seed}": (f"--seed={seed}",) for seed in (1, 2, 3)},
        "stage.*",
        same_examples=True,
    ),
    "speech": Task(
        "spoken digits of people never heard",
        (
            *("--dataset=spoken_digit", "--split=speaker", "--model=ds_cnn"),
            *("--float_epochs=10", "--epochs=10", "--batch_size=64", *CARE),
        ),
        {
            "theo+yweweler": ("--apart=theo+yweweler", "--seed=1"),
            "george+jackson": ("--apart=george+jackson", "--seed=2"),
            "lucas+nicolas": ("--apart=lucas+nicolas", "--seed=3"),
        },
        "pointwise.*",
    ),
}


def small_images(folder: Path, tfds_dir: str | None, count: int = 4000) -> Path:
    """The first `count` training images of Fashion-MNIST and all test images, each pixel the mean
    of four, as the file of --dataset=arrays."""
    from ec2t_tf.train import tasks
    from ec2t_tf.train.tasks import arrays

    def halved(split: tasks.Split) -> tasks.Split:
        parts = split.inputs.reshape(-1, 14, 2, 14, 2, 1)
        return tasks.Split(parts.mean(axis=(2, 4)).round().astype(np.uint8), split.labels)

    data = tasks.load("fashion_mnist", tfds_dir=tfds_dir)
    held = min(count // 10, len(data.validation))
    whole = dataclasses.replace(
        data,
        train=halved(data.train[: count - held]),
        validation=halved(data.validation[:held]),
        test=halved(data.test),
    )
    arrays.save(whole, folder / SMALL_IMAGES)
    return folder / SMALL_IMAGES


def measure(
    runs: in_process.Runs, task: Task, point: Point, words: Sequence[str], *, costs: bool
) -> dict[str, Any]:
    """What a training came to: which examples its file classifies rightly, and what it costs."""
    from ec2t_tf import export
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.verification import run as run_file

    trained = runs.train([*words, *point.flags(runs.folder / "policy.json", task.middle)])
    path = runs.folder / "net.tflite"
    export.to_tflite(trained.net, path)
    test = trained.data.test
    outputs, _ = run_file(path, np.asarray(trained.data.normalise(test.inputs)))
    right = outputs.argmax(axis=1) == test.labels
    found: dict[str, Any] = {
        "examples": len(right),
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


def right_of(rows: Mapping[str, Any], name: str, fold: str) -> np.ndarray:
    """float (examples,): 1 where the net of a fold is right."""
    row = rows[name][fold]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))
    return bits[: row["examples"]].astype(float)


def folds_of(task: Task, rows: Mapping[str, Any], *names: str) -> list[str]:
    return [fold for fold in task.folds if all(fold in rows.get(name, {}) for name in names)]


def compare(
    task: Task, rows: Mapping[str, Any], one: str, other: str = BASE
) -> tuple[paired.Difference, list[float]]:
    """Two nets over the folds that both have; and the difference in each fold, in shares of 1."""
    return compare_mix(task, rows, one, {other: 1.0})


def compare_mix(
    task: Task, rows: Mapping[str, Any], one: str, others: Mapping[str, float]
) -> tuple[paired.Difference, list[float]]:
    """The same, of a net and of others by their shares: what lies between two of them."""
    folds = folds_of(task, rows, one, *others)
    first = [right_of(rows, one, fold) for fold in folds]
    second = [
        np.sum([share * right_of(rows, name, fold) for name, share in others.items()], axis=0)
        for fold in folds
    ]
    each = [float((a - b).mean()) for a, b in zip(first, second, strict=True)]
    if task.same_examples:  # an example that several seeds are tested on is one example
        means = [np.mean(side, axis=0) for side in (first, second)]
        return paired.difference(*means, runs=len(folds)), each
    return paired.difference(*map(np.concatenate, (first, second)), runs=1), each


def accuracy_of(task: Task, rows: Mapping[str, Any], name: str, folds: Sequence[str]) -> float:
    each = [right_of(rows, name, fold) for fold in folds]
    return float(np.concatenate(each).mean())


def cost_of(rows: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in rows[name].values() if "m4" in row)


def table(task: Task, rows: Mapping[str, Any]) -> str:
    """Markdown: accuracy, the paired difference from int8 at width 1, bytes, instructions."""
    lines = [
        "| net | trainings | accuracy, % | difference from int8, width 1 | in each training | "
        + " | ".join(costs_of(rows, BASE))
        + " |",
        "|---|" + "---:|" * 10,
    ]
    for point in sorted(POINTS, key=lambda one: (one.kind, one.width, one.zeros)):
        name = str(point)
        folds = folds_of(task, rows, name, BASE)
        if not folds:
            continue
        difference = each = ""
        if name != BASE:
            found, by_fold = compare(task, rows, name)
            difference = f"{100 * found.difference:+.2f} ± {100 * found.interval:.2f}"
            each = " ".join(f"{100 * one:+.1f}" for one in by_fold)
        accuracy = 100 * accuracy_of(task, rows, name, folds)
        cells = [str(len(folds)), f"{accuracy:.2f}", difference, each]
        cells += [f"{cost:,}" for cost in costs_of(rows, name).values()]
        lines.append(f"| {name.replace('%', ' %')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def costs_of(rows: Mapping[str, Any], name: str) -> dict[str, int]:
    """The columns of cost by their titles."""
    cost = cost_of(rows, name)
    found = {"packed or int8 file": min(cost["packed"], cost["int8"])}
    found |= {"flash, M4": cost["m4"]["flash"], "RAM, M4": cost["m4"]["ram"]}
    return found | {f"instructions, {core.upper()}": cost[core]["instructions"] for core in CORES}


def int8_of_cost(
    task: Task, rows: Mapping[str, Any], title: str, cost: int
) -> tuple[dict[str, float], str]:
    """The int8 nets of this cost: the narrower and the wider one by their shares, or, outside of
    all, the narrowest or the widest with a word for that."""
    nets = [str(point) for point in POINTS if point.kind == "int8"]
    nets = [name for name in nets if folds_of(task, rows, name)]
    nets.sort(key=lambda name: costs_of(rows, name)[title])
    values = [costs_of(rows, name)[title] for name in nets]
    if cost <= values[0]:
        return {nets[0]: 1.0}, "less: "
    if cost > values[-1]:
        return {nets[-1]: 1.0}, "more: "
    high = next(i for i, value in enumerate(values) if value >= cost)
    share = (cost - values[high - 1]) / (values[high] - values[high - 1])
    return {nets[high - 1]: 1.0 - share, nets[high]: share}, ""


def equal_cost(task: Task, rows: Mapping[str, Any]) -> str:
    """Markdown: how much more accurate each sparse net is than int8 nets of the same cost, and in
    how many of the trainings it is."""
    points = [one for one in POINTS if one.kind != "int8" and folds_of(task, rows, str(one), BASE)]
    points.sort(key=lambda one: (one.kind, one.width, one.zeros))
    titles = list(costs_of(rows, BASE))
    lines = [f"| net | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for point in points:
        cells = []
        for title, cost in costs_of(rows, str(point)).items():
            others, word = int8_of_cost(task, rows, title, cost)
            found, each = compare_mix(task, rows, str(point), others)
            cells.append(
                f"{word}{100 * found.difference:+.2f} ± {100 * found.interval:.2f} "
                f"({sum(one > 0 for one in each)} of {len(each)})"
            )
        lines.append(f"| {str(point).replace('%', ' %')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Accuracy against bytes and against instructions on M4, a row a task, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in TASKS if BASE in figures.get(name, {})]
    size = (11, 3.4 * len(shown))
    figure, rows = pyplot.subplots(len(shown), 3, figsize=size, sharey="row", squeeze=False)
    kinds = {"int8": "s", "ternary": "o", "int8, pruned": "^"}
    for axes, name in zip(rows, shown, strict=True):
        for kind, marker in kinds.items():
            found = _points(TASKS[name], figures[name], kind)
            if not found:
                continue
            for ax, xs in zip(axes, zip(*(f[0] for f in found), strict=True), strict=True):
                ys = [f[1] for f in found]
                line = "-" if kind == "int8" else ""
                ax.plot(
                    *zip(*sorted(zip(xs, ys, strict=True)), strict=True), line + marker, label=kind
                )
                for x, (_, y, text) in zip(xs, found, strict=True):
                    place = {"xytext": (3, 3), "textcoords": "offset points"}
                    ax.annotate(text, (x, y), fontsize=7, **place)
        for ax, (label, (_, unit)) in zip(axes, PLOTTED.items(), strict=True):
            ax.set_xlabel(f"{label}, {unit}")
            ax.grid(alpha=0.3)
        axes[0].set_ylabel("accuracy, %")
        axes[1].set_title(TASKS[name].title, fontsize=10)
    rows[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=85, metadata={"Software": None})
    pyplot.close(figure)


def _points(
    task: Task, rows: Mapping[str, Any], kind: str
) -> list[tuple[tuple[float, ...], float, str]]:
    """Costs (file, flash, instructions), accuracy in %, and a short name of each net."""
    found = []
    for point in POINTS:
        name = str(point)
        folds = folds_of(task, rows, name, BASE)
        # A net of fewer folds was tested on other people: no fair point beside the others.
        if point.kind != kind or len(folds) < len(folds_of(task, rows, BASE)):
            continue
        cost = costs_of(rows, name)
        costs = tuple(cost[title] / unit for title, (unit, _) in PLOTTED.items())
        text = f"{point.width:g}" + (f", {point.zeros:.0%}" if point.zeros else "")
        found.append((costs, 100 * accuracy_of(task, rows, name, folds), text))
    return found


def filled(page: str, figures: Mapping[str, Any]) -> str:
    """The page with its tables made anew from the figures."""
    for name, rows in figures.items():
        text = f"{table(TASKS[name], rows)}\n\n{equal_cost(TASKS[name], rows)}"
        page = between(page, name, text)
    return page


def load() -> dict[str, Any]:
    return json.loads((DOCS / "when.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=DOCS / "when.json")
    parser.add_argument("--tasks", default="watch", help=f"of {', '.join(TASKS)}; '' for none")
    parser.add_argument("--first", type=int, default=len(POINTS), help="so many of the points")
    parser.add_argument("--folds", type=int, default=9, help="so many of the folds")
    parser.add_argument("--tfds_dir")
    parser.add_argument("--write", action="store_true", help="tables and plot into docs/")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.figures.read_text()) if given.figures.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = in_process.Runs(folder)
        for key in filter(None, given.tasks.split(",")):
            task = TASKS[key]
            words = [*task.words]
            if "--dataset=arrays" in words:
                words.append(f"--data_dir={small_images(folder, given.tfds_dir)}")
            elif given.tfds_dir and key != "watch":
                words.append(f"--tfds_dir={given.tfds_dir}")
            for fold, flags in list(task.folds.items())[: given.folds]:
                for point in POINTS[: given.first]:
                    row = rows.setdefault(key, {}).setdefault(str(point), {})
                    if fold in row:
                        continue
                    costs = not any("m4" in one for one in row.values())
                    row[fold] = measure(runs, task, point, [*words, *flags], costs=costs)
                    print(f"{key}, {fold}: {point}: {row[fold]['accuracy']:.4f}", flush=True)
                    given.figures.write_text(json.dumps(rows, indent=1) + "\n")
            print(table(task, rows[key]))
    if given.write:
        page = DOCS / "when.md"
        page.write_text(filled(page.read_text(), rows))
        plot(rows, DOCS / "when.png")


if __name__ == "__main__":
    main()
