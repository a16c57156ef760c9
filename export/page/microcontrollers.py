"""What files take on microcontrollers: C is written for each core, and run in QEMU on demand."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ec2t_tf import progress
from ec2t_tf.tables import Cell, Table

from ..c_verification import verify_c
from ..file_formats import plain
from ..mcu import BOARDS, Report, to_c
from ..mcu.machines import MACHINES
from .document import Figure, Text
from .layers import c_of


@dataclasses.dataclass(frozen=True)
class OnCore:
    """A file as C for one core ("balanced").

    Attributes:
      flash: bytes of constants; None where C cannot be written.
      arena: bytes of RAM beside input and output.
      estimate: instructions of one call by the table of costs; None where it does not know them.
      cycles: the same without wait states.
      instructions: of one call in QEMU; None where that was not measured.
      note: why there is no figure, and what was run instead.
    """

    core: str
    flash: int | None = None
    arena: int | None = None
    estimate: float | None = None
    cycles: float | None = None
    instructions: int | None = None
    note: str = ""


def on_cores(path: Path, cores: Sequence[str], *, measure: bool = False) -> list[OnCore]:
    """A file of any format on some cores.

    Args:
      measure: run it in QEMU, on the cores that have a machine and where compiler and QEMU are;
        elsewhere its C runs on this machine, beside the file, and the instructions are estimates.
    """
    found = []
    content = plain(path)
    on_host = ""
    for core in progress.bar(cores, f"C of {path.name}"):
        machine = MACHINES.get(core)
        able = machine and shutil.which(machine.compiler) and shutil.which(machine.emulator)
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = to_c(content, folder, core=core, measure=bool(measure and able))
            except ValueError as error:
                found.append(OnCore(core, note=str(error)))
                continue
        note = ""
        if measure and not able:
            on_host = on_host or host(content)
            note = f"no compiler, or no QEMU, of this core here; {on_host}"
        cost = done.estimate
        found.append(
            OnCore(
                core,
                flash=done.flash,
                arena=done.arena,
                estimate=None if cost is None else cost.instructions,
                cycles=None if cost is None else cost.cycles,
                instructions=done.instructions,
                note=note,
            )
        )
    return found


def host(content: bytes) -> str:
    """What comes of running the C of a plain int8 file on this machine, in words.

    Raises:
      ValueError: it gives other outputs than the file.
    """
    try:
        check = verify_c(content)
    except ValueError as error:
        return f"not run on this machine either: {error}"
    if not check.passes():
        raise ValueError(
            "C with the outputs of its file is required. Received on this machine: "
            f"{check} Report it, with the file."
        )
    return f"as generic C on this machine: {check.inputs} inputs equal bit for bit"


def table(rows: Sequence[tuple[str, OnCore]]) -> Table:
    """A row a file and core.

    Args:
      rows: name of the file, and what it takes.
    """
    cells = [
        (
            *(name, one.core, one.flash, one.arena, one.estimate, one.cycles),
            *(one.instructions, one.note),
        )
        for name, one in rows
    ]
    head = ("file", "core", "flash", "RAM", "instructions, about", "cycles, about", "in QEMU", "")
    caption = "Bytes of constants and of the arena; instructions and cycles of one call."
    formats = ("", "", "{:,}", "{:,}", "{:,.0f}", "{:,.0f}", "{:,}", "")
    return Table(head, cells, formats, caption).without_empty_columns()


def boards(content: bytes, optimize: str = "balanced") -> Table:
    """A row a board: whether a plain int8 file fits as C, and about how fast it is.

    Raises:
      ValueError: C cannot be written.
    """
    rows: list[Sequence[Cell]] = []
    unmeasured: dict[str, list[str]] = {}  # kernel -> cores
    for name, board in progress.bar(list(BOARDS.items()), "C for boards"):
        with tempfile.TemporaryDirectory() as folder:
            report = to_c(content, folder, board=name, optimize=optimize)
            rows.append((name, board.core, *_on_board(report)))
            for kernel in report.unmeasured:
                unmeasured.setdefault(kernel, []).append(board.core)
    head = ("board", "core", "fits", "flash", "RAM", "instructions", "cycles", "ms")
    caption = (
        "Estimates. Flash: constants and code; RAM: arena, input, output, stack; cycles without "
        "wait states."
    )
    if any(isinstance(row[5], float) and not isinstance(row[6], float) for row in rows):
        caption += " Of m7, m55 and rv32 no timings are published: no cycles."
    for kernel, cores in unmeasured.items():
        caption += f" No estimate: {kernel} was not measured on {', '.join(dict.fromkeys(cores))}."
    formats = ("", "", "", "{:,}", "{:,}", "{:,.0f}", "{:,.0f}", "{:.2f}")
    return Table(head, rows, formats, caption)


def _on_board(report: Report) -> tuple[Cell, ...]:
    cost, none = report.estimate, "no estimate"
    cycles = None if cost is None else cost.cycles
    return (
        "yes" if report.fits else "no",
        *(report.firmware_flash, report.ram),
        none if cost is None else cost.instructions,
        none if cycles is None else cycles,
        none if report.milliseconds is None else report.milliseconds,
    )


def layers(content: bytes, core: str) -> Table:
    """A row a kernel call of the C of a plain int8 file, with what it is estimated to cost.

    Raises:
      ValueError: C cannot be written.
    """
    report = c_of(content, core)
    rows = [
        (
            *(one.name, one.work.macs or None),
            one.estimate.instructions if one.estimate else None,
            one.estimate.cycles if one.estimate else None,
            *(one.flash, one.note.strip()),
        )
        for one in (*report.layers, *report.ends)
    ]
    head = ("kernel call", "MACs", "instructions", "cycles", "flash", "weights")
    whole = report.estimate
    totals = (report.macs, *((whole.instructions, whole.cycles) if whole else (None, None)))
    return Table(
        head,
        rows,
        ("", "{:,}", "{:,.0f}", "{:,.0f}", "{:,}", ""),
        f"Kernel calls of the C for {core}, estimated without wait states; bytes of constants.",
        ("one call of the net", *totals, report.flash, ""),
    )


def parts(path: Path, core: str = "m4") -> list[Text | Figure | Table]:
    """What a page says of a file of any format: its boards, and its kernel calls on a core."""
    try:
        content = plain(path)
        return [boards(content), layers(content, core)]
    except ValueError as error:
        return [Text(f"C cannot be written of this file: {error}")]
