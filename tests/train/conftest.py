"""The training script, run in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from absl import flags
from absl.testing import flagsaver


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess]:
    """`python -m ec2t_tf.train FLAG...` without a process of its own, which loads Keras again.

    Not for what a run does to a process: its start, its end, its devices, its last bits.
    """
    from ec2t_tf.train.__main__ import command

    def run(*arguments: str) -> subprocess.CompletedProcess:
        capsys.readouterr()
        parsed = flags.FLAGS.is_parsed()
        code: int | str | None
        with flagsaver.flagsaver():
            try:
                code = command(["python -m ec2t_tf.train", *arguments])
            except SystemExit as stopped:
                code = stopped.code
        if not parsed:
            flags.FLAGS.unparse_flags()
        done = capsys.readouterr()
        assert not isinstance(code, str), code
        return subprocess.CompletedProcess(arguments, code or 0, done.out, done.err)

    return run
