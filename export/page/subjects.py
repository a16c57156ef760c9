"""What a page is about: a `.tflite` file, or the folder of a run with its file and its figures."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ec2t_tf import files

from ..file_formats import plain
from ..reports import Report, report
from ..tflite.reader import read
from ..verification import same_net
from .microcontrollers import OnCore

# Files of a run -> the figure of metrics.json that is theirs.
MEASURED = {"model.tflite": "tflite_accuracy", "float_int8.tflite": "int8_accuracy"}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A file, and what its training left.

    Attributes:
      metrics: of metrics.json; empty for a file alone.
      history: rows of history.csv; perhaps none.
      accuracy: top-1 of the file, 0 to 1, where its run measured it.
      cores: what it takes as C.
    """

    path: Path
    report: Report
    metrics: dict[str, Any]
    history: list[dict[str, str]]
    accuracy: float | None = None
    cores: tuple[OnCore, ...] = ()

    @property
    def file(self) -> Path:
        """The file itself."""
        return Path(self.report.file)

    def number(self, name: str) -> float | None:
        """A figure of its metrics, or None."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        more: dict[str, Any] = {"accuracy": self.accuracy} if self.accuracy is not None else {}
        if self.metrics:
            more |= {"metrics": self.metrics, "history": self.history}
        if self.cores:
            more["cores"] = [dataclasses.asdict(one) for one in self.cores]
        return self.report.as_dict() | more


def subject(path: str | os.PathLike) -> Subject:
    """Reads a file, or a folder that the training script left.

    Raises:
      OSError: it cannot be read, or the folder holds no model.tflite.
      ValueError: a file is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return Subject(path, report(path), {}, [], _accuracy(path))
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
    accuracy = found.get(MEASURED["model.tflite"])
    return Subject(path, report(path / "model.tflite"), found, rows, accuracy)


def _accuracy(path: Path) -> float | None:
    """What the run beside a file measured of it, or of the file whose net it stores."""
    metrics, model = path.with_name("metrics.json"), path.with_name("model.tflite")
    if not metrics.exists():
        return None
    found = files.read_json(metrics)
    name = path.name
    if name not in MEASURED and model.exists():
        same = same_net(read(plain(path)), read(plain(model)))
        name = "model.tflite" if same else ""
    value = found.get(MEASURED.get(name, "")) if isinstance(found, dict) else None
    return float(value) if isinstance(value, float) else None


def labels(subjects: Sequence[Subject]) -> list[str]:
    """Names that differ: the files' own where they do, else with as many folders as it takes."""
    parts = [one.path.resolve().parts for one in subjects]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len({tuple(part) for part in parts}):
            return names
    return ["/".join(part) for part in parts]
