"""A table once, to be read as text, CSV or Markdown; `export/page` shows it as HTML."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

Cell = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a head.

    Numbers stand on the right, and are sorted as numbers where a table can be sorted: give them as
    numbers, with `formats` by column ("{:,}", "{:.1%}"). None is an empty cell.

    Attributes:
      total: a row below a line, which is never sorted in.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    formats: Sequence[str] = ()
    caption: str = ""
    total: Sequence[Cell] = ()

    def form(self, column: int, value: Cell) -> str:
        """A cell in words."""
        if value is None or isinstance(value, str):
            return value or ""
        return ((self.formats[column] if column < len(self.formats) else "") or "{}").format(value)

    @property
    def is_number(self) -> list[bool]:
        """By column."""
        return [
            any(isinstance(row[column], int | float) for row in self.rows)
            for column in range(len(self.head))
        ]

    def without_empty_columns(self) -> Table:
        """Without columns that have no figure in any row; a table without rows as it is."""
        kept = [
            column
            for column in range(len(self.head))
            if any(row[column] not in (None, "") for row in self.rows) or not self.rows
        ]

        def only(cells: Sequence[Any]) -> list[Any]:
            return [cells[column] for column in kept if column < len(cells)]

        return dataclasses.replace(
            self,
            head=only(self.head),
            rows=[only(row) for row in self.rows],
            formats=only([*self.formats, *[""] * (len(self.head) - len(self.formats))]),
            total=only(self.total),
        )

    def text(self, *, rule: bool = False) -> str:
        """Aligned columns, two spaces between; `rule` draws lines under the head and the rows."""
        body = [*self.rows, *([self.total] if self.total else [])]
        cells = [list(self.head)]
        cells += [[self.form(i, value) for i, value in enumerate(row)] for row in body]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        numbers = self.is_number
        lines = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, numbers, strict=True)
            ).rstrip()
            for row in cells
        ]
        if rule:
            line = "  ".join("-" * width for width in widths)
            lines.insert(1, line)
            if self.total:
                lines.insert(len(lines) - 1, line)
        return "\n".join(lines)

    def csv(self) -> str:
        """The head and the rows, numbers as they are; no total."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return stream.getvalue()

    def markdown(self) -> str:
        """For a document."""
        marks = ["---:" if number else "---" for number in self.is_number]
        rows: list[Sequence[Any]] = [self.head, marks]
        rows += [[self.form(i, value) for i, value in enumerate(row)] for row in self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
