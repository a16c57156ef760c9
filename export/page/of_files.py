"""The sections of `.tflite` files, alone or side by side."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ec2t_tf import __version__, files

from ..reports import Report, report
from . import plots
from .document import Figure, Headline, Section, Table, Text, html

KERNEL_HEAD = (
    *("layer", "operator", "shape", "codes", "zeros", "bits/weight", "MACs"),
    *("weights", "bias", "tables", "entropy bound"),
)
KERNEL_FORMATS = ("", "", "", "", "{:.1%}", "{:.3f}", "{:,}", "{:,}", "{:,}", "{:,}", "{:,}")


def file_sections(reports: Sequence[Report]) -> list[Section]:
    """A comparison where there are several files, then each one's layers and bytes."""
    sections = []
    if len(reports) > 1:
        sections.append(Section("The files side by side", [_comparison(reports)]))
    for one in reports:
        name = Path(one.file).name
        parts: list[Text | Figure | Table] = [_kernels(one)]
        if one.kernels:
            parts.append(_bytes(one))
        if one.ternary:
            parts.append(_zeros(one))
        sections.append(Section(f"Layers of {name}", parts))
    return sections


def headlines(one: Report) -> list[Headline]:
    """What is seen first of a file."""
    found = [
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


def made_by() -> Section:
    """Versions, and the command that made the page."""
    rows = [("ec2t_tf", __version__), ("Python", platform.python_version())]
    for package in ("numpy", "ai-edge-litert", "keras", "tensorflow", "jax", "torch"):
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    command = Text(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), preformatted=True)
    return Section("How this page was made", [command, Table(("package", "version"), rows)])


def write_page(paths: Sequence[str | os.PathLike], output: str | os.PathLike) -> None:
    """One HTML file about `.tflite` files, and the same figures beside it as .json.

    Args:
      paths: the files; several are compared.
      output: the page, `name.html`; the figures go to `name.json`.

    Raises:
      ValueError: `output` does not end in .html, or a file is no `.tflite` file.
      ImportError: matplotlib is missing.
    """
    output = Path(output)
    if output.suffix != ".html":
        raise ValueError(f"A name that ends in .html is required. Received: '{output}'.")
    reports = [report(path) for path in paths]
    names = ", ".join(Path(one.file).name for one in reports)
    first = headlines(reports[0]) if len(reports) == 1 else []
    document = html(names, [*file_sections(reports), made_by()], first)
    figures = [dataclasses.asdict(one) for one in reports]
    files.write_text(output.with_suffix(".json"), json.dumps(figures, indent=1) + "\n")
    files.write_text(output, document)


def _comparison(reports: Sequence[Report]) -> Table:
    head = ("file", "bytes", "zipped", "zeros in ternary layers", "ternary weights")
    rows = [
        (
            one.file,
            one.file_bytes,
            one.zipped_bytes,
            one.zeros if one.ternary else None,
            sum(kernel.weights for kernel in one.ternary),
        )
        for one in reports
    ]
    return Table(head, rows, ("", "{:,}", "{:,}", "{:.1%}", "{:,}"))


def _kernels(one: Report) -> Table:
    rows = [
        (
            kernel.name,
            kernel.operator,
            "x".join(map(str, kernel.shape)),
            kernel.codes + ("" if kernel.storage == "dense" else f" ({kernel.storage})"),
            kernel.zeros,
            kernel.entropy,
            kernel.macs,
            kernel.weights_bytes,
            kernel.bias_bytes,
            kernel.table_bytes,
            kernel.bound_bytes,
        )
        for kernel in one.kernels
    ]
    return Table(KERNEL_HEAD, rows, KERNEL_FORMATS, "Bytes as stored; a click on a head sorts.")


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
