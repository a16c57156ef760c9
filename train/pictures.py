"""What a run looks like: each picture drawn on a figure, for the page and for a PNG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras.ops import convert_to_numpy

from ec2t_tf.export.page.plots import WIDTH, Palette, whole_numbers
from ec2t_tf.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = (WIDTH, 4.2)
"""Inches of `curves`."""


def curves(
    figure: Figure,
    palette: Palette,
    history: Sequence[Mapping[str, str]],
    metrics: Mapping[str, Any],
) -> None:
    """Accuracy by epoch, below it the zeros; phases marked, test accuracies as lines.

    Args:
      history: rows of history.csv.
      metrics: what metrics.json holds; lines for `float_accuracy` and `tflite_accuracy`. Where
        the net does not classify, the loss is drawn instead.
    """
    epochs = np.arange(1, len(history) + 1)

    def column(name: str, factor: float = 100.0) -> list[float]:
        return [factor * float(row[name]) if row.get(name) else math.nan for row in history]

    classifies = not history or any(row.get("accuracy") for row in history)
    name, factor = ("accuracy", 100.0) if classifies else ("loss", 1.0)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot(epochs, column(name, factor), color=palette.grey, label="training")
    upper.plot(epochs, column(f"val_{name}", factor), color=palette.blue, label="validation")
    lines = (
        ("float_accuracy", "float net, test", palette.green),
        ("tflite_accuracy", "the file, test", palette.orange),
    )
    for name, label, colour in lines:
        if name in metrics and classifies:
            value = 100 * metrics[name]
            upper.axhline(value, color=colour, linestyle=":", label=f"{label}: {value:.2f} %")
    upper.set_ylabel("top-1 accuracy, %" if classifies else "mean squared error")
    upper.legend(loc="lower right" if classifies else "upper right")
    lower.plot(epochs, column("zeros"), color=palette.orange)
    lower.set_ylim(0, 100)
    lower.set_ylabel("zeros, %")
    lower.set_xlabel("epoch, both phases counted on")
    whole_numbers(lower)
    phases = [row["phase"] for row in history]
    starts = [i for i, phase in enumerate(phases) if phase != (phases[i - 1] if i else None)]
    for start in starts:
        upper.text(
            start + 0.75, 1.01, f"{phases[start]} net", transform=upper.get_xaxis_transform()
        )
        for axis in (upper, lower) if start else ():
            axis.axvline(start + 0.5, color=palette.text, linewidth=0.8)


def histograms_size(count: int) -> tuple[float, float]:
    """Inches of `histograms` of so many layers."""
    return 2 * WIDTH, 0.5 + 1.7 * math.ceil(count / min(4, count))


def histograms(figure: Figure, palette: Palette, ternary: Sequence[Any]) -> None:
    """Latent weights of each layer, thresholds and levels."""
    columns = min(4, len(ternary))
    rows = math.ceil(len(ternary) / columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(ternary) :]:
        axis.set_visible(False)
    for place, (axis, layer) in enumerate(zip(axes.flat, ternary, strict=False)):
        assignment, latent = layer.assign(), convert_to_numpy(layer.latent)
        axis.hist(latent.ravel(), bins=60, color=palette.grey)
        for level in assignment.levels[assignment.levels != 0]:
            axis.axvline(level, color=palette.blue, linewidth=1.2)
        for threshold in boundaries(latent, assignment.codes):
            axis.axvline(threshold, color=palette.orange, linewidth=1.2, linestyle="--")
        axis.set_title(f"{layer.name}: {100 * assignment.sparsity:.0f} % zeros", fontsize=8)
        axis.set_yticks([])
        axis.grid(visible=False)
        axis.tick_params(labelsize=7)
        if place >= len(ternary) - columns:  # nothing stands below
            axis.set_xlabel("latent weight", fontsize=8)
        if place % columns == 0:
            axis.set_ylabel("weights", fontsize=8)
    handles = [
        _line(color=palette.blue, label="level"),
        _line(color=palette.orange, linestyle="--", label="threshold: beyond it, not zero"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _line(**look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def boundaries(latent: np.ndarray, codes: np.ndarray) -> list[float]:
    """Between the smallest non-zero weight of each side and the largest zero: the thresholds."""
    found = []
    for sign in (-1, 1):
        side, zeros = (sign * latent)[codes == sign], (sign * latent)[codes == 0]
        if side.size and zeros.size:
            found.append(sign * float(side.min() + zeros.max()) / 2)
    return found


def sparsity_size(table: Summary) -> tuple[float, float]:
    """Inches of `sparsity`."""
    return 1.5 * WIDTH, 1.0 + 0.26 * len(table.ternary)


def sparsity(figure: Figure, palette: Palette, table: Summary) -> None:
    """Zeros and entropy of each ternary layer; the largest that three values can have as a line."""
    rows = table.ternary
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row.layer for row in rows]
    left.barh(names, [100 * (row.zeros or 0) for row in rows], color=palette.blue)
    left.axvline(100 * table.zeros, color=palette.text, linestyle=":")
    left.set_title(f"zeros: {100 * table.zeros:.1f} % of all ternary weights")
    left.set_xlabel("zeros, %")
    left.set_xlim(0, 100)
    left.invert_yaxis()
    right.barh(names, [row.entropy or 0 for row in rows], color=palette.orange)
    right.axvline(math.log2(3), color=palette.text, linestyle=":")
    right.set_title("entropy; three values have at most 1.585 bits")
    right.set_xlabel("first-order entropy, bits a weight")
    right.set_xlim(0, 1.65)
    for axis in (left, right):
        axis.grid(axis="y", visible=False)
