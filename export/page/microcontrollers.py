"""What files take on microcontrollers: C is written for each core, and run in QEMU on demand."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ec2t_tf import progress
from ec2t_tf.tables import Table

from ..file_formats import plain
from ..mcu import to_c
from ..mcu.machines import MACHINES


@dataclasses.dataclass(frozen=True)
class OnCore:
    """A file as C for one core ("balanced").

    Attributes:
      flash: bytes of constants; None where C cannot be written.
      arena: bytes of RAM beside input and output.
      instructions: of one call in QEMU; None where that was not measured.
      note: why there is no figure.
    """

    core: str
    flash: int | None = None
    arena: int | None = None
    instructions: int | None = None
    note: str = ""


def on_cores(path: Path, cores: Sequence[str], *, measure: bool = False) -> list[OnCore]:
    """A file of any format on some cores.

    Args:
      measure: run it in QEMU, on the cores that have a machine and where compiler and QEMU are.
    """
    found = []
    content = plain(path)
    for core in progress.bar(cores, f"C of {path.name}"):
        machine = MACHINES.get(core)
        able = machine and shutil.which(machine.compiler) and shutil.which(machine.emulator)
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = to_c(content, folder, core=core, measure=bool(measure and able))
            except ValueError as error:
                found.append(OnCore(core, note=str(error)))
                continue
        note = "" if able or not measure else "no compiler, or no QEMU, of this core here"
        found.append(OnCore(core, done.flash, done.arena, done.instructions, note))
    return found


def table(rows: Sequence[tuple[str, OnCore]]) -> Table:
    """A row a file and core.

    Args:
      rows: name of the file, and what it takes.
    """
    cells = [
        (name, one.core, one.flash, one.arena, one.instructions, one.note) for name, one in rows
    ]
    head = ("file", "core", "flash", "RAM", "instructions in QEMU", "")
    caption = "Bytes of constants and of the arena; instructions of one call."
    return Table(head, cells, ("", "", "{:,}", "{:,}", "{:,}", ""), caption)
