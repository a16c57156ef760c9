"""Teams of threads: in children of fork(), of several interpreters, of any number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.kernels import build as kernels
from ec2t_tf.export.litert import Interpreter, library
from tests.tflite.fixtures import outputs_of, random_inputs, run

HERE = Path(__file__).resolve().parent


def team_program(folder: Path, *flags: str) -> Path:
    """A C program that forks with a running team."""
    missing = kernels.host_target().missing_tools()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    output = folder / "teams"
    sources = [HERE / "teams.c", library.ROOM / "threads.c"]
    options = (*kernels.COMPILE_FLAGS, *kernels.STRICT_FLAGS, *flags, f"-I{library.ROOM}")
    command = [*kernels.host_target().compiler, *options, *map(str, sources)]
    subprocess.run([*command, "-pthread", "-o", str(output)], check=True)
    return output


def test_children_make_their_own_threads(tmp_path):
    """They run, run again, fork on and destroy a team that their parent started."""
    done = subprocess.run(
        [str(team_program(tmp_path))], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "every part ran once\n"), done


def in_child(work: Callable[[], bool], *, seconds: int = 60) -> int:
    """The exit status of a child that does `work`; a child that hangs is killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


FORKING = """
import sys
import numpy as np
from pathlib import Path
from tests.litert.test_forks_and_threads import in_child
from tests.tflite.fixtures import outputs_of, random_inputs
from ec2t_tf.export.litert import Interpreter

content = Path(sys.argv[1]).read_bytes()
inputs = random_inputs(content, 2)
claim = True if sys.argv[2] == "some" else "always"
interpreter = Interpreter(model_content=content, claim_int8=claim, num_threads=2)
expected = outputs_of(interpreter, inputs)

def again():
    return np.array_equal(outputs_of(interpreter, inputs), expected)

def destroyed():
    global interpreter
    del interpreter
    return True

codes = [in_child(again), in_child(lambda: in_child(again) == 0), in_child(destroyed)]
print(codes, again())
"""


@pytest.mark.parametrize("claim", ["always", "some"])
def test_an_interpreter_survives_fork(int8_nets, tmp_path, claim):
    """Also where XNNPACK, whose threads stay behind, runs some layers."""
    file = tmp_path / "net.tflite"
    file.write_bytes(int8_nets["resnet8"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(file), claim],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout == "[0, 0, 0] True\n", (done.stdout, done.stderr[-2000:])


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
def test_any_number_of_threads(int8_nets, number):
    content = int8_nets["lenet5"]
    inputs = random_inputs(content, 2)
    interpreter = Interpreter(
        model_content=content, claim_int8="always", num_threads=number or None
    )
    np.testing.assert_array_equal(outputs_of(interpreter, inputs), run(content, inputs))


def test_interpreters_in_threads(int8_nets):
    """Each has its own team and memory."""
    nets = [int8_nets[name] for name in ("lenet5", "resnet8", "lenet5", "depthwise")]
    inputs = [random_inputs(content, 3, seed=i) for i, content in enumerate(nets)]
    expected = [run(content, each) for content, each in zip(nets, inputs, strict=True)]
    results: list[np.ndarray | None] = [None] * len(nets)

    def work(number: int) -> None:
        interpreter = Interpreter(
            model_content=nets[number], claim_int8="always", num_threads=1 + number % 2
        )
        results[number] = outputs_of(interpreter, inputs[number])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
