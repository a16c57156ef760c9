"""The C of a file built and run on this machine, its outputs beside the file's own."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf import progress

from . import integer
from .file_formats import plain
from .graph import Graph, Tensor
from .mcu import to_c
from .running import input_codes
from .tflite.reader import read

COMPILERS = ("cc", "gcc", "clang")
INPUTS = 16
_CODES = ("int8", "uint8")
_MAIN = """
#include <stdio.h>
#include "model.h"
BUFFERS
static uint8_t arena[MODEL_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) {
    while (fread(FIRST, 1, sizeof FIRST, stdin) == sizeof FIRST) {
        READ
        if (model_invoke(ALL, arena) != 0) return 1;
        WRITE
    }
    return 0;
}
"""


def differing(model: bytes | Path, *, count: int = INPUTS, seed: int = 0) -> int:
    """How many of `count` random inputs give other outputs in C (core "generic", compiled and run
    here) than the file does in exact integers, rounded as TensorFlow Lite's reference kernels do.

    Args:
      model: bytes or path of a file of any format.

    Raises:
      ValueError: there is no C compiler, the C cannot be written or does not run, the net keeps
        state, or an input or output is not of 8 bits.
    """
    compiler = next((one for one in COMPILERS if shutil.which(one)), None)
    if compiler is None:
        raise ValueError(f"one of {', '.join(COMPILERS)} is required to run C. Received: none.")
    content = plain(model)
    graph = read(content)
    reference = integer.Interpreter(graph)
    if reference.keeps_state:
        raise ValueError("a net without state is required. Received: one that keeps some.")
    ends = [_codes_of_input(graph, index) for index in graph.inputs]
    results = [_codes_of_output(graph, index) for index in graph.outputs]
    examples = input_codes(graph, count, seed=seed)
    codes = [_coded(value, end) for value, end in zip(examples, ends, strict=True)]
    given = [
        value if graph.tensors[index].dtype == "float32" else code
        for index, value, code in zip(graph.inputs, examples, codes, strict=True)
    ]
    found = reference(*given)
    wanted = [
        value if value.dtype.kind in "iu" else _coded(value, result)
        for value, result in zip(
            found if isinstance(found, list) else [found], results, strict=True
        )
    ]
    printed = _run(compiler, content, codes, results)
    rows = np.concatenate([_bytes(value) for value in wanted], axis=1)
    if printed.size != rows.size:
        raise ValueError(f"{rows.size} bytes are required of the C. Received: {printed.size}.")
    return int((printed.reshape(rows.shape) != rows).any(axis=1).sum())


def _run(
    compiler: str, content: bytes, codes: list[npt.NDArray[Any]], results: list[Tensor]
) -> npt.NDArray[np.uint8]:
    """The bytes of all outputs, example by example."""
    entries, outputs = _names("input", len(codes)), _names("output", len(results))
    buffers = [
        f"static {value.dtype}_t {name}[{math.prod(value.shape[1:])}];"
        for name, value in zip(entries, codes, strict=True)
    ] + [
        f"static {result.dtype}_t {name}[{math.prod(result.shape)}];"
        for name, result in zip(outputs, results, strict=True)
    ]
    read_rest = [f"if (fread({n}, 1, sizeof {n}, stdin) != sizeof {n}) return 2;" for n in entries]
    write = [f"if (fwrite({n}, 1, sizeof {n}, stdout) != sizeof {n}) return 3;" for n in outputs]
    text = _MAIN.replace("BUFFERS", "\n".join(buffers)).replace("FIRST", entries[0])
    text = text.replace("READ", "\n        ".join(read_rest[1:]))
    text = text.replace("WRITE", "\n        ".join(write))
    text = text.replace("ALL", ", ".join([*entries, *outputs]))
    with tempfile.TemporaryDirectory() as name, progress.working("C built and run on this machine"):
        folder = Path(name) / "net"
        to_c(content, folder)
        (folder / "main.c").write_text(text)
        sources = [str(source) for source in sorted(folder.glob("*.c"))]
        build = [compiler, "-std=c11", "-O2", *sources, "-o", str(folder / "program")]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"C that compiles here is required. {compiler} says: {done.stderr}")
        sent = np.concatenate([_bytes(value) for value in codes], axis=1).tobytes()
        ran = subprocess.run([folder / "program"], input=sent, capture_output=True, check=False)
        if ran.returncode:
            raise ValueError(f"the C must return 0 on this machine. Received: {ran.returncode}.")
        return np.frombuffer(ran.stdout, np.uint8)


def _names(what: str, count: int) -> list[str]:
    return [what] if count == 1 else [f"{what}_{number}" for number in range(count)]


def _bytes(value: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(value.reshape(len(value), -1)).view(np.uint8)


def _codes_of_input(graph: Graph, index: int) -> Tensor:
    """The tensor of codes that an input is, or is quantised to."""
    sources = (
        o.outputs[0] for o in graph.operators if o.kind == "QUANTIZE" and o.inputs[0] == index
    )
    return _of_8_bits(graph, index, sources)


def _codes_of_output(graph: Graph, index: int) -> Tensor:
    """The tensor of codes that an output is, or is dequantised from."""
    sources = (
        o.inputs[0] for o in graph.operators if o.kind == "DEQUANTIZE" and o.outputs[0] == index
    )
    return _of_8_bits(graph, index, sources)


def _of_8_bits(graph: Graph, index: int, others: Any) -> Tensor:
    for one in (index, *others):
        tensor = graph.tensors[one]
        if tensor.dtype in _CODES and tensor.scale.size == 1:
            return tensor
    raise ValueError(
        f"inputs and outputs of 8 bits are required. Received: {graph.tensors[index].dtype} for "
        f"{graph.tensors[index].name!r}."
    )


def _coded(value: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
    limits = np.iinfo(tensor.dtype)
    codes = np.rint(value / tensor.scale[0]) + tensor.zero_point[0]
    return np.clip(codes, limits.min, limits.max).astype(tensor.dtype)
