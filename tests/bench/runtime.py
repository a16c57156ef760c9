"""Nets with random ternary weights in the stock interpreter (XNNPACK int8) and in ours.

    python -m tests.bench.runtime [--nets=FOLDER] [--num_threads=1] [--opening] [--write]

Prints the time and the memory of each net as shares of the stock interpreter's. Interpreters run
in turns of a few milliseconds, timed by the processor time of their process; the ratio is that of
the shortest turns, beside it the median of the ratios of neighbouring turns. Memory is what malloc
holds more than before once the interpreter has run; both map their file. Needs glibc 2.33.
With --opening it measures the processor time from the file to the first outputs instead, in turns
too: of the int8 file in either interpreter, packed with blobs read in place and with compact ones.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from ec2t_tf.export.litert import Interpreter
from tests.bench import runtime_table
from tests.tflite import nets
from tests.tflite.fixtures import packed

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")
TURNS = 60
TURN_SECONDS = 0.008
OPENINGS = 21


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Of our processor time to the stock interpreter's."""

    shortest: float
    median: float
    microseconds: float
    """The stock interpreter's shortest."""


def ready(interpreter: Any) -> Callable[[], None]:
    """An interpreter with random inputs; a call runs the net."""
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    values = np.random.default_rng(0).integers(-128, 128, detail["shape"], dtype=np.int8)
    interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return interpreter.invoke


def turn(run: Callable[[], None], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - started) / calls


def compare(stock: Callable[[], None], ours: Callable[[], None]) -> Ratio:
    """Turn by turn, the order changing."""
    calls = [max(1, int(TURN_SECONDS / max(turn(run, 5), 1e-7))) for run in (stock, ours)]
    times: list[tuple[float, float]] = []
    for index in range(TURNS):
        if index % 2:
            first = turn(stock, calls[0])
            times.append((first, turn(ours, calls[1])))
        else:
            second = turn(ours, calls[1])
            times.append((turn(stock, calls[0]), second))
    shortest = min(a for a, _ in times), min(b for _, b in times)
    return Ratio(
        shortest[1] / shortest[0], statistics.median(b / a for a, b in times), 1e6 * shortest[0]
    )


def opening(make: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Seconds to open a file and run it once, of each in every turn."""
    turns: list[list[float]] = []
    for index in range(OPENINGS + 1):
        times = [0.0] * len(make)
        for place in range(len(make)):
            one = (place + index) % len(make)
            started = time.process_time()
            interpreter = make[one]()
            interpreter.allocate_tensors()
            interpreter.invoke()
            times[one] = time.process_time() - started
            del interpreter
        turns.append(times)
    return turns[1:]  # the first one loads libraries


def opened(file: Path, scratch: Path, num_threads: int) -> dict[str, Any]:
    """Milliseconds of the stock interpreter, the others' shares (shortest, median), and bytes."""
    files = {"int8": file}
    for name, goal in (("in place", "speed"), ("compact", "size")):
        files[name] = scratch / f"{goal}_{file.name}"
        files[name].write_bytes(packed(file.read_bytes(), optimize=goal))
    makes: list[Callable[[], Any]] = [
        lambda: litert.Interpreter(str(files["int8"]), num_threads=num_threads)
    ]
    for path in files.values():
        makes.append(lambda path=path: Interpreter(str(path), num_threads=num_threads))
    stock, *ours = zip(*opening(makes), strict=True)
    row: dict[str, Any] = {"xnnpack": {"milliseconds": round(1e3 * min(stock), 2)}}
    for name, times in zip(files, ours, strict=True):
        shares = (b / a for a, b in zip(stock, times, strict=True))
        row[name] = {
            "shortest": round(min(times) / min(stock), 2),
            "median": round(statistics.median(shares), 2),
            "bytes": files[name].stat().st_size,
        }
    return row


class Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated() -> int:
    """Bytes that malloc has given out and not had back."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def memory(make: Callable[[], Any]) -> int:
    """Bytes that an interpreter holds once it has run."""
    gc.collect()
    before = allocated()
    run = ready(make())
    run()
    gc.collect()
    return allocated() - before


def measured(file: Path, scratch: Path, num_threads: int) -> dict[str, Any]:
    """Time and memory of one net: a row of docs/runtime.json."""
    small = scratch / file.name
    small.write_bytes(packed(file.read_bytes()))
    stock = ready(litert.Interpreter(str(file), num_threads=num_threads))
    bytes_of_stock = memory(lambda: litert.Interpreter(str(file), num_threads=num_threads))
    row: dict[str, Any] = {"xnnpack": {"kibibytes": round(bytes_of_stock / 1024)}}
    for name, path in (("int8", file), ("packed", small)):
        ratio = compare(stock, ready(Interpreter(str(path), num_threads=num_threads)))
        row["xnnpack"].setdefault("microseconds", round(ratio.microseconds))
        held = memory(lambda path=path: Interpreter(str(path), num_threads=num_threads))
        row[name] = {
            "shortest": round(ratio.shortest, 3),
            "median": round(ratio.median, 3),
            "memory": round(held / bytes_of_stock, 2),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=Path, help="folder of the int8 files; made if it is missing")
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(NETS), help="nets, with commas between")
    parser.add_argument("--opening", action="store_true", help="measure that, and nothing else")
    parser.add_argument("--write", action="store_true", help="into docs/runtime.json and .md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.nets or Path(scratch) / "int8"
        if not all((folder / f"{name}.tflite").exists() for name in NETS):
            print("making the nets, a minute", flush=True)
            subprocess.run([sys.executable, "-m", "tests.tflite.nets", str(folder)], check=True)
        measure = opened if arguments.opening else measured
        rows = {
            name: measure(folder / f"{name}.tflite", Path(scratch), arguments.num_threads)
            for name in arguments.only.split(",")
        }
    print(f"{nets.SPARSITY:.0%} zeros, random ternary weights, {arguments.num_threads} thread(s)")
    section = "opening" if arguments.opening else "x86"
    print(runtime_table.RENDERED[section](rows), end="")
    if arguments.write:
        runtime_table.update(section, rows)


if __name__ == "__main__":
    main()
