"""report.html of a run: figures, curves, mistakes, layers, and everything about its file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.export.page import Figure, Section, Table, Text, file_sections, html, plots
from ec2t_tf.export.page.document import Headline, tables
from ec2t_tf.export.page.made_by import made_by
from ec2t_tf.export.page.microcontrollers import on_cores, parts, table
from ec2t_tf.export.reports import Report
from ec2t_tf.train import pictures, record

CORES = ("m0", "m4", "m55", "rv32")
LAYERS = (
    "As trained; entropy in bits a weight, levels -w_n, 0, +w_p, multiply-accumulates (zeros "
    "counted too), bytes as int8."
)
LARGEST_CONFUSION = 30  # classes: more would be a grey square


def write(
    folder: Path,
    *,
    title: str,
    accuracy: Sequence[tuple[str, float]],
    metrics: dict,
    history: Sequence[dict[str, str]],
    layers: Table,
    ternary: Sequence[Any],
    confusion: np.ndarray | None,
    labels: Sequence[str],
    file: Report,
    verdict: str,
) -> Path:
    """Writes `folder`/report.html and returns its path; its figures go to report.json, the table of
    kernels to report.csv.

    Args:
      accuracy: the task's figure on the test examples, by net.
      metrics: what metrics.json holds.
      history: the rows of history.csv.
      layers: of the trained net, as `ec2t_tf.summary` has them.
      confusion: int (classes, classes): test examples by class and by what the file says.
        None where the net does not classify.
      labels: names of the classes.
      verdict: what `export.verify` found.
    """
    figure = metrics.get("figure", "top-1")  # runs of before tasks had another
    first = [
        Headline(f"{100 * metrics['tflite_accuracy']:.2f} %", f"{figure} of the file"),
        Headline(f"{100 * metrics['float_accuracy']:.2f} %", f"{figure} of the float net"),
        Headline(f"{100 * metrics['zeros']:.1f} %", "zeros in ternary layers"),
        Headline(f"{file.file_bytes:,}", "bytes on disk, .tflite"),
        Headline(f"{file.zipped_bytes:,}", "bytes zipped"),
        Headline(f"{metrics['float_bytes']:,}", "bytes of float32 weights"),
    ]
    sections = [
        Section(
            "Accuracy",
            [
                Table(("net", f"{figure} on the test examples"), accuracy, ("", "{:.2%}")),
                Text(f"Keras against the file: {verdict}"),
                curves(history, metrics),
                *([] if confusion is None else [confusions(confusion, labels)]),
            ],
        ),
        Section("Layers of the net", [dataclasses.replace(layers, caption=LAYERS)]),
        Section("Latent weights", [histograms(ternary)]),
        *file_sections(file),
        Section(
            "On microcontrollers",
            [
                *parts(Path(file.file)),
                table([(Path(file.file).name, one) for one in on_cores(Path(file.file), CORES)]),
            ],
        ),
        Section("Settings", [settings(folder)]),
        made_by(),
    ]
    figures = {
        "title": title,
        "metrics": metrics,
        "history": list(history),
        "confusion": None if confusion is None else confusion.tolist(),
        "labels": list(labels),
        "file": file.as_dict(),
        "verdict": verdict,
        "tables": tables(sections),
    }
    files.write_text(folder / "report.json", json.dumps(figures, indent=1) + "\n")
    files.write_text(folder / "report.csv", file.table().csv())
    path = folder / "report.html"
    files.write_text(path, html(title, sections, first))
    return path


def curves(history: Sequence[dict[str, str]], metrics: dict) -> Figure:
    """Accuracy and zeros by epoch."""
    with plots.drawing(*pictures.CURVES) as figure:
        pictures.curves(figure, plots.PAGE, history, metrics)
        picture = plots.svg(figure)
    shown = "Accuracy" if any(row.get("accuracy") for row in history) else "Loss"
    return Figure(picture, f"{shown} by epoch, and below it the zeros in ternary layers.")


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
    with plots.drawing(max(size, 3.5), max(size, 3.5)) as figure:
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


def histograms(ternary: Sequence[Any]) -> Figure | Text:
    """Latent weights of each layer, thresholds and levels."""
    if not ternary:
        return Text("No layer is ternary: the policy leaves none.")
    with plots.drawing(*pictures.histograms_size(len(ternary))) as figure:
        pictures.histograms(figure, plots.PAGE, ternary)
        picture = plots.svg(figure)
    return Figure(
        picture, "Latent weights; dashed: beyond it a weight is not zero; solid: its level.", True
    )


def settings(folder: Path) -> Text:
    """The settings of the run and the revision of the source."""
    chosen = (folder / "settings.json").read_text() if (folder / "settings.json").exists() else ""
    return Text(f"source revision: {record.revision()}\n{chosen}", preformatted=True)
