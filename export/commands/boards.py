"""`boards`: what C can be written for, and how a net does on each."""

from __future__ import annotations

import argparse
from pathlib import Path

from ec2t_tf.tables import Table

from .. import file_formats
from ..mcu import BOARDS, OPTIMIZE
from ..page.microcontrollers import boards as of_boards

_HEAD = ("name", "board", "core", "MHz", "flash KiB", "RAM KiB", "flash is behind")


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
    table = of_boards(file_formats.plain(arguments.file.read_bytes()), arguments.optimize)
    print(f"{table.text()}\n{table.caption}")
