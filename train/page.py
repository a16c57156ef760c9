"""report.html of a run: figures, curves, mistakes, layers, and everything about its file."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras.ops import convert_to_numpy

from ec2t_tf import files
from ec2t_tf.export.page import Figure, Section, Table, Text, file_sections, html, plots
from ec2t_tf.export.page.document import Headline
from ec2t_tf.export.page.made_by import made_by
from ec2t_tf.export.reports import Report
from ec2t_tf.train.plots import boundaries

LARGEST_CONFUSION = 30  # classes: more would be a grey square


def write(
    folder: Path,
    *,
    title: str,
    metrics: dict,
    history: Sequence[dict[str, str]],
    ternary: Sequence[Any],
    confusion: np.ndarray,
    labels: Sequence[str],
    file: Report,
    verdict: str,
) -> Path:
    """Writes `folder`/report.html and returns its path.

    Args:
      metrics: what metrics.json holds.
      history: the rows of history.csv.
      confusion: int (classes, classes): test examples by class and by what the file says.
      labels: names of the classes.
      verdict: what `export.verify` found.
    """
    first = [
        Headline(f"{100 * metrics['tflite_accuracy']:.2f} %", "top-1 of the file"),
        Headline(f"{100 * metrics['float_accuracy']:.2f} %", "top-1 of the float net"),
        Headline(f"{100 * metrics['zeros']:.1f} %", "zeros in ternary layers"),
        Headline(f"{file.file_bytes:,}", "bytes on disk, .tflite"),
        Headline(f"{file.zipped_bytes:,}", "bytes zipped"),
        Headline(f"{metrics['float_bytes']:,}", "bytes of float32 weights"),
    ]
    accuracy = [
        ("float, Keras", metrics["float_accuracy"]),
        ("ternary, Keras", metrics["ternary_accuracy"]),
        ("ternary, .tflite", metrics["tflite_accuracy"]),
    ]
    sections = [
        Section(
            "Accuracy",
            [
                Table(("net", "top-1 on the test examples"), accuracy, ("", "{:.2%}")),
                Text(f"Keras against the file: {verdict}"),
                curves(history, metrics),
            ],
        ),
        Section("What is taken for what", [confusions(confusion, labels)]),
        Section("Latent weights", [histograms(ternary)]),
        *file_sections(file),
        Section("Settings", [settings(folder)]),
        made_by(),
    ]
    path = folder / "report.html"
    files.write_text(path, html(title, sections, first))
    return path


def curves(history: Sequence[dict[str, str]], metrics: dict) -> Figure:
    """Accuracy and zeros by epoch, the phases marked, the test accuracies as lines."""
    epochs = np.arange(1, len(history) + 1)

    def column(name: str) -> list[float]:
        return [100 * float(row[name]) if row.get(name) else math.nan for row in history]

    with plots.drawing(8, 4.6) as figure:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        upper.plot(epochs, column("accuracy"), color=plots.GREY, label="training")
        upper.plot(epochs, column("val_accuracy"), color=plots.BLUE, label="validation")
        for name, colour in (("float", plots.GREEN), ("tflite", plots.ORANGE)):
            said = {"float": "float net", "tflite": "the file"}[name]
            value = 100 * metrics[f"{name}_accuracy"]
            upper.axhline(value, color=colour, linestyle=":", label=f"{said}, test")
        upper.set_ylabel("top-1, %")
        upper.legend(loc="lower right")
        lower.plot(epochs, column("zeros"), color=plots.ORANGE)
        lower.set_ylim(0, 100)
        lower.set_ylabel("zeros, %")
        lower.set_xlabel("epoch")
        phases = [row["phase"] for row in history]
        starts = [i for i, phase in enumerate(phases) if phase != (phases[i - 1] if i else None)]
        for start in starts:
            upper.text(start + 1, 1.01, phases[start], transform=upper.get_xaxis_transform())
            for axis in (upper, lower) if start else ():
                axis.axvline(start + 0.5, color=plots.TEXT, linewidth=0.8)
        picture = plots.svg(figure)
    return Figure(picture, "Accuracy by epoch, and below it the zeros in ternary layers.")


def confusions(counts: np.ndarray, labels: Sequence[str]) -> Figure | Table:
    """The matrix; with many classes, the pairs that are mistaken most."""
    names = list(labels) or [str(i) for i in range(len(counts))]
    if len(counts) > LARGEST_CONFUSION:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(wrong, axis=None)[::-1][:20]
        rows = [
            (names[i], names[j], int(wrong[i, j]))
            for i, j in (divmod(int(place), len(counts)) for place in order)
            if wrong[i, j]
        ]
        return Table(("class", "taken for", "examples"), rows)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.8 + 0.42 * len(counts)
    with plots.drawing(size, size) as figure:
        axis = figure.subplots()
        axis.grid(visible=False)
        for (i, j), share in np.ndenumerate(shares):
            if counts[i, j]:
                colour = plots.BLUE if i == j else plots.ORANGE
                side = math.sqrt(float(share)) * 0.9
                axis.add_patch(_square(j, i, side, colour))
                axis.text(j, i, str(int(counts[i, j])), ha="center", va="center", fontsize=7)
        axis.set_xlim(-0.6, len(counts) - 0.4)
        axis.set_ylim(len(counts) - 0.4, -0.6)
        turned = 90 if max(map(len, names)) > 2 else 0
        axis.set_xticks(range(len(names)), names, rotation=turned)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("what the file says")
        axis.set_ylabel("class")
        picture = plots.svg(figure)
    return Figure(picture, "Test examples by class and answer; areas are shares of a class.")


def _square(x: float, y: float, side: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - side / 2, y - side / 2), side, side, color=colour, alpha=0.45)


def histograms(ternary: Sequence[Any]) -> Figure:
    """Latent weights of each layer, thresholds and levels."""
    columns = min(3, len(ternary))
    rows = math.ceil(len(ternary) / columns)
    with plots.drawing(8, 0.4 + 1.7 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(ternary) :]:
            axis.set_visible(False)
        for axis, layer in zip(axes.flat, ternary, strict=False):
            assignment, latent = layer.assign(), convert_to_numpy(layer.latent)
            axis.hist(latent.ravel(), bins=60, color=plots.GREY)
            for level in assignment.levels[assignment.levels != 0]:
                axis.axvline(level, color=plots.BLUE)
            for threshold in boundaries(latent, assignment.codes):
                axis.axvline(threshold, color=plots.ORANGE, linestyle="--")
            axis.set_title(f"{layer.name}: {100 * assignment.sparsity:.0f} % zeros", fontsize=8)
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.tick_params(labelsize=7)
        picture = plots.svg(figure)
    return Figure(
        picture, "Latent weights; dashed: beyond it a weight is not zero; solid: its level."
    )


def settings(folder: Path) -> Text:
    """The settings of the run and the revision of the source."""
    chosen = (folder / "settings.json").read_text() if (folder / "settings.json").exists() else ""
    return Text(f"source revision: {revision()}\n{chosen}", preformatted=True)


def revision() -> str:
    """Of the checkout that holds the package, or "unknown" for an installed one."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
