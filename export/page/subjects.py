"""What a page is about: a `.tflite` file, or the folder of a run with its file and its figures."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ec2t_tf import files

from ..reports import Report, report


@dataclasses.dataclass(frozen=True)
class Subject:
    """A file, and what its training left.

    Attributes:
      metrics: of metrics.json; empty for a file alone.
      history: rows of history.csv; perhaps none.
    """

    path: Path
    report: Report
    metrics: dict[str, Any]
    history: list[dict[str, str]]

    def number(self, name: str) -> float | None:
        """A figure of its metrics, or None."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        more = {"metrics": self.metrics, "history": self.history} if self.metrics else {}
        return self.report.as_dict() | more


def subject(path: str | os.PathLike) -> Subject:
    """Reads a file, or a folder that the training script left.

    Raises:
      OSError: it cannot be read, or the folder holds no model.tflite.
      ValueError: a file is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return Subject(path, report(path), {}, [])
    if not (path / "model.tflite").exists():
        raise FileNotFoundError(
            f"A .tflite file, or the folder of a run with a model.tflite, is required. Received: "
            f"'{path}', a folder without one."
        )
    metrics = path / "metrics.json"
    found = files.read_json(metrics) if metrics.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"An object of figures is required. Received: '{metrics}' without one.")
    rows: list[dict[str, str]] = []
    if (path / "history.csv").exists():
        with (path / "history.csv").open(newline="", errors="replace") as file:
            rows = [row for row in csv.DictReader(file) if row.get("phase")]
    return Subject(path, report(path / "model.tflite"), found, rows)


def labels(subjects: Sequence[Subject]) -> list[str]:
    """Names that differ: the files' own where they do, else with as many folders as it takes."""
    parts = [one.path.resolve().parts for one in subjects]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len({tuple(part) for part in parts}):
            return names
    return ["/".join(part) for part in parts]
