"""The subcommands of `python -m ec2t_tf.export` that start from files already written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ec2t_tf import files

from .c import CORES, OPTIMIZE, to_c
from .file_formats import FORMATS, rewrite, unpack


def _report(arguments: argparse.Namespace) -> None:
    from .reports import report

    for file in arguments.files:
        print(report(file))


def _sizes(arguments: argparse.Namespace) -> None:
    from .sizes import sizes, table

    keep, files = arguments.output_dir, arguments.files
    names = [file.stem for file in files]
    if len(set(names)) < len(names):  # runs of the script all call theirs model.tflite
        names = [f"{file.resolve().parent.name}/{file.stem}" for file in files]
    if len(set(names)) < len(names):
        raise ValueError(
            "files of different names, or in folders of different names, are required. "
            f"Received: {', '.join(map(str, files))}."
        )
    print(
        table(
            sizes(file, name=name, output_dir=None if keep is None else keep / name)
            for file, name in zip(files, names, strict=True)
        )
    )


def read_data(path: str | Path) -> np.ndarray | list[np.ndarray]:
    """The array of a `.npy` file, or the arrays of a `.npz` one, an input of the net each."""
    arrays = files.read_arrays(path)
    return arrays[""] if list(arrays) == [""] else list(arrays.values())


def _verify(arguments: argparse.Namespace) -> None:
    from .verification import verify_files

    reference = arguments.reference
    if reference.suffix != ".tflite":
        import ec2t_tf

        reference = ec2t_tf.load_model(reference, safe_mode=not arguments.no_safe_mode)
    data = None if arguments.data is None else read_data(arguments.data)
    results = verify_files(reference, arguments.files, data, inputs=arguments.inputs)
    for name, result in results.items():
        print(f"{name}: {result}")
    failed = [
        name
        for name, result in results.items()
        if not result.passes(most_steps=arguments.most_steps)
    ]
    if failed:
        raise ValueError(
            "files of one net must be equal bit for bit, and a model and its files in 99 % of the "
            f"inputs' top-1 and of the values, those at most {arguments.most_steps} steps off "
            f"(--most_steps). Received: other outputs from {', '.join(failed)}."
        )


def _rewrite(arguments: argparse.Namespace) -> None:
    if arguments.format == "c":
        content = arguments.file.read_bytes()
        options = {
            name: getattr(arguments, name) for name in ("core", "optimize", "example", "measure")
        }
        print(to_c(content, arguments.output, **options))
        return
    done = rewrite(arguments.file, format=arguments.format, output=arguments.output)
    print(f"{arguments.output}: {done}")


def _unpack(arguments: argparse.Namespace) -> None:
    written = unpack(arguments.file.read_bytes(), to=arguments.to)
    files.write_bytes(arguments.output, written)
    print(f"{arguments.output}: {len(written):,} bytes")


def _benchmark(arguments: argparse.Namespace) -> None:
    from .benchmark import benchmark

    print(
        benchmark(
            arguments.int8,
            packed=arguments.packed,
            float_model=arguments.float,
            num_threads=arguments.num_threads,
            rounds=arguments.rounds,
            layers=not arguments.no_layers,
        )
    )


def parser() -> argparse.ArgumentParser:
    """The command line of all subcommands."""
    top = argparse.ArgumentParser(prog="python -m ec2t_tf.export", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("report", help="sizes of .tflite files, per layer")
    one.add_argument("files", nargs="+", type=Path, help=".tflite files")
    one.set_defaults(run=_report)

    one = commands.add_parser(
        "sizes", help="an int8 .tflite file in every format: a table of bytes on disk"
    )
    one.add_argument("files", nargs="+", type=Path, help="int8 .tflite files with ternary layers")
    one.add_argument("--output_dir", type=Path, help="keep the files, in a folder for each net")
    one.set_defaults(run=_sizes)

    one = commands.add_parser(
        "verify", help="the same inputs through a model and its files; difference in output steps"
    )
    one.add_argument(
        "reference",
        type=Path,
        help="the trained model (.keras, .h5, SavedModel), or a .tflite file",
    )
    one.add_argument(
        "files", nargs="+", type=Path, help=".tflite files and download files of the same net"
    )
    one.add_argument(
        "--data",
        type=Path,
        help=".npy file, float32 (count, *input shape), or .npz with one array an input; else "
        "random inputs that reach every code",
    )
    one.add_argument(
        "--no_safe_mode",
        action="store_true",
        help="run code that the model's file brings (Lambda layers): for a file that you trust",
    )
    one.add_argument("--inputs", type=int, default=64, help="number of random inputs (default 64)")
    one.add_argument(
        "--most_steps",
        type=int,
        default=1,
        help="steps that a value may differ from the model's (default 1)",
    )
    one.set_defaults(run=_verify)

    one = commands.add_parser(
        "rewrite",
        help="an int8 .tflite file in another format",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{form.name}: {form.summary}" for form in FORMATS.values()),
    )
    one.add_argument("file", type=Path, help="int8 .tflite file, or download file")
    formats = [*FORMATS, "c"]
    one.add_argument("--format", required=True, choices=formats, help="the format to write")
    one.add_argument("--output", required=True, type=Path, help="file, or folder of C, to write")
    one.add_argument("--core", default="generic", choices=CORES, help="of --format=c")
    one.add_argument("--optimize", default="balanced", choices=OPTIMIZE, help="of --format=c")
    one.add_argument("--example", action="store_true", help="of --format=c: a firmware for QEMU")
    one.add_argument("--measure", action="store_true", help="of --format=c: run it, count")
    one.set_defaults(run=_rewrite)

    one = commands.add_parser("unpack", help="a download file back to a .tflite file")
    one.add_argument("file", type=Path, help="file written with format=download")
    one.add_argument("--to", default="packed", choices=("packed", "int8"), help="what to write")
    one.add_argument("--output", required=True, type=Path, help=".tflite file to write")
    one.set_defaults(run=_unpack)

    one = commands.add_parser("benchmark", help="time in the stock interpreter and in ours")
    one.add_argument("int8", type=Path, help="int8 .tflite file")
    one.add_argument("--packed", type=Path, help="the same net, packed")
    one.add_argument("--float", type=Path, help="the same net, float")
    one.add_argument("--num_threads", type=int, default=1, help="of every interpreter (default 1)")
    one.add_argument("--rounds", type=int, default=15, help="measurements of each contestant")
    one.add_argument("--no_layers", action="store_true", help="the whole net only")
    one.set_defaults(run=_benchmark)
    return top


NAMES = ("report", "sizes", "verify", "rewrite", "unpack", "benchmark")


def main(arguments: Sequence[str]) -> int:
    """Run a subcommand; 2 and one line on standard error for a mistake of the user."""
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
