"""The command `ec2t`: training and everything after it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ec2t_tf import __version__, lazy

TRAINING = {
    "train": "a float net, from it a ternary one, its file, verified, and a report",
    "sweep": "a grid of such runs: accuracy against sparsity, a table and plots",
    "zoo": "the trained nets that come with the package, or the card of one",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code: 2 after one line for a mistake of the user."""
    try:
        code = _main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has enough: `ec2t train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor an error at exit
        return 0
    return code


def _main(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    from ec2t_tf.export import commands
    from ec2t_tf.export.commands.parser import did_you_mean, say_error, table

    if arguments[:1] == ["--version"]:
        print(f"ec2t_tf {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        rows = [*TRAINING.items(), *((name, c.help) for name, c in commands.COMMANDS.items())]
        print(f"usage: ec2t COMMAND ...\n\n{table('commands:', rows)}\n")
        print("'ec2t COMMAND --help' says what each takes.")
        return 0 if arguments else 2
    name, *rest = arguments
    if name in TRAINING:
        module = {"train": "__main__", "sweep": "sweep", "zoo": "zoo.__main__"}[name]
        with lazy.needed_by(f"ec2t {name}"):
            return importlib.import_module(f"ec2t_tf.train.{module}").command(
                [f"ec2t {name}", *rest]
            )
    if name not in commands.COMMANDS:
        known = [*TRAINING, *commands.COMMANDS]
        return say_error(f"unknown command '{name}'{did_you_mean(name, known)}; see 'ec2t --help'")
    return commands.main(arguments, prog="ec2t")


if __name__ == "__main__":
    sys.exit(main())
