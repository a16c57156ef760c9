"""The run's pictures, as PNG files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from keras.ops import convert_to_numpy
from matplotlib import pyplot

from ec2t_tf import files
from ec2t_tf.summary import Summary

BLUE, ORANGE, GREY = "#2563a8", "#d97706", "#6b7280"


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    with files.replacing(path) as fresh:
        figure.savefig(fresh, dpi=110)
    pyplot.close(figure)


def history(rows: list[dict[str, str]], path: Path) -> None:
    """Accuracy by epoch, and the share of zeros in ternary layers on a second axis."""
    figure, axis = pyplot.subplots(figsize=(8, 4.5))
    epochs = np.arange(1, len(rows) + 1)
    for name, colour in (("accuracy", GREY), ("val_accuracy", BLUE)):
        values = [100 * float(row[name]) if row.get(name) else math.nan for row in rows]
        axis.plot(epochs, values, color=colour, label=name.replace("val_", "validation "))
    axis.set_xlabel("epoch")
    axis.set_ylabel("top-1 %")
    right = axis.twinx()
    zeros = [100 * float(row["zeros"]) if row.get("zeros") else math.nan for row in rows]
    right.plot(epochs, zeros, color=ORANGE, linestyle="--", label="zeros in ternary layers")
    right.set_ylabel("zeros %")
    right.set_ylim(0, 100)
    starts = [i for i, row in enumerate(rows) if i and row["phase"] != rows[i - 1]["phase"]]
    for start in starts:
        axis.axvline(start + 0.5, color=GREY, linewidth=0.8)
    lines = axis.get_lines()[:2] + right.get_lines()
    axis.legend(handles=lines, loc="lower right", frameon=False)
    _save(figure, path)


def layers(ternary: list[Any], path: Path) -> None:
    """Per layer: histogram of the latent weights, the thresholds and the levels."""
    columns = min(4, len(ternary))
    rows = math.ceil(len(ternary) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.4 * columns, 2.6 * rows), squeeze=False
    )
    for axis in axes.flat[len(ternary) :]:
        axis.set_visible(False)
    for axis, layer in zip(axes.flat, ternary, strict=False):
        assignment, latent = layer.assign(), convert_to_numpy(layer.latent)
        axis.hist(latent.ravel(), bins=80, color=GREY)
        for level in assignment.levels[assignment.levels != 0]:
            axis.axvline(level, color=BLUE, linewidth=1.2)
        for threshold in boundaries(latent, assignment.codes):
            axis.axvline(threshold, color=ORANGE, linewidth=1.2, linestyle="--")
        axis.set_title(f"{layer.name}: {100 * assignment.sparsity:.0f} % zeros", fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
    handles = [
        pyplot.Line2D([], [], color=BLUE, label="levels"),
        pyplot.Line2D([], [], color=ORANGE, linestyle="--", label="thresholds"),
    ]
    figure.legend(handles=handles, loc="lower right", fontsize=8, frameon=False)
    _save(figure, path)


def boundaries(latent: np.ndarray, codes: np.ndarray) -> list[float]:
    """Between the smallest non-zero weight of each side and the largest zero: the thresholds."""
    found = []
    for sign in (-1, 1):
        side, zeros = (sign * latent)[codes == sign], (sign * latent)[codes == 0]
        if side.size and zeros.size:
            found.append(sign * float(side.min() + zeros.max()) / 2)
    return found


def sparsity(table: Summary, path: Path) -> None:
    """Zeros and entropy of each ternary layer."""
    rows = table.ternary
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 0.8 + 0.32 * len(rows)), sharey=True)
    names = [row.layer for row in rows]
    left.barh(names, [100 * (row.zeros or 0) for row in rows], color=BLUE)
    left.set_xlabel("zeros %")
    left.set_xlim(0, 100)
    left.invert_yaxis()
    right.barh(names, [row.entropy or 0 for row in rows], color=ORANGE)
    right.set_xlabel("entropy, bits/weight")
    right.set_xlim(0, math.log2(3))
    _save(figure, path)
