"""C text of one kernel call: arrays, structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass
class Code:
    """C of one step; `flash` counts the bytes of its constants, `note` says what was chosen."""

    declarations: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    flash: int = 0
    note: str = ""
    tile: str = ""  # the tile shape this step uses

    def __iadd__(self, other: Code) -> Code:
        """What `other` does comes after; its note and tile are those of both."""
        self.declarations += other.declarations
        self.statements += other.statements
        self.flash += other.flash
        self.note, self.tile = other.note or self.note, other.tile or self.tile
        return self


@dataclass(frozen=True)
class Names:
    """C expressions of the addresses a step works on (row 0, column 0) and its number."""

    index: int
    inputs: tuple[str, ...]
    output: str
    scratch: str


def array(type_name: str, name: str, values: npt.ArrayLike, *, aligned: int = 0) -> str:
    """A constant array, at a multiple of `aligned` bytes; one 0 where there are no values."""
    flat = np.asarray(values).reshape(-1).tolist()
    suffix = "u" if type_name.startswith("u") else ""
    lines, line = [], ""
    for value in flat or [0]:
        item = f"{value}{suffix}, "
        if len(line) + len(item) > 96:
            lines.append(line.rstrip())
            line = ""
        line += item
    lines.append(line.rstrip())
    place = f"_Alignas({aligned}) " if aligned else ""
    return f"static const {place}{type_name} {name}[] = {{\n    " + "\n    ".join(lines) + "};"


def struct(kind: str, name: str, members: Mapping[str, object]) -> str:
    """A constant ec2t_mcu_`kind`; every member is named, so none can take another's place."""
    return f"static const ec2t_mcu_{kind} {name} = {initialiser(members)};"


def initialiser(members: Mapping[str, object]) -> str:
    """A C initialiser by name."""
    return "{" + ", ".join(f".{name} = {value}" for name, value in members.items()) + "}"


def clamp(zero_point: int, minimum: int = -128, maximum: int = 127) -> str:
    """A C initialiser of ec2t_mcu_clamp."""
    return initialiser({"zero_point": zero_point, "minimum": minimum, "maximum": maximum})
