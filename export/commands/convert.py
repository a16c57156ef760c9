"""`convert`: a trained model to a file, or to C."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ec2t_tf import files, progress

from ..file_formats import FORMATS
from ..file_formats.rounding import LEAST, MOST
from ..formats.choose import Goal
from ..mcu import BOARDS, CORES, OPTIMIZE

if TYPE_CHECKING:
    from ..convert import RepresentativeData

RUN_BY_LITERT = tuple(form.name for form in FORMATS.values() if "LiteRT" in form.runtimes)
C_OPTIONS = ("core", "optimize", "example", "measure", "stream", "board")
PACKED = tuple(form.name for form in FORMATS.values() if "optimize" in form.options)
CHANGED = tuple(form.name for form in FORMATS.values() if "round_within" in form.options)


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        required=True,
        type=Path,
        help="model saved by model.save (.keras, .h5 or SavedModel folder)",
    )
    add("--output", required=True, type=Path, help=".tflite file, or folder of C, to write")
    add(
        "--format",
        default="int8",
        choices=[*FORMATS, "c"],
        help="how weights are stored, see help(ec2t_tf.export.to_tflite); c: a folder of C "
        "(default int8)",
    )
    add(
        "--io_dtype",
        choices=("float32", "int8"),
        help="type of the file's input and output (default float32)",
    )
    add(
        "--allow_float",
        action="store_true",
        help="of no effect; goes with the next release",
    )
    add(
        "--data",
        type=Path,
        help=".npy file, float32 (count, *input shape), of about 100 typical inputs: measures the "
        "ranges of a model that ec2t_tf.apply did not make",
    )
    add(
        "--verify",
        type=Path,
        help=".npy file, float32 (count, *input shape): compare Keras with the file",
    )
    trust_argument(parser)
    format_arguments(parser)


def trust_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no_safe_mode",
        action="store_true",
        help="run code that the model's file brings (Lambda layers): for a file that you trust",
    )


def format_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of single formats, C among them."""
    add = parser.add_argument
    add(
        "--no_names",
        action="store_true",
        help="of packed and download: without names of tensors, signatures and notes",
    )
    add(
        "--round_within",
        type=float,
        help=f"of {', '.join(CHANGED)}: how many steps of its output ({LEAST:g} to {MOST:g}) a "
        "layer may be off: scales and biases keep the digits that needs (default: all)",
    )
    add("--board", choices=BOARDS, help="of --format=c: for that board, see 'boards'")
    add(
        "--core",
        choices=CORES,
        help="of --format=c: the processor's core (default generic)",
    )
    add(
        "--optimize",
        choices=list(dict.fromkeys((*OPTIMIZE, *get_args(Goal)))),
        help=f"of --format=c: {', '.join(OPTIMIZE)}: flash, instructions or RAM first (default "
        f"balanced); of packed and download: {', '.join(get_args(Goal))}: the smallest file, the "
        "soonest to open, or the smallest whatever the size of its layers (default size)",
    )
    add("--example", action="store_true", help="of --format=c: also a firmware that runs in QEMU")
    add(
        "--measure",
        action="store_true",
        help="of --format=c: run that firmware and count instructions",
    )
    add(
        "--stream",
        action="store_true",
        help="of --format=c: a function that takes the newest frames of a window that slides",
    )


def format_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of a format of files; fills in the defaults of --format=c, which has none.

    Raises:
      ValueError: an option was given that does not belong to the format.
    """
    packed = arguments.format in PACKED
    if arguments.no_names and not packed:
        raise ValueError(
            f"--no_names requires --format=packed or download. "
            f"Received: --format={arguments.format}."
        )
    if arguments.round_within is not None and arguments.format not in CHANGED:
        raise ValueError(
            f"--round_within requires --format={' or '.join(CHANGED)}. "
            f"Received: --format={arguments.format}."
        )
    goals: Sequence[str] = get_args(Goal) if packed else OPTIMIZE
    takes_goals = packed or arguments.format == "c"
    if takes_goals and arguments.optimize and arguments.optimize not in goals:
        raise ValueError(
            f"--optimize of --format={arguments.format} is {', '.join(goals)}. "
            f"Received: --optimize={arguments.optimize}."
        )
    if arguments.format == "c":
        arguments.core = arguments.core or "generic"
        arguments.optimize = arguments.optimize or "balanced"
        return {}
    given = [
        name
        for name in C_OPTIONS
        if getattr(arguments, name) and not (packed and name == "optimize")
    ]
    if given:
        others = ", packed or download" if given[0] == "optimize" else ""
        raise ValueError(
            f"--{given[0]} belongs to --format=c{others}. Received: --format={arguments.format}. "
            f"Leave --{given[0]} out, or choose another format."
        )
    options: dict[str, Any] = {"optimize": arguments.optimize} if arguments.optimize else {}
    if arguments.round_within is not None:
        options["round_within"] = arguments.round_within
    return options | ({"names": False} if arguments.no_names else {})


def read_data(path: str | Path) -> np.ndarray | list[np.ndarray]:
    """The array of a `.npy` file, or the arrays of a `.npz` one, an input of the net each."""
    arrays = files.read_arrays(path)
    return arrays[""] if list(arrays) == [""] else list(arrays.values())


def _convert(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    import ec2t_tf
    from ec2t_tf import export

    with progress.working(f"loading {arguments.model}"):
        model = ec2t_tf.load_model(arguments.model, safe_mode=not arguments.no_safe_mode)
    data: RepresentativeData | None = None
    if arguments.data is not None:
        arrays = read_data(arguments.data)
        # of a net with several inputs: one list an example
        data = list(zip(*arrays, strict=True)) if isinstance(arrays, list) else arrays
    if arguments.format == "c":
        of_c = {name: getattr(arguments, name) for name in C_OPTIONS}
        print(export.to_c(model, arguments.output, representative_data=data, **of_c))
        return
    export.to_tflite(
        model,
        arguments.output,
        format=arguments.format,
        representative_data=data,
        io_dtype=arguments.io_dtype or "float32",
        **options,
    )
    if arguments.format == "int8":
        print(export.report(arguments.output))
    else:
        size = os.path.getsize(arguments.output)
        print(f"{arguments.output}: {size:,} bytes ({arguments.format})")
    if arguments.verify:
        inputs = read_data(arguments.verify)
        print(export.verify(model, arguments.output, inputs))


def convert(arguments: argparse.Namespace) -> None:
    options = format_options(arguments)
    if arguments.format == "c" and arguments.allow_float:
        raise ValueError("--allow_float is of .tflite files: C has no float part. Leave it out.")
    if arguments.format == "c" and arguments.io_dtype:
        raise ValueError("--io_dtype is of .tflite files: C always takes int8. Leave it out.")
    if arguments.verify and arguments.format not in RUN_BY_LITERT:
        raise ValueError(
            f"--verify runs the file in the stock interpreter, which takes {RUN_BY_LITERT}. "
            f"Received: --format={arguments.format}"
        )
    from ec2t_tf import quiet

    quiet.load_keras()
    _convert(arguments, options)
