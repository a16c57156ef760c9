"""Progress: on a terminal, after two seconds; silence elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

BAR = """
import time
from ec2t_tf import progress
progress.DELAY = {delay}
for _ in progress.bar(range(4), "counting sheep"):
    time.sleep(0.3)
with progress.working("sleeping"):
    time.sleep({seconds})
print("end")
"""


def on_a_terminal(code: str) -> str:
    """What a program writes on a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, text=True
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        found += read
    os.close(ours)
    assert process.stdout is not None
    assert process.stdout.read() == "end\n"
    process.stdout.close()
    assert process.wait() == 0
    return found.decode()


def test_on_a_terminal() -> None:
    said = on_a_terminal(BAR.format(delay=0.2, seconds=1.2))
    assert "counting sheep" in said
    assert "4/4" in said or "3/4" in said
    assert "sleeping: 00:0" in said


def test_what_is_quick_says_nothing() -> None:
    assert on_a_terminal(BAR.format(delay=60.0, seconds=0.1)) == ""


@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_elsewhere(delay: float) -> None:
    code = BAR.format(delay=delay, seconds=0.6)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_an_error_inside_comes_through() -> None:
    from ec2t_tf import progress

    with pytest.raises(ValueError, match="inside"), progress.working("failing"):
        raise ValueError("inside")
