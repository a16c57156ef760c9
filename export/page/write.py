"""A page about files and runs, and the same figures beside it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ec2t_tf import files
from ec2t_tf.tables import Table

from .. import reports
from .comparison import comparison
from .document import Section, html, tables
from .made_by import made_by
from .microcontrollers import on_cores, parts, table
from .of_files import file_sections, headlines
from .subjects import Subject, labels, subject


def write_page(
    paths: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    cores: Sequence[str] = (),
    measure: bool = False,
) -> list[Path]:
    """One HTML file about `.tflite` files and runs; the same figures beside it as .json and .csv.

    Args:
      paths: files, and folders that the training script left; several are compared.
      output: the page, `name.html`; all figures go to `name.json`, the table of kernels to
        `name.csv`; the page's other tables are in `name.json` too.
      cores, measure: see `subjects_of`.

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
    return write_subjects(subjects_of(paths, cores=cores, measure=measure), output)


def subjects_of(
    paths: Sequence[str | os.PathLike], *, cores: Sequence[str] = (), measure: bool = False
) -> list[Subject]:
    """Files and runs, and what they take as C.

    Args:
      cores: of `to_c`; of each flash and RAM are said.
      measure: and the instructions of one call in QEMU.
    """
    found = [subject(path) for path in paths]
    if not cores:
        return found
    return [
        dataclasses.replace(one, cores=tuple(on_cores(one.file, cores, measure=measure)))
        for one in found
    ]


def write_subjects(subjects: Sequence[Subject], output: Path) -> list[Path]:
    """`write_page` of what was read before."""
    if output.suffix != ".html":
        raise ValueError(f"A name that ends in .html is required. Received: '{output}'.")
    names = labels(subjects)
    first = headlines(subjects[0].report, subjects[0].metrics) if len(subjects) == 1 else []
    sections = comparison(subjects, names)
    for one, name in zip(subjects, names, strict=True):
        sections += file_sections(one.report, name)
    for one, name in zip(subjects, names, strict=True):
        sections.append(Section(f"{name} on microcontrollers", parts(one.file)))
    cores = [(name, core) for one, name in zip(subjects, names, strict=True) for core in one.cores]
    if cores:
        sections.append(Section("On each core", [table(cores)]))
    document = html(", ".join(names), [*sections, made_by()], first)
    figures = {"files": [one.as_dict() for one in subjects], "tables": tables(sections)}
    others = {
        ".json": json.dumps(figures, indent=1) + "\n",
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
