"""A table of finished runs in a CSV file: a search that is killed goes on where it stopped.

One row a run. A row is found again by its key columns, so a run that is in the file is never
repeated. Every row reaches the disk before the next run starts; a last line cut short by a kill
is dropped when the file is opened again.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ec2t_tf import files

Row = dict[str, str]


def _text(value: object) -> str:
    """Floats keep every digit (`repr`), so that a key read back equals the key written."""
    return repr(float(value)) if isinstance(value, float) else str(value)


class RunTable:
    """Rows of finished runs, on disk as CSV.

    Args:
      path: the CSV file; made (with its folder) when absent.
      key: columns that say which run a row is.
      columns: columns of the result.

    Raises:
      ValueError: the file at `path` has other columns, or holds a damaged row before its end.
    """

    def __init__(self, path: str | os.PathLike, *, key: Sequence[str], columns: Sequence[str]):
        self.path = Path(path)
        self.key = tuple(key)
        self.columns = self.key + tuple(columns)
        self._rows: dict[tuple[str, ...], Row] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        else:
            self._append(self.columns)

    def _read(self) -> None:
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a line without its end was being written
        lines = list(csv.reader(io.StringIO(whole)))
        if not lines and not text.startswith(self.columns[0][:1]):
            lines = [[text]]
        if lines and tuple(lines[0]) != self.columns:
            raise ValueError(
                f"A table with the columns {', '.join(self.columns)} is required. "
                f"Received: {self.path} with the columns {', '.join(lines[0])}. "
                "Give another file, or delete this one to start over."
            )
        for number, line in enumerate(lines[1:], start=2):
            if len(line) != len(self.columns):
                raise ValueError(
                    f"{len(self.columns)} fields a row are required. Received: {len(line)} in "
                    f"line {number} of {self.path}. Delete that line; its run is then repeated."
                )
            row = dict(zip(self.columns, line, strict=True))
            self._rows[self._key_of(row)] = row
        if whole != text or not lines:
            self._rewrite()

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[row[name] for name in self.columns] for row in self])
        files.write_text(self.path, text.getvalue())

    def _append(self, values: Sequence[object]) -> None:
        with open(self.path, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([_text(value) for value in values])
            file.flush()
            os.fsync(file.fileno())

    def _key_of(self, run: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(_text(run[name]) for name in self.key)

    def find(self, **run: object) -> Row | None:
        """The row of a finished run, or None. All key columns are required."""
        return self._rows.get(self._key_of(run))

    def add(self, **values: object) -> Row:
        """Write the row of a run that just finished.

        Raises:
          ValueError: a column is missing or unknown, or the run is in the table already.
        """
        if set(values) != set(self.columns):
            raise ValueError(
                f"Values for exactly {', '.join(self.columns)} are required. "
                f"Received: {', '.join(sorted(values))}."
            )
        key = self._key_of(values)
        if key in self._rows:
            raise ValueError(
                f"A run is written once. Received: {dict(zip(self.key, key, strict=True))}, "
                f"which is in {self.path} already. Ask `find` first."
            )
        row = {name: _text(values[name]) for name in self.columns}
        self._append([row[name] for name in self.columns])
        self._rows[key] = row
        return row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)
