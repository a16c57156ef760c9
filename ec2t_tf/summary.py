"""What a model's layers hold and cost: a table to read and the same as data."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from ec2t_tf import doors
from ec2t_tf.export.graph.macs import multiply_accumulates
from ec2t_tf.methods.base import Assignment
from ec2t_tf.policy import Treatment


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer with a kernel.

    Attributes:
      shape: of the kernel.
      zeros: share of zero weights, 0 to 1; None unless ternary or pruned.
      entropy: first-order entropy, bits per weight; None unless ternary or pruned.
      w_n, w_p: magnitudes of the negative and positive level; None unless ternary.
      macs: dense-equivalent multiply-accumulates per inference of one input.
      size: bytes of the weights and biases as the int8 file stores them (float: 4 each).
    """

    layer: str
    treatment: Treatment
    shape: tuple[int, ...]
    zeros: float | None
    entropy: float | None
    w_n: float | None
    w_p: float | None
    macs: int
    size: int

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Rows in the order of the layers; `str()` is the table."""

    rows: tuple[LayerSummary, ...]

    @property
    def ternary(self) -> list[LayerSummary]:
        return [row for row in self.rows if row.treatment == Treatment.TERNARY]

    @property
    def zeros(self) -> float:
        """Share of zero weights inside all ternary layers together; 0 without any."""
        weights = sum(row.weights for row in self.ternary)
        return sum((row.zeros or 0) * row.weights for row in self.ternary) / max(weights, 1)

    @property
    def entropy_bytes(self) -> float:
        """Lower bound of the ternary layers' codes under first-order coding, bytes."""
        return sum((row.entropy or 0) * row.weights for row in self.ternary) / 8

    def __str__(self) -> str:
        head = (
            "layer",
            "treatment",
            "shape",
            "zeros %",
            "bits/weight",
            "w_n",
            "w_p",
            "MACs",
            "bytes",
        )
        table: list[tuple[str, ...]] = [head]
        for r in self.rows:
            cells = [r.layer, r.treatment.value, "x".join(map(str, r.shape))]
            if r.zeros is None:
                cells += ["-"] * 4
            else:
                cells += [f"{100 * r.zeros:.1f}", f"{r.entropy:.3f}"]
                cells += ["-" if w is None else f"{w:.4f}" for w in (r.w_n, r.w_p)]
            table.append((*cells, f"{r.macs:,}", f"{r.size:,}"))
        total = ("total", "", f"{sum(r.weights for r in self.rows):,} weights")
        zeros = f"{100 * self.zeros:.1f}" if self.ternary else "-"
        macs, size = sum(r.macs for r in self.rows), sum(r.size for r in self.rows)
        table.append((*total, zeros, "", "", "", f"{macs:,}", f"{size:,}"))
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]

        def line(row: tuple[str, ...]) -> str:
            cells = zip(row, widths, range(len(row)), strict=True)
            return "  ".join(t.ljust(w) if i < 3 else t.rjust(w) for t, w, i in cells).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([line(head), rule, *map(line, table[1:-1]), rule, line(table[-1])])


def summary(model: Any) -> Summary:
    """Summarise a model: one that `apply` made, or any float model.

    Args:
      model: of Keras 3 or tf_keras, or the path of a saved one.

    Raises:
      TypeError: not a built model, nor a path.
    """
    if isinstance(model, str | os.PathLike):
        from ec2t_tf.saving import load_model

        model = load_model(model)
    room = doors.of(model)
    if room is None or not model.built:
        raise TypeError(
            "summary requires a built model of Keras 3 or tf_keras, or the path of a saved one. "
            f"Received: {type(model).__name__}."
        )
    return Summary(tuple(room.summary.rows(model)))


def row(
    name: str,
    weights: Assignment | tuple[int, ...],
    treatment: Treatment,
    *,
    places: Sequence[int | None],
    biases: int,
) -> LayerSummary:
    """The line of one layer.

    Args:
      weights: what a ternary or pruned layer's have become, else their shape.
      places: sizes of the map on which the kernel is applied, for one input.
      biases: how many there are.
    """
    assignment = weights if isinstance(weights, Assignment) else None
    shape: tuple[int, ...] = weights.codes.shape if isinstance(weights, Assignment) else weights
    ternary = assignment if treatment == Treatment.TERNARY else None
    each = 4 if treatment == Treatment.FLOAT else 1
    return LayerSummary(
        layer=name,
        treatment=treatment,
        shape=shape,
        zeros=assignment.sparsity if assignment else None,
        entropy=assignment.entropy if assignment else None,
        w_n=ternary.scale_neg if ternary else None,
        w_p=ternary.scale_pos if ternary else None,
        macs=multiply_accumulates(shape, places),
        size=each * math.prod(shape) + 4 * biases,
    )
