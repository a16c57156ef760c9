"""Processor time of every command's help: `python -m tests.bench.command_line`.

Fails where one takes more than a second.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from ec2t_tf.__main__ import TRAINING
from ec2t_tf.export.commands import COMMANDS


def seconds(*arguments: str) -> float:
    """Processor time of one run, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "ec2t_tf", *arguments], stdout=subprocess.DEVNULL, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


MOST = 1.0


def main() -> int:
    slowest = 0.0
    for command in ("", *TRAINING, *COMMANDS):
        arguments = [command, "--help"] if command else ["--help"]
        best = min(seconds(*arguments) for _ in range(3))
        slowest = max(slowest, best)
        print(f"ec2t {' '.join(arguments):<20} {best:.2f} s of processor time")
    print(f"slowest {slowest:.2f} s, at most {MOST:.0f} s is aimed at")
    return int(slowest > MOST)


if __name__ == "__main__":
    sys.exit(main())
