"""Is the C the net? It is built and run, call after call, beside the exact integers of the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf import progress

from . import integer, running
from .graph import FileError, Graph, Tensor
from .mcu import to_c
from .mcu.machines import MACHINES
from .tflite.reader import read
from .verification import Verification, compare

_HOST = """#include <stdio.h>
#define OPEN FILE *from = fopen("input.bin", "rb"), *to = fopen("output.bin", "wb"); \\
    if (!from || !to) return 2;
#define READ(end) (fread(end, 1, sizeof end, from) == sizeof end)
#define WRITE(end) (fwrite(end, 1, sizeof end, to) == sizeof end)
#define CLOSE fclose(from); if (fclose(to)) return 5;
"""
_FIRMWARE = """#include "semihost.h"
#define OPEN const int from = semihost_open("input.bin", 1), to = semihost_open("output.bin", 5); \\
    if (from < 0 || to < 0) return 2;
#define READ(end) (semihost_read(from, end, sizeof end) == sizeof end)
#define WRITE(end) (semihost_file_write(to, end, sizeof end) == sizeof end)
#define CLOSE semihost_close(from); semihost_close(to);
"""
_MAIN = """#include "net.h"
{buffers}
static uint8_t arena[NET_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) {{
    OPEN
    {reset}
    for (unsigned call = 0; call < {calls}u; ++call) {{
        if (!({reads})) return 3;
        if (net_invoke({arguments}, arena) != 0) return 4;
        if (!({writes})) return 5;
    }}
    CLOSE
    return 0;
}}
"""


@dataclass(frozen=True)
class _End:
    """An input or output: its name in C, the file's tensor, and the one that C has."""

    name: str
    tensor: Tensor
    inner: Tensor

    @property
    def dtype(self) -> npt.DTypeLike:
        return np.dtype(self.inner.dtype)

    def coded(self, values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Real values as C takes them."""
        if not self.inner.scale.size:  # numbers of words
            return values.astype(self.dtype)
        codes = np.rint(values / self.inner.scale[0]) + self.inner.zero_point[0]
        limits = np.iinfo(self.inner.dtype)
        return np.clip(codes, limits.min, limits.max).astype(self.dtype)

    def real(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Of codes; floats stay."""
        if not np.issubdtype(values.dtype, np.integer):
            return values.astype(np.float32)
        return (values.astype(np.float32) - self.inner.zero_point[0]) * self.inner.scale[0]


def verify_c(
    model: bytes | str | os.PathLike[str], *, core: str = "generic", calls: int = 16, seed: int = 0
) -> Verification:
    """Writes a net as C, builds and runs it, and compares it with the exact integers of its file.

    The calls follow each other: what a net keeps (variables, LSTM, SVDF) is reset once, before the
    first, and goes on from call to call in both. The result `passes` if every bit is equal.

    Args:
      model: bytes or path of a fully int8 .tflite file.
      core: "generic" is built with this machine's C compiler and runs here; another core's build
        runs in QEMU and needs the tools that `to_c(..., measure=True)` needs.
      calls: how many, on random inputs that reach every code.
      seed: of the inputs.

    Raises:
      FileError: C cannot be written for the file.
      NotExactError: an operator is not known bit for bit.
      ValueError: a compiler or QEMU is missing, or the program failed.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1. Received: {calls}.")
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    graph = read(content)
    inputs, outputs = _ends(graph, "input"), _ends(graph, "output")
    drawn = running.input_codes(graph, calls, seed=seed)
    given = [end.coded(values) for end, values in zip(inputs, drawn, strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        to_c(content, folder, core=core, name="net", example=core != "generic")
        place = folder if core == "generic" else folder / "example"
        stateful = "net_reset(" in (folder / "net.h").read_text()
        io = _HOST if core == "generic" else _FIRMWARE
        (place / "main.c").write_text(io + _main(inputs, outputs, calls, stateful=stateful))
        (place / "input.bin").write_bytes(
            b"".join(codes[call].tobytes() for call in range(calls) for codes in given)
        )
        with progress.working(f"building the C for {core} and running it"):
            _run(place, core)
        found = _split((place / "output.bin").read_bytes(), outputs, calls)
    net = integer.Interpreter(graph, rounding="reference")
    results: list[list[npt.NDArray[Any]]] = [[] for _ in outputs]
    for call in range(calls):
        entered = [
            values[call : call + 1] if end.tensor.dtype == "float32" else codes[call : call + 1]
            for end, values, codes in zip(inputs, drawn, given, strict=True)
        ]
        values = net(*entered)
        for kept, value in zip(results, values if len(outputs) > 1 else [values], strict=True):
            kept.append(np.asarray(value).reshape(-1))
    return Verification(
        calls,
        {
            end.tensor.name: compare(
                end.real(np.stack(want)), end.real(got), float(end.inner.scale[0])
            )
            for end, want, got in zip(outputs, results, found, strict=True)
        },
        exact=True,
    )


def _ends(graph: Graph, which: str) -> list[_End]:
    """Inputs or outputs; C has those in float as the file quantises or dequantises them."""
    indices = graph.inputs if which == "input" else graph.outputs
    inner = dict(zip(indices, indices, strict=True))
    for op in graph.operators:
        if which == "input" and op.kind in ("QUANTIZE", "CAST") and op.inputs[0] in inner:
            if graph.tensors[op.inputs[0]].dtype == "float32":
                inner[op.inputs[0]] = op.outputs[0]
        elif which == "output" and op.kind == "DEQUANTIZE" and op.outputs[0] in inner:
            inner[op.outputs[0]] = op.inputs[0]
    return [
        _End(
            which if len(indices) == 1 else f"{which}_{place}",
            graph.tensors[index],
            graph.tensors[inner[index]],
        )
        for place, index in enumerate(indices)
    ]


def _main(inputs: Sequence[_End], outputs: Sequence[_End], calls: int, *, stateful: bool) -> str:
    ends = (*inputs, *outputs)
    return _MAIN.format(
        buffers="\n".join(
            f"static {end.inner.dtype}_t {end.name}[NET_{end.name.upper()}_SIZE];" for end in ends
        ),
        reset="net_reset(arena);" if stateful else "",
        calls=calls,
        reads=" && ".join(f"READ({end.name})" for end in inputs),
        arguments=", ".join(end.name for end in ends),
        writes=" && ".join(f"WRITE({end.name})" for end in outputs),
    )


def _run(place: Path, core: str) -> None:
    """Builds and runs the program of a folder, there."""
    if core == "generic":
        compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), "")
        if not compiler:
            raise ValueError("a C compiler is required: cc, gcc or clang. None is installed.")
        sources = sorted(p.name for p in place.glob("*.c"))
        _done([compiler, "-std=c11", "-O2", *sources, "-o", "program"], place)
        _done([str(place / "program")], place)
        return
    machine = MACHINES[core]
    missing = [t for t in ("make", machine.compiler, machine.emulator) if not shutil.which(t)]
    if missing:
        raise ValueError(f"core={core!r} is run in QEMU. Missing: {', '.join(missing)}.")
    _done(["make", "run"], place)


def _done(command: list[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
        )


def _split(data: bytes, outputs: Sequence[_End], calls: int) -> list[npt.NDArray[Any]]:
    """Of every output [calls, elements]."""
    sizes = [int(np.prod(end.inner.shape)) for end in outputs]
    if len(data) != calls * sum(sizes):
        raise FileError(f"the program wrote {len(data)} bytes, not {calls} times {sum(sizes)}.")
    rows = np.frombuffer(data, np.uint8).reshape(calls, sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return [
        np.ascontiguousarray(part).view(end.dtype) for end, part in zip(outputs, parts, strict=True)
    ]
