"""The same net in stock and in our runtime, in turn in one run: the ratios are the result.

    python -m ec2t_tf.export benchmark net_int8.tflite --packed net_packed.tflite

Each round measures every contestant once, so that what else the machine does hits all of them; a
contestant's time is its shortest round, a ratio that of two shortest rounds.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from ec2t_tf import progress

from .file_formats.layers import find_layers
from .graph.edit import single_operator
from .litert import Interpreter
from .tflite.reader import read
from .tflite.writer import write

ROUNDS = 15
ROUND_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: the contestant or the layer.
        microseconds: shortest time of one run.
        ratio: to the int8 file in the stock interpreter (XNNPACK).
        sparsity: share of zero weights of a layer; None for a whole net.
    """

    name: str
    microseconds: float
    ratio: float
    sparsity: float | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What `benchmark` measured: the whole net, and each ternary layer alone."""

    whole: list[Row]
    layers: list[Row]
    num_threads: int

    def __str__(self) -> str:
        lines = [f"{'whole net':<44} {'us':>10} {'to int8':>8}   ({self.num_threads} threads)"]
        lines += [f"{r.name:<44} {r.microseconds:>10.1f} {r.ratio:>8.3f}" for r in self.whole]
        if self.layers:
            lines += [
                "",
                f"{'layer alone, layout changes included':<44} {'us':>10} {'to int8':>8} "
                f"{'zeros':>6}",
            ]
            lines += [
                f"{r.name[-44:]:<44} {r.microseconds:>10.1f} {r.ratio:>8.3f} {r.sparsity:>6.1%}"
                for r in self.layers
            ]
        return "\n".join(lines)


def _ready(interpreter: Any) -> Callable[[], None]:
    """An interpreter with random inputs set: calling it runs the net."""
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        shape, dtype = detail["shape"], detail["dtype"]
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            value = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        else:
            value = rng.normal(size=shape).astype(dtype)
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter.invoke


def shortest_times(contestants: Sequence[Callable[[], None]], *, rounds: int) -> list[float]:
    """Seconds of one call of each contestant, measured in turn."""

    def one_round(run: Callable[[], None], calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - started) / calls

    calls = [max(1, int(ROUND_SECONDS / max(one_round(run, 3), 1e-7))) for run in contestants]
    shortest = [float("inf")] * len(contestants)
    for _ in range(rounds):
        for index, run in enumerate(contestants):
            shortest[index] = min(shortest[index], one_round(run, calls[index]))
    return shortest


def benchmark(
    int8: str | os.PathLike[str],
    *,
    packed: str | os.PathLike[str] | None = None,
    float_model: str | os.PathLike[str] | None = None,
    num_threads: int = 1,
    rounds: int = ROUNDS,
    layers: bool = True,
) -> Benchmark:
    """Measure a net in the stock interpreter and in ours.

    Args:
        int8: the int8 .tflite file.
        packed: the same net as `packed`, measured too.
        float_model: the same net as float, measured too.
        num_threads: threads of every interpreter.
        rounds: how often each contestant is measured.
        layers: also measure each ternary layer as a net of its own.

    Raises:
        ValueError: a file is damaged or no .tflite file.
        FileNotFoundError: a file, or the native library, is missing.
    """

    def stock(content: bytes) -> Callable[[], None]:
        return _ready(litert.Interpreter(model_content=content, num_threads=num_threads))

    def ours(content: bytes, **options: Any) -> Callable[[], None]:
        return _ready(Interpreter(model_content=content, num_threads=num_threads, **options))

    content = Path(int8).read_bytes()
    graph = read(content)
    contestants = {"int8, stock interpreter (XNNPACK)": stock(content)}
    contestants["int8, ec2t_tf"] = ours(content)
    if packed is not None:
        contestants["packed, ec2t_tf"] = ours(Path(packed).read_bytes())
    if float_model is not None:
        float_content = Path(float_model).read_bytes()
        read(float_content)
        contestants["float, stock interpreter (XNNPACK)"] = stock(float_content)
    with progress.working("measuring the whole net"):
        times = shortest_times(list(contestants.values()), rounds=rounds)
    whole = [
        Row(name, seconds * 1e6, seconds / times[0])
        for name, seconds in zip(contestants, times, strict=True)
    ]
    rows = []
    found = find_layers(graph)[0] if layers else []
    for layer in progress.bar(found, "measuring layers"):
        alone = write(single_operator(graph, layer.number))
        pair = [stock(alone), ours(alone, claim_int8="always")]
        dense, sparse = shortest_times(pair, rounds=max(3, rounds // 3))
        rows.append(Row(layer.name, sparse * 1e6, sparse / dense, layer.sparsity))
    return Benchmark(whole, rows, num_threads)
