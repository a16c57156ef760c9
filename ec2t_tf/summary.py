"""What a model's layers hold and cost: a table to read and the same as data."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ec2t_tf import doors, files
from ec2t_tf.counting.float_kernels import kernels, own_kernels
from ec2t_tf.counting.places import Shape
from ec2t_tf.export.graph.macs import multiply_accumulates
from ec2t_tf.methods.base import Assignment
from ec2t_tf.policy import Treatment
from ec2t_tf.tables import Table

HEAD = ("layer", "treatment", "shape", "zeros", "bits/weight", "w_n", "w_p", "MACs", "bytes")
FORMATS = ("", "", "", "{:.1%}", "{:.3f}", "{:.4f}", "{:.4f}", "{:,}", "{:,}")


KINDS = (".json", ".csv", ".html", ".txt")


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One kernel.

    Attributes:
      layer: its name; "layer/part" where it has several kernels.
      shape: of the kernel.
      zeros: share of zero weights, 0 to 1; None unless ternary or pruned.
      entropy: first-order entropy, bits per weight; None unless ternary or pruned.
      w_n, w_p: magnitudes of the negative and positive level; None unless ternary.
      macs: dense-equivalent multiply-accumulates per inference of one input; None where nobody can
        tell: in a layer of the user's, or where the model has no graph.
      size: bytes of the weights and biases as the int8 file stores them (float: 4 each).
    """

    layer: str
    treatment: Treatment
    shape: tuple[int, ...]
    zeros: float | None
    entropy: float | None
    w_n: float | None
    w_p: float | None
    macs: int | None
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

    def table(self) -> Table:
        """A row a layer; sizes in bytes."""
        rows = [
            (
                *(r.layer, r.treatment.value, "x".join(map(str, r.shape))),
                *(r.zeros, r.entropy, r.w_n, r.w_p, r.macs, r.size),
            )
            for r in self.rows
        ]
        weights = f"{sum(r.weights for r in self.rows):,} weights"
        total = ("total", "", weights, self.zeros if self.ternary else None, None, None, None)
        totals = sum(r.macs or 0 for r in self.rows), sum(r.size for r in self.rows)
        return Table(HEAD, rows, FORMATS, total=(*total, *totals))

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        rows = [
            dataclasses.asdict(r) | {"treatment": r.treatment.value, "shape": list(r.shape)}
            for r in self.rows
        ]
        return {
            "zeros": self.zeros,
            "ternary_weights": sum(row.weights for row in self.ternary),
            "entropy_bytes": self.entropy_bytes,
            "macs": sum(row.macs or 0 for row in self.rows),
            "size": sum(row.size for row in self.rows),
            "layers": rows,
        }

    def csv(self) -> str:
        """A row a layer; an empty cell where a layer has no such figure."""
        return self.table().csv()

    def html(self, title: str = "Summary") -> str:
        """A page of its own, whose table sorts."""
        from ec2t_tf.export.page import Section, html

        return html(title, [Section("Layers", [self.table()])])

    def save(self, path: str | os.PathLike) -> None:
        """Writes a file of the kind that its name says: .json, .csv, .html or .txt.

        Raises:
          ValueError: the name ends otherwise.
        """
        text: dict[str, Callable[[], str]] = {
            ".json": lambda: json.dumps(self.as_dict(), indent=1) + "\n",
            ".csv": self.csv,
            ".html": lambda: self.html(os.path.basename(path)),
            ".txt": lambda: f"{self}\n",
        }
        files.write_text(path, text[kind_of(path)]())

    def __str__(self) -> str:
        return self.table().text(rule=True)


def kind_of(path: str | os.PathLike) -> str:
    """The kind of file that a name says, of those that a summary can be.

    Raises:
      ValueError: the name ends otherwise.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in KINDS:
        raise ValueError(f"A name that ends in {', '.join(KINDS)} is required. Received: {path}.")
    return suffix


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
    places: Sequence[int | None] | None,
    biases: int,
) -> LayerSummary:
    """The line of one layer.

    Args:
      weights: what a ternary or pruned layer's have become, else their shape.
      places: sizes of the map on which the kernel is applied, for one input; None where nobody
        can tell.
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
        macs=None if places is None else multiply_accumulates(shape, places),
        size=each * math.prod(shape) + 4 * biases,
    )


def float_rows(
    layer: Any, name: str, inputs: Sequence[Shape], output: Shape | None
) -> Iterator[LayerSummary]:
    """The lines of a float layer, one a kernel.

    Args:
      inputs, output: shapes with the batch; none where they are not known.
    """
    for kernel in kernels(layer, inputs, output):
        label = f"{name}/{kernel.part}" if kernel.part else name
        places, biases = kernel.places, kernel.biases
        yield row(label, kernel.shape, Treatment.FLOAT, places=places, biases=biases)


def rows_without_a_graph(model: Any) -> Iterator[LayerSummary]:
    """The lines of a subclassed model: its layers, without multiply-accumulates."""
    for layer in model._flatten_layers():
        for kernel in own_kernels(layer):
            label = f"{layer.name}/{kernel.part}" if kernel.part else layer.name
            yield row(label, kernel.shape, Treatment.FLOAT, places=None, biases=kernel.biases)
