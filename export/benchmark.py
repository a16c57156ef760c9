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

from ec2t_tf import progress, quiet
from ec2t_tf.tables import Table

from .file_formats.layers import find_layers
from .graph.edit import single_operator
from .litert import Interpreter
from .litert.requirements import require_biases
from .tflite.reader import read
from .tflite.writer import write

ROUNDS = 15
ROUND_SECONDS = 0.02
WORTH = 0.95  # of the time: what is called a gain
SMALL_NET = 100.0  # microseconds


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
    """What `benchmark` measured: the whole net, and each ternary layer alone.

    `ternary` is how many layers of the file are.
    """

    whole: list[Row]
    layers: list[Row]
    num_threads: int
    ternary: int

    def __str__(self) -> str:
        whole = Table(
            ("whole net", "us", "to int8"),
            [(r.name, r.microseconds, r.ratio) for r in self.whole],
            ("", "{:,.1f}", "{:.3f}"),
        )
        parts = [f"{whole.text()}\n({self.num_threads} threads)"]
        if self.layers:
            layers = Table(
                ("layer alone, layout changes included", "us", "to int8", "zeros"),
                [(r.name, r.microseconds, r.ratio, r.sparsity) for r in self.layers],
                ("", "{:,.1f}", "{:.3f}", "{:.1%}"),
            )
            parts.append(layers.text())
        return "\n\n".join([*parts, *([self.reason] if self.reason else [])])

    @property
    def reason(self) -> str:
        """Why nothing was gained; empty where something was."""
        if not self.ternary:
            return "Nothing can be gained: no layer of the file is ternary (see 'ec2t report')."
        ours = [row.ratio for row in self.whole if "ec2t_tf" in row.name]
        if not ours or ours[-1] < WORTH:  # the packed file's where there is one
            return ""
        time = self.whole[0].microseconds
        parts = []
        faster = [row for row in self.layers if row.ratio < WORTH]
        share = sum(row.microseconds / row.ratio for row in self.layers) / time
        if self.layers and not faster:
            slowest = min(self.layers, key=lambda row: row.ratio)
            parts.append(
                f"no ternary layer is faster alone than in XNNPACK (the nearest, {slowest.name}, "
                f"takes {slowest.ratio:.2f} of its time at {slowest.sparsity:.0%} zeros)"
            )
        elif faster and share < 0.5:
            parts.append(
                f"the ternary layers take {share:.0%} of the time, the rest is left as it is"
            )
        if time < SMALL_NET:
            parts.append(
                f"the whole net takes {time:,.0f} us, of which calls and changes of layout are a "
                "large part"
            )
        if not parts:
            parts.append("what its layers gain, the changes of layout between them take")
        return (
            f"Nothing is gained ({ours[-1]:.2f} of the time): {'; and '.join(parts)}. More zeros "
            "or wider layers would; a packed file is smaller all the same."
        )


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
        with quiet.starting():
            return _ready(litert.Interpreter(model_content=content, num_threads=num_threads))

    def ours(content: bytes, **options: Any) -> Callable[[], None]:
        with quiet.starting():
            return _ready(Interpreter(model_content=content, num_threads=num_threads, **options))

    content = Path(int8).read_bytes()
    graph = read(content)
    require_biases(graph)
    contestants = {"int8, stock interpreter (XNNPACK)": stock(content)}
    contestants["int8, ec2t_tf"] = ours(content)
    if packed is not None:
        contestants["packed, ec2t_tf"] = ours(Path(packed).read_bytes())
    if float_model is not None:
        float_content = Path(float_model).read_bytes()
        require_biases(read(float_content))
        contestants["float, stock interpreter (XNNPACK)"] = stock(float_content)
    with progress.working("measuring the whole net"):
        times = shortest_times(list(contestants.values()), rounds=rounds)
    whole = [
        Row(name, seconds * 1e6, seconds / times[0])
        for name, seconds in zip(contestants, times, strict=True)
    ]
    rows = []
    found = find_layers(graph)[0]
    ternary = len(found)
    for layer in progress.bar(found if layers else [], "measuring layers"):
        alone = write(single_operator(graph, layer.number))
        pair = [stock(alone), ours(alone, claim_int8="always")]
        dense, sparse = shortest_times(pair, rounds=max(3, rounds // 3))
        rows.append(Row(layer.name, sparse * 1e6, sparse / dense, layer.sparsity))
    return Benchmark(whole, rows, num_threads, ternary)
