"""The run's pictures, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ec2t_tf.export.page.plots import PAPER, drawing, png
from ec2t_tf.summary import Summary
from ec2t_tf.train import pictures


def history(
    rows: Sequence[Mapping[str, str]], metrics: Mapping[str, Any], title: str, path: Path
) -> None:
    """See `pictures.curves`."""
    with drawing(1.4 * pictures.CURVES[0], 1.2 * pictures.CURVES[1], PAPER) as figure:
        pictures.curves(figure, PAPER, rows, metrics)
        figure.suptitle(title)
        png(figure, path)


def layers(ternary: Sequence[Any], title: str, path: Path) -> None:
    """See `pictures.histograms`."""
    width, height = pictures.histograms_size(len(ternary))
    with drawing(width, height + 0.3, PAPER) as figure:
        pictures.histograms(figure, PAPER, ternary)
        figure.suptitle(title)
        png(figure, path)


def sparsity(table: Summary, title: str, path: Path) -> None:
    """See `pictures.sparsity`."""
    width, height = pictures.sparsity_size(table)
    with drawing(width, height + 0.3, PAPER) as figure:
        pictures.sparsity(figure, PAPER, table)
        figure.suptitle(title)
        png(figure, path)
