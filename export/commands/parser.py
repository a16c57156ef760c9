"""One style of help and of errors: the useful line first, exit code 2."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Collection
from typing import NamedTuple, NoReturn


class Command(NamedTuple):
    """What `ec2t NAME` does.

    Attributes:
      help: one line of `ec2t --help`.
      arguments: adds its arguments to a parser.
      run: does it; raises ValueError, OSError or ImportError for what the user can mend.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """argparse, with an error of one line instead of the usage above it."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message}; see '{self.prog} --help'")

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            name = unknown[0].partition("=")[0]
            self.error(f"unknown argument '{unknown[0]}'{did_you_mean(name, options)}")
        return known


def count(text: str) -> int:
    """Of an argument: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"a whole number of at least 1 is required. Received: '{text}'"
        )
    return int(text)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """ ", did you mean '...'?", or nothing where no known word is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def say_error(message: str) -> int:
    """One line on standard error. Returns the exit code, 2."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def fail(message: str) -> NoReturn:
    """`say_error`, and the end of the program."""
    sys.exit(say_error(message))


def table(title: str, rows: Collection[tuple[str, str]]) -> str:
    """A heading and two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name.ljust(width)}  {text}" for name, text in rows)])
