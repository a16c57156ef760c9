"""Several files and runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ec2t_tf.tables import Cell, Table

from . import plots
from .document import Figure, Section, Text
from .microcontrollers import OnCore
from .subjects import Subject

MOST_CURVES = 4  # as many colours as a page has


def comparison(subjects: Sequence[Subject], names: Sequence[str]) -> list[Section]:
    """A table, where the bytes are, accuracy against bytes and by epoch; nothing for one alone."""
    if len(subjects) < 2:
        return []
    parts: list[Text | Figure | Table] = [side_by_side(subjects, names), _bytes(subjects, names)]
    points = [
        (name, one.report.file_bytes, 100 * accuracy)
        for one, name in zip(subjects, names, strict=True)
        if (accuracy := one.accuracy) is not None
    ]
    if len(points) > 1:
        parts.append(
            Figure(
                plots.scatter(points, "bytes of the file", "top-1 on the test examples, %"),
                "Accuracy of each run against the bytes of its file: up and to the left is better.",
            )
        )
    curves = {
        name: [_percent(row.get("val_accuracy")) for row in one.history]
        for one, name in zip(subjects, names, strict=True)
        if one.history
    }
    if 1 < len(curves) <= MOST_CURVES:
        parts.append(
            Figure(
                plots.lines(curves, "epoch", "validation top-1, %"),
                "Validation accuracy by epoch, the float phase first.",
            )
        )
    return [Section("Side by side", parts)]


def side_by_side(subjects: Sequence[Subject], names: Sequence[str]) -> Table:
    """A row a file; figures of training where a run has them."""
    runs = any(one.metrics for one in subjects)
    measured = any(one.accuracy is not None for one in subjects)
    head = ["file", "bytes", "zipped", "zeros", "ternary weights", "weights", "MACs"]
    formats = ["", "{:,}", "{:,}", "{:.1%}", "{:,}", "{:,}", "{:,}"]
    if runs:
        head[1:1] = ["top-1 of the float net", "steps off Keras"]
        formats[1:1] = ["{:.2%}", "{:,.0f}"]
    if measured:
        head[1:1], formats[1:1] = ["top-1"], ["{:.2%}"]
    cores = list(dict.fromkeys(found.core for one in subjects for found in one.cores))
    # In one column either all is measured or all is estimated.
    counted = {
        core: all(f.instructions is not None or f.flash is None for f in _of_core(subjects, core))
        for core in cores
    }
    for core in cores:
        head += [f"{core}: flash", "RAM", f"instructions{'' if counted[core] else ', estimated'}"]
        formats += ["{:,}", "{:,}", "{:,.0f}"]
    rows = []
    for one, name in zip(subjects, names, strict=True):
        kernels = one.report.kernels
        row: list[Cell] = [
            name,
            *(one.report.file_bytes, one.report.zipped_bytes),
            one.report.zeros if one.report.ternary else None,
            sum(kernel.weights for kernel in one.report.ternary),
            sum(kernel.weights for kernel in kernels),
            sum(kernel.macs for kernel in kernels),
        ]
        if runs:
            figures = ("float_accuracy", "largest_difference_in_output_steps")
            row[1:1] = [one.number(figure) for figure in figures]
        if measured:
            row[1:1] = [one.accuracy]
        for core in cores:
            found = next((found for found in one.cores if found.core == core), OnCore(core))
            instructions = found.instructions if counted[core] else found.estimate
            row += [found.flash, found.arena, instructions]
        rows.append(row)
    return Table(head, rows, formats, "Zeros: of the ternary layers. A click on a head sorts.")


def notes(subjects: Sequence[Subject], names: Sequence[str]) -> str:
    """What is to say of the C of each file, a line each; "" if nothing is."""
    return "\n".join(
        f"{name}, {core.core}: {core.note}"
        for one, name in zip(subjects, names, strict=True)
        for core in one.cores
        if core.note
    )


def _of_core(subjects: Sequence[Subject], core: str) -> list[OnCore]:
    return [found for one in subjects for found in one.cores if found.core == core]


def _bytes(subjects: Sequence[Subject], names: Sequence[str]) -> Figure:
    reports = [one.report for one in subjects]
    parts = {
        "ternary weights": [sum(k.weights_bytes for k in r.ternary) for r in reports],
        "other weights": [
            sum(k.weights_bytes for k in r.kernels if not k.ternary) for r in reports
        ],
        "biases and scales": [
            sum(k.bias_bytes + k.table_bytes for k in r.kernels) for r in reports
        ],
        "the rest": [r.other_bytes + r.structure_bytes for r in reports],
    }
    return Figure(plots.stacked(names, parts, "bytes"), "Where the bytes of each file are.")


def _percent(text: str | None) -> float:
    try:
        return 100 * float(text or "nan")
    except ValueError:
        return math.nan
