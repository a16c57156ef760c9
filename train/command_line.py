"""absl flags with the help and the errors of the other commands."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence

from absl import app, flags, logging

from ec2t_tf.export.commands.parser import did_you_mean, fail

WIDTH = 100
KINDS = {
    "bool": "",
    "comma separated list of strings": "A,B,...",
    "float": "NUMBER",
    "int": "INTEGER",
    "multi string": "TEXT",
    "string": "TEXT",
}


def run(
    main: Callable[[list[str]], None],
    argv: Sequence[str],
    *,
    about: str,
    sections: Mapping[str, Collection[str]],
) -> int:
    """Parses flags and runs `main`. Returns the exit code.

    Args:
      argv: the program's name first.
      about: what `--help` says above the flags.
      sections: heading -> names of flags, in the order in which help shows them.
    """
    if any(argument in ("-h", "-help", "--help", "--helpshort") for argument in argv[1:]):
        print(help_text(argv[0], about, sections))
        return 0

    def parsed(arguments: list[str]) -> list[str]:
        try:
            return flags.FLAGS(arguments)
        except flags.UnrecognizedFlagError as error:
            near = did_you_mean(f"--{error.flagname}", [f"--{name}" for name in flags.FLAGS])
            message = f"unknown flag '--{error.flagname}'{near}; see '{argv[0]} --help'"
        except flags.Error as error:
            message = " ".join(str(error).split())
        fail(message)

    def without_help_on_errors(arguments: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        try:
            main(arguments)
        except app.UsageError as error:
            fail(str(error))

    app.run(without_help_on_errors, argv=list(argv), flags_parser=parsed)
    return 0


def help_text(program: str, about: str, sections: Mapping[str, Collection[str]]) -> str:
    """Every flag under its heading, with its default."""
    lines = [f"usage: {program} [--flag=value ...]", "", *textwrap.wrap(about, WIDTH)]
    for heading, names in sections.items():
        lines += ["", f"{heading}:"]
        for name in names:
            flag = flags.FLAGS[name]
            values = getattr(flag.parser, "enum_values", None)
            said = flag.help.partition(";\n    repeat this option")[0].removeprefix(
                f"<{'|'.join(values or ())}>: "
            )
            shown = "{" + ",".join(values) + "}" if values else KINDS[flag.flag_type()]
            head = f"  --[no]{name}" if flag.boolean else f"  --{name}={shown}"
            default = flag.default
            said += "" if default in (None, False, []) else f" (default {default})"
            lines.append(head)
            lines += textwrap.wrap(said, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)
