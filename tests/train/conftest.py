"""The training script, run in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from absl import flags
from absl.testing import flagsaver

from tests.run_here import run_here


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess]:
    """`python -m ec2t_tf.train FLAG...` without a process of its own, which loads Keras again.

    Not for what a run does to a process: its start, its end, its devices, its last bits.
    """
    from ec2t_tf.train.__main__ import command

    def run(*arguments: str) -> subprocess.CompletedProcess:
        parsed = flags.FLAGS.is_parsed()
        with flagsaver.flagsaver():
            done = run_here(lambda: command(["python -m ec2t_tf.train", *arguments]), capsys)
        if not parsed:
            flags.FLAGS.unparse_flags()
        return done

    return run
