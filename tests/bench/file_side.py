"""Processor time and memory of commands that start from a file, and of their start alone.

python -m tests.bench.file_side
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests import nets

COMMANDS = {
    "help": "--help",
    "report": "report NET",
    "to_c": "rewrite NET --format=c --output=FOLDER/c",
    "packed": "rewrite NET --format=packed --output=FOLDER/packed.tflite",
}


@dataclass(frozen=True)
class Cost:
    """Of one process: user and system time, and the most memory it held."""

    seconds: float
    megabytes: float


def measure(name: str, rounds: int = 2) -> Cost:
    """The least of `rounds` runs of a command on the ResNet-8 of tests/nets.py."""
    with tempfile.TemporaryDirectory() as scratch:
        net = Path(scratch, "net.tflite")
        net.write_bytes(nets.resnet8())
        words = COMMANDS[name].replace("NET", str(net)).replace("FOLDER", scratch).split()
        return _least([sys.executable, "-m", "ec2t_tf.export", *words], rounds)


def _least(command: list[str], rounds: int) -> Cost:
    return min((_cost(command) for _ in range(rounds)), key=lambda cost: cost.seconds)


def _cost(command: list[str]) -> Cost:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    with process.stderr:
        assert process.returncode in (0, 1), process.stderr.read().decode()
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    costs = {name: measure(name, rounds=3) for name in COMMANDS}
    costs["numpy"] = _least([sys.executable, "-c", "import numpy"], 3)  # of this machine, now
    if sys.argv[1:] == ["--json"]:
        print(json.dumps({name: vars(cost) for name, cost in costs.items()}))
        return
    print(f"{'command':<10}{'CPU s':>8}{'MB':>8}")
    for name, cost in costs.items():
        print(f"{name:<10}{cost.seconds:>8.2f}{cost.megabytes:>8.0f}")


if __name__ == "__main__":
    main()
