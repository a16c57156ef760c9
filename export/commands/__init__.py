"""The command line of all after training: `ec2t COMMAND`, `python -m ec2t_tf.export COMMAND`.

A model or a file that cannot be used is answered with one line and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ec2t_tf.export.commands import boards, convert, files
from ec2t_tf.export.commands.parser import Command, Parser, did_you_mean, say_error, table

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, Command] = {
    "convert": Command(
        "a trained model to a .tflite file or a folder of C",
        convert.convert_arguments,
        convert.convert,
    ),
    "rewrite": Command(
        "an int8 .tflite file in another format", files.rewrite_arguments, files.rewrite
    ),
    "report": Command(
        "what files and runs hold and cost: layers, bytes, cores, side by side; as a page",
        files.report_arguments,
        files.report,
    ),
    "verify": Command(
        "the same inputs through a model and its files; difference in output steps",
        files.verify_arguments,
        files.verify,
    ),
    "benchmark": Command(
        "time in the stock interpreter and in ours", files.benchmark_arguments, files.benchmark
    ),
    "sizes": Command(
        "an int8 .tflite file in every format: a table of bytes on disk",
        files.sizes_arguments,
        files.sizes,
    ),
    "summary": Command(
        "a model's layers: treatment, zeros, entropy, MACs, bytes",
        files.summary_arguments,
        files.summary,
    ),
    "supported": Command(
        "operators by runtime and core, and layers that a file can hold",
        files.supported_arguments,
        files.supported,
    ),
    "boards": Command(
        "boards that C can be written for; with a file: whether it fits, about how fast it is",
        boards.boards_arguments,
        boards.boards,
    ),
    "unpack": Command(
        "a download file back to a .tflite file", files.unpack_arguments, files.unpack
    ),
}


def main(arguments: Sequence[str], *, prog: str = "python -m ec2t_tf.export") -> int:
    """Runs a command. Returns the exit code: 2 after one line for a mistake of the user."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        rows = [(name, command.help) for name, command in COMMANDS.items()]
        print(f"usage: {prog} COMMAND ...\n\n{table('commands:', rows)}\n")
        print(f"'{prog} COMMAND --help' says what each takes.")
        return 0 if arguments else 2
    if arguments[0].startswith("--"):  # `convert` may be left out
        arguments = ["convert", *arguments]
    name, *rest = arguments
    if name not in COMMANDS:
        return say_error(
            f"unknown command '{name}'{did_you_mean(name, COMMANDS)}; see '{prog} --help'"
        )
    command = COMMANDS[name]
    parser = Parser(prog=f"{prog} {name}", description=command.help, allow_abbrev=False)
    command.arguments(parser)
    parsed = parser.parse_args(rest)
    try:
        command.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has enough: `... report FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor an error at exit
    except OSError as error:
        return say_error(f"'{error.filename}': {error.strerror}" if error.filename else str(error))
    except (ValueError, ImportError) as error:
        return say_error(str(error))
    return 0
