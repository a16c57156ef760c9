"""`boards`: what C can be written for, and how a net does on each."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ec2t_tf.tables import Cell, Table

from .. import file_formats
from ..mcu import BOARDS, OPTIMIZE, Report, to_c

_HEAD = ("name", "board", "core", "MHz", "flash KiB", "RAM KiB", "flash is behind")
_NET_HEAD = ("board", "core", "fits", "flash", "RAM", "instructions", "cycles", "ms")
_NOTE = "flash: constants and code; RAM: arena, input, output, stack; cycles without wait states"


def boards_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, help="int8 .tflite file, or another format's")
    parser.add_argument("--optimize", default="balanced", choices=OPTIMIZE, help="as of --format=c")


def boards(arguments: argparse.Namespace) -> None:
    if arguments.file is None:
        rows = [
            (name, b.title, b.core, b.clock / 1e6, b.flash >> 10, b.ram >> 10, b.waits)
            for name, b in BOARDS.items()
        ]
        print(Table(_HEAD, rows, ("", "", "", "{:.0f}", "{:,}", "{:,}")).text())
        return
    content = file_formats.plain(arguments.file.read_bytes())
    nets: list[tuple[Cell, ...]] = []
    for name, board in BOARDS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = to_c(content, folder, board=name, optimize=arguments.optimize)
        nets.append((name, board.core, *_cells(report)))
    formats = ("", "", "", "{:,}", "{:,}", "{:,.0f}", "{:,.0f}", "{:.2f}")
    print(Table(_NET_HEAD, nets, formats).text())
    print(_NOTE)


def _cells(report: Report) -> tuple[Cell, ...]:
    estimate, none = report.estimate, "no estimate"
    cycles = None if estimate is None else estimate.cycles
    return (
        "yes" if report.fits else "no",
        report.firmware_flash,
        report.ram,
        none if estimate is None else estimate.instructions,
        none if cycles is None else cycles,
        none if report.milliseconds is None else report.milliseconds,
    )
