"""Commands that start from files already written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ec2t_tf import files

from .. import file_formats
from ..file_formats import FORMATS
from ..mcu import CORES, to_c
from .convert import C_OPTIONS, CHANGED, format_arguments, format_options, read_data, trust_argument
from .parser import count

if TYPE_CHECKING:
    from ..verification import Verification


def report(arguments: argparse.Namespace) -> None:
    from ..page.comparison import notes, side_by_side
    from ..page.microcontrollers import table
    from ..page.subjects import labels
    from ..page.write import subjects_of, write_subjects

    if arguments.html and arguments.html.suffix != ".html":
        raise ValueError(f"A name that ends in .html is required. Received: '{arguments.html}'.")
    if arguments.measure and not arguments.cores:
        raise ValueError("--measure requires --cores, such as --cores=m4,m55. Received none.")
    unknown = [core for core in arguments.cores if core not in CORES]
    if unknown:
        raise ValueError(f"--cores must be among {', '.join(CORES)}. Received: {unknown[0]}.")
    subjects = subjects_of(arguments.files, cores=arguments.cores, measure=arguments.measure)
    names = labels(subjects)
    if not arguments.compare:
        print("\n\n".join(str(one.report) for one in subjects))
        rows = [
            (name, core) for one, name in zip(subjects, names, strict=True) for core in one.cores
        ]
        if rows:
            print(f"\n{table(rows).text()}")
    else:
        print(side_by_side(subjects, names).text())
        if said := notes(subjects, names):
            print(f"\n{said}")
    for path in write_subjects(subjects, arguments.html) if arguments.html else ():
        print(path)


def summary(arguments: argparse.Namespace) -> None:
    if arguments.model.suffix == ".tflite":  # before Keras is loaded, which takes seconds
        raise ValueError(
            "summary requires a saved model (.keras, .h5, SavedModel). Received: "
            f"'{arguments.model}'. Run: ec2t report {arguments.model}"
        )
    import ec2t_tf
    from ec2t_tf import quiet

    quiet.load_keras()
    from ec2t_tf.summary import kind_of, summary

    if arguments.output:  # before the model is read
        kind_of(arguments.output)
    try:
        found = summary(ec2t_tf.load_model(arguments.model, safe_mode=not arguments.no_safe_mode))
    except TypeError as error:
        raise ValueError(str(error)) from error
    print(found)
    if arguments.output:
        found.save(arguments.output)
        print(f"\n{arguments.output}")


def supported(arguments: argparse.Namespace) -> None:
    from .. import supported

    table = supported.layers() if arguments.layers else supported.operators()
    if arguments.csv:
        print(table.csv(), end="")
        return
    print(table.text())
    if not arguments.layers:
        print(f"\n{supported.legend()}")
        print("'--layers' lists the layers of Keras that a file can hold.")


def sizes(arguments: argparse.Namespace) -> None:
    from ..sizes import sizes, table

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


def verify(arguments: argparse.Namespace) -> None:
    from ..verification import verify_files

    reference = arguments.reference
    if not arguments.files and not arguments.cores:
        raise ValueError("files to compare, or --cores for their C, are required. Received none.")
    results: dict[str, Verification] = {}
    if arguments.cores:
        results = _verify_c([reference, *arguments.files], arguments.cores, arguments.inputs)
    if arguments.files and reference.suffix != ".tflite":
        import ec2t_tf
        from ec2t_tf import quiet

        quiet.load_keras()
        reference = ec2t_tf.load_model(reference, safe_mode=not arguments.no_safe_mode)
    data = None if arguments.data is None else read_data(arguments.data)
    if arguments.files:
        results |= verify_files(reference, arguments.files, data, inputs=arguments.inputs)
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


def _verify_c(paths: list[Path], cores: list[str], calls: int) -> dict[str, Verification]:
    """The C of every .tflite file beside its exact integers."""
    from ..c_verification import verify_c

    unknown = [core for core in cores if core not in CORES]
    if unknown:
        raise ValueError(f"--cores must be among {', '.join(CORES)}. Received: {unknown[0]}.")
    found = [path for path in paths if path.suffix == ".tflite"]
    if not found:
        raise ValueError(f"--cores requires a .tflite file. Received: {paths[0]}.")
    plain = {path: file_formats.plain(path.read_bytes()) for path in found}
    return {
        f"{path}, C for {core}": verify_c(plain[path], core=core, calls=calls)
        for path in found
        for core in cores
    }


def rewrite(arguments: argparse.Namespace) -> None:
    options = format_options(arguments)
    if arguments.io_dtype:
        if arguments.format not in CHANGED:
            raise ValueError(
                f"--io_dtype requires --format={' or '.join(CHANGED)}. "
                f"Received: --format={arguments.format}."
            )
        options["io_dtype"] = arguments.io_dtype
    if arguments.format == "c":
        content = file_formats.plain(arguments.file.read_bytes())
        of_c = {name: getattr(arguments, name) for name in C_OPTIONS}
        print(to_c(content, arguments.output, **of_c))
        return
    done = file_formats.rewrite(
        arguments.file, format=arguments.format, output=arguments.output, **options
    )
    print(f"{arguments.output}: {done}")


def unpack(arguments: argparse.Namespace) -> None:
    written = file_formats.unpack(arguments.file.read_bytes(), to=arguments.to)
    files.write_bytes(arguments.output, written)
    print(f"{arguments.output}: {len(written):,} bytes")


def benchmark(arguments: argparse.Namespace) -> None:
    from ..benchmark import benchmark

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


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, help=".tflite files, and folders of 'ec2t train'"
    )
    parser.add_argument(
        "--html",
        type=Path,
        help="also a page with plots, NAME.html, and its figures as NAME.json and NAME.csv",
    )
    add = parser.add_argument
    add("--compare", action="store_true", help="only the table that puts the files side by side")
    add(
        "--cores",
        type=_names,
        default=[],
        metavar="CORE,...",
        help=f"flash and RAM as C for these cores: {', '.join(CORES)}",
    )
    add(
        "--measure",
        action="store_true",
        help="of --cores: run each in QEMU, count instructions; "
        "without QEMU: run the C on this machine beside the file, estimate instructions",
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def summary_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="any saved model (.keras, .h5, SavedModel)")
    parser.add_argument("--output", type=Path, help="also a file: .json, .csv, .html or .txt")
    trust_argument(parser)


def supported_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers", action="store_true", help="layers of Keras instead of operators of a file"
    )
    parser.add_argument("--csv", action="store_true", help="the table as CSV")


def sizes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, help="int8 .tflite files with ternary layers"
    )
    parser.add_argument("--output_dir", type=Path, help="keep the files, in a folder for each net")


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reference",
        type=Path,
        help="the trained model (.keras, .h5, SavedModel), or a .tflite file",
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help=".tflite files and download files of the same net"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help=".npy file, float32 (count, *input shape), or .npz with one array an input; else "
        "random inputs that reach every code",
    )
    trust_argument(parser)
    parser.add_argument(
        "--inputs",
        type=count,
        default=64,
        help="number of random inputs, and of calls of the C (default 64)",
    )
    parser.add_argument(
        "--cores",
        type=_names,
        default=[],
        metavar="CORE,...",
        help="also every .tflite file as C for these cores, built and run: "
        "generic on this machine, others in QEMU",
    )
    parser.add_argument(
        "--most_steps",
        type=int,
        default=1,
        help="steps that a value may differ from the model's (default 1)",
    )


def rewrite_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"{form.name}: {form.summary}" for form in FORMATS.values())
    parser.add_argument("file", type=Path, help="int8 .tflite file, or one of another format")
    formats = [*FORMATS, "c"]
    parser.add_argument("--format", required=True, choices=formats, help="the format to write")
    parser.add_argument("--output", required=True, type=Path, help="file, or folder of C, to write")
    parser.add_argument(
        "--io_dtype",
        choices=("int8",),
        help=f"of {', '.join(CHANGED)}: int8 inputs and outputs, where the file quantises and "
        "dequantises its own",
    )
    format_arguments(parser)


def unpack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="file written with format=download")
    parser.add_argument("--to", default="packed", choices=("packed", "int8"), help="what to write")
    parser.add_argument("--output", required=True, type=Path, help=".tflite file to write")


def benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("int8", type=Path, help="int8 .tflite file")
    parser.add_argument("--packed", type=Path, help="the same net, packed")
    parser.add_argument("--float", type=Path, help="the same net, float")
    parser.add_argument(
        "--num_threads", type=count, default=1, help="of every interpreter (default 1)"
    )
    parser.add_argument("--rounds", type=count, default=15, help="measurements of each contestant")
    parser.add_argument("--no_layers", action="store_true", help="the whole net only")
