"""A command in the process of the tests: Keras, which takes seconds to load, is loaded already."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest


def run_here(
    command: Callable[[], int | None], capture: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    """What a process of its own would have come to; `capture` is `capsys` or `capfd`."""
    capture.readouterr()
    code: int | str | None
    try:
        code = command()
    except SystemExit as stopped:
        code = stopped.code
    assert not isinstance(code, str), code
    return subprocess.CompletedProcess([], code or 0, *capture.readouterr())
