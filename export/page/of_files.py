"""The sections of a `.tflite` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ec2t_tf.tables import Table

from ..reports import Report
from . import plots
from .document import Figure, Headline, Section, Text
from .layers import formats_of, layers_of


def file_sections(one: Report, label: str = "") -> list[Section]:
    """Its layers, where its bytes are, its zeros, and C for microcontrollers."""
    name = label or Path(one.file).name
    parts: list[Text | Figure | Table] = [layers_of(one)]
    if one.kernels:
        parts.append(_bytes(one))
    if one.ternary:
        parts.append(_zeros(one))
    parts.append(formats_of(one))
    return [Section(f"Layers of {name}", parts)]


def headlines(one: Report, metrics: Mapping[str, Any] | None = None) -> list[Headline]:
    """What is seen first of a file, and of the run that it is of."""
    accuracies = {
        "tflite_accuracy": "top-1 of the file",
        "float_accuracy": "top-1 of the float net",
    }
    found = [
        Headline(f"{100 * metrics[name]:.2f} %", label)
        for name, label in accuracies.items()
        if metrics and isinstance(metrics.get(name), float)
    ]
    found += [
        Headline(f"{one.file_bytes:,}", "bytes on disk"),
        Headline(f"{one.zipped_bytes:,}", "bytes zipped"),
    ]
    if one.ternary:
        bound = sum(kernel.bound_bytes for kernel in one.ternary)
        found += [
            Headline(f"{100 * one.zeros:.1f} %", "zeros in ternary layers"),
            Headline(f"{bound:,}", "bytes at first-order entropy, ternary weights"),
        ]
    return [*found, Headline(f"{sum(k.macs for k in one.kernels):,}", "multiply-accumulates")]


def _bytes(one: Report) -> Figure:
    rest = {"other constants": one.other_bytes, "structure": one.structure_bytes}
    names = [*(kernel.name for kernel in one.kernels), *rest]
    empty = [0] * len(rest)
    parts = {
        "weights": [*(kernel.weights_bytes for kernel in one.kernels), *empty],
        "biases": [*(kernel.bias_bytes for kernel in one.kernels), *empty],
        "tables of scales": [*(kernel.table_bytes for kernel in one.kernels), *empty],
        "other": [*[0] * len(one.kernels), *rest.values()],
    }
    return Figure(
        plots.stacked(names, parts, "bytes"),
        f"Where the {one.file_bytes:,} bytes of {Path(one.file).name} are. Structure: operators, "
        "names, tables of activations, alignment.",
    )


def _zeros(one: Report) -> Figure:
    names = [kernel.name for kernel in one.ternary]
    values = [100 * kernel.zeros for kernel in one.ternary]
    return Figure(plots.bars(names, values, "zeros, %", 100), "Zeros of each ternary layer.")
