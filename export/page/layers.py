"""Everything about each layer of a file in one table: bytes by format, and its C."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ec2t_tf import files
from ec2t_tf.tables import Cell, Table

from ..file_formats import plain, rewrite
from ..mcu import Report as CReport
from ..mcu import to_c
from ..reports import KernelReport, Report, report_of
from ..sizes import sizes

CORE = "m4"
OTHERS = ("sparse", "packed")  # of them a layer's own bytes can be told


@functools.lru_cache(maxsize=1)  # a page asks twice
def c_of(content: bytes, core: str) -> CReport:
    """What C of a plain int8 file takes on a core.

    Raises:
      ValueError: C cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        return to_c(content, folder, core=core)


def layers_of(one: Report) -> Table:
    """A row a kernel: the file's own account, its bytes in other formats, its instructions."""
    plain_table = one.table()
    content = plain(Path(one.file))
    columns = [_bytes_as(one, content, name) for name in OTHERS]
    costs = _costs(one, content)
    rows = [
        (*row, *(column[place] for column in columns), *costs[place])
        for place, row in enumerate(plain_table.rows)
    ]
    sums = [_sum(column) for column in columns] + [_sum(column) for column in _turned(costs)]
    head = (*plain_table.head, *(f"as {name}" for name in OTHERS))
    table = dataclasses.replace(
        plain_table,
        head=(*head, f"instructions, {CORE}", f"cycles, {CORE}"),
        rows=rows,
        formats=(*plain_table.formats, "{:,}", "{:,}", "{:,.0f}", "{:,.0f}"),
        total=(*plain_table.total, *sums) if rows else plain_table.total,
        caption=(
            "Bytes as stored; 'as': weights, bias and tables of the layer in a file of that "
            f"format; instructions and cycles of the C for {CORE}, estimated. A click on a head "
            "sorts."
        ),
    )
    return table.without_empty_columns()


def formats_of(one: Report) -> Table:
    """The net in every format: bytes of the files, and why a format refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        files.write_bytes(path, plain(Path(one.file)))
        found = sizes(path)
    rows = [
        (name, size.file_bytes, size.gzip_bytes, size.stream_bytes, size.note)
        for name, size in found.formats.items()
    ]
    return Table(
        ("format", "bytes", "zipped", "ternary streams", "why not"),
        rows,
        ("", "{:,}", "{:,}", "{:,}", ""),
        "The same net as a file of each format. First-order entropy of the ternary weights: "
        f"{found.entropy_bytes:,.0f} bytes.",
    ).without_empty_columns()


def _bytes_as(one: Report, content: bytes, name: str) -> list[int | None]:
    try:
        other = report_of(rewrite(content, format=name).content, name)
    except ValueError:  # `formats_of` says why
        return [None] * len(one.kernels)
    if [k.weights for k in other.kernels] != [k.weights for k in one.kernels]:
        return [None] * len(one.kernels)
    return [k.weights_bytes + k.bias_bytes + k.table_bytes for k in other.kernels]


def _costs(one: Report, content: bytes) -> Sequence[tuple[Cell, Cell]]:
    """Instructions and cycles of each kernel, where its call can be told from the others."""
    none: list[tuple[Cell, Cell]] = [(None, None)] * len(one.kernels)
    try:
        calls = [layer for layer in c_of(content, CORE).layers if layer.work.macs]
    except ValueError:  # the page says why
        return none
    kernels: list[KernelReport] = [kernel for kernel in one.kernels if kernel.macs]
    if [layer.work.macs for layer in calls] != [kernel.macs for kernel in kernels]:
        return none  # a kernel that several operators share, or a layer of several calls
    costs = iter(layer.estimate for layer in calls)
    found: list[tuple[Cell, Cell]] = []
    for kernel in one.kernels:
        cost = next(costs) if kernel.macs else None
        found.append((None, None) if cost is None else (cost.instructions, cost.cycles))
    return found


def _turned(rows: Sequence[tuple[Cell, Cell]]) -> list[list[Cell]]:
    return [[row[place] for row in rows] for place in (0, 1)]


def _sum(values: Sequence[Cell]) -> Cell:
    """Of numbers; nothing where one is missing."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return sum(numbers) if numbers and len(numbers) == len(values) else None
