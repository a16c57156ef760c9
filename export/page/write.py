"""A page about files and runs, and the same figures beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ec2t_tf import files
from ec2t_tf.tables import Table

from .. import reports
from .comparison import comparison
from .document import html
from .made_by import made_by
from .of_files import file_sections, headlines
from .subjects import Subject, labels, subject


def write_page(paths: Sequence[str | os.PathLike], output: str | os.PathLike) -> list[Path]:
    """One HTML file about `.tflite` files and runs; the same figures beside it as .json and .csv.

    Args:
      paths: files, and folders that the training script left; several are compared.
      output: the page, `name.html`; all figures go to `name.json`, the table of kernels to
        `name.csv`.

    Returns:
      What was written, the page first.

    Raises:
      ValueError: `output` does not end in .html, or a file is no `.tflite` file.
      OSError: a file is missing.
      ImportError: matplotlib is missing.
    """
    output = Path(output)
    if output.suffix != ".html":
        raise ValueError(f"A name that ends in .html is required. Received: '{output}'.")
    subjects = [subject(path) for path in paths]
    names = labels(subjects)
    first = headlines(subjects[0].report, subjects[0].metrics) if len(subjects) == 1 else []
    sections = comparison(subjects, names)
    for one, name in zip(subjects, names, strict=True):
        sections += file_sections(one.report, name)
    document = html(", ".join(names), [*sections, made_by()], first)
    others = {
        ".json": json.dumps([one.as_dict() for one in subjects], indent=1) + "\n",
        ".csv": kernels(subjects, names).csv(),
    }
    written = [output]
    for suffix, text in others.items():
        written.append(output.with_suffix(suffix))
        files.write_text(written[-1], text)
    files.write_text(output, document)
    return written


def kernels(subjects: Sequence[Subject], names: Sequence[str]) -> Table:
    """The kernels of all files in one table."""
    rows = [
        (name, *row)
        for one, name in zip(subjects, names, strict=True)
        for row in one.report.table().rows
    ]
    return Table(("file", *reports.HEAD), rows, ("", *reports.FORMATS))
