"""Copies of rows of a map into another one, of nets in strips: the kernel call."""

from __future__ import annotations

from dataclasses import dataclass

from .code import Code, Names, struct
from .plan import Layout


@dataclass(frozen=True)
class RowCopy:
    """`rows` rows of `source` from `first` on, to rows of `out` from `place` on.

    Attributes:
        framed: The border of `out` is written after that.
    """

    source: Layout
    out: Layout
    rows: int
    first: int = 0
    place: int = 0
    framed: bool = True

    @property
    def writes_border(self) -> bool:
        return self.framed and not self.out.contiguous

    @property
    def at_once(self) -> bool:
        """Rows of one length lie one behind the other."""
        return self.source.pitch == self.out.pitch

    @property
    def runs(self) -> int:
        """Pieces of memory that are copied."""
        return self.source.channels * (1 if self.at_once else self.rows)

    @property
    def width(self) -> int:
        """Bytes of each."""
        rows = self.rows - 1 if self.at_once else 0
        return rows * self.source.pitch + self.source.width

    def code(self, names: Names) -> Code:
        n, source, out = names.index, self.source, self.out
        members = {
            "channels": source.channels,
            "rows": 1 if self.at_once else self.rows,
            "width": f"{self.width}u",
            "in_pitch": f"{source.pitch}u",
            "out_pitch": f"{out.pitch}u",
            "in_plane": f"{source.plane}u",
            "out_plane": f"{out.plane}u",
        }
        start = f"{names.inputs[0]} + {self.first * source.pitch}"
        end = f"{names.output} + {self.place * out.pitch}"
        code = Code(
            [struct("rows", f"layer_{n}", members)],
            [f"ec2t_mcu_rows_run(&layer_{n}, {start}, {end});"],
            24,
        )
        if self.writes_border:
            code.declarations.append(f"static const ec2t_mcu_planar out_{n} = {out.c()};")
            code.statements.append(f"ec2t_mcu_frame(&out_{n}, {names.output});")
            code.flash += 16
        return code
