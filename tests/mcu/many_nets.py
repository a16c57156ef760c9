"""Many nets in one program, on the host or in QEMU, and what LiteRT's reference says to them."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ec2t_tf.export import integer, tflite
from ec2t_tf.export.graph import Graph, streaming
from ec2t_tf.export.integer.interpreter import outside
from ec2t_tf.export.mcu import OPTIMIZE, to_c
from ec2t_tf.export.mcu.operators.embedding import embedding_rows, without_negative_places
from tests import c_runner
from tests.bench import qemu

Codes = npt.NDArray[np.int8]

_MAIN = """
#include <stdint.h>
#include IO
INCLUDES
static int8_t input[INPUT_BYTES] __attribute__((aligned(4)));
static int8_t output[OUTPUT_BYTES];
typedef int (*net)(const int8_t *, int8_t *, uint8_t *);
CALLS
static const struct {
  net invoke; void (*reset)(uint8_t *); unsigned input, output, arena;
} nets[] = {
TABLE};
int main(void) {
  OPEN
  for (unsigned n = 0; n < sizeof nets / sizeof *nets; ++n) {
    uint8_t *arena = ARENA(nets[n].arena);
    for (unsigned run = 0; run < RUNS; ++run) {
      if (READ(input, nets[n].input) != nets[n].input) return 2;
      for (unsigned i = 0; i < nets[n].arena && !(run && nets[n].reset); ++i)
        arena[i] = (uint8_t)(i * 37u + run);
      if (!run && nets[n].reset) nets[n].reset(arena);
      if (nets[n].invoke(input, output, arena) != 0) return 3;
      if (WRITE(output, nets[n].output) != nets[n].output) return 4;
    }
    FREE(arena);
  }
  CLOSE
  return 0;
}
"""
_HOST = """
#include <stdio.h>
#include <stdlib.h>
#define OPEN
#define CLOSE
#define ARENA(size) malloc(size)
#define FREE(arena) free(arena)
#define READ(to, size) fread(to, 1, size, stdin)
#define WRITE(from, size) fwrite(from, 1, size, stdout)
"""

_FIRMWARE = """
#include "semihost.h"
#define OPEN \\
  const int from = semihost_open("input.bin", 1), to = semihost_open("output.bin", 5); \\
  if (from < 0 || to < 0) return 6;
#define CLOSE semihost_close(to);
enum { GUARD = 64 };
static uint8_t memory[ARENA_BYTES + GUARD] __attribute__((aligned(4)));
static int guarded(uint8_t *end) {
  for (unsigned i = 0; i < GUARD; ++i)
    if (end[i] != (uint8_t)(i * 29u)) return 0;
  return 1;
}
static uint8_t *arena_of(unsigned size) {
  for (unsigned i = 0; i < GUARD; ++i) memory[size + i] = (uint8_t)(i * 29u);
  return memory;
}
#define ARENA(size) arena_of(size)
#define FREE(arena) if (!guarded(arena + nets[n].arena)) return 7
#define READ(bytes, size) semihost_read(from, bytes, size)
#define WRITE(bytes, size) semihost_file_write(to, bytes, size)
"""


# LiteRT's reference kernels have no ELU; their SUM reads int8 as uint8 (docs/integer.md).
NO_REFERENCE = ("ELU", "SUM")
_BYTES = {"int32_t": 4}  # of an element; others have one


@dataclasses.dataclass(frozen=True)
class Net:
    """One of the nets of a program."""

    inputs: tuple[tuple[str, int], ...]  # type in C, elements
    outputs: tuple[tuple[str, int], ...]
    stateful: bool
    verb: str = "invoke"

    @staticmethod
    def of(model: bytes, *, stream: bool = False) -> Net:
        graph = tflite.read(model)
        if stream:
            graph = streaming.stream(graph).graph

        def ends(indices: Sequence[int]) -> tuple[tuple[str, int], ...]:
            tensors = [graph.tensors[i] for i in indices]
            types = {"uint8": "uint8_t", "int32": "int32_t"}
            return tuple((types.get(t.dtype, "int8_t"), math.prod(t.shape)) for t in tensors)

        states = ("VAR_HANDLE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF")
        stateful = any(op.kind in states for op in graph.operators)
        verb = "step" if stream else "invoke"
        return Net(ends(graph.inputs), ends(graph.outputs), stateful, verb)

    @property
    def places(self) -> list[int]:
        """Where each input begins, and where the last ends: words of four bytes at multiples."""
        places, end = [], 0
        for type_name, size in self.inputs:
            width = _BYTES.get(type_name, 1)
            places.append(-(-end // width) * width)
            end = places[-1] + size * width
        return [*places, end]

    @property
    def places_out(self) -> list[int]:
        """The same of outputs, which are bytes."""
        return [sum(size for _, size in self.outputs[:k]) for k in range(len(self.outputs))]

    @property
    def size_in(self) -> int:
        """Bytes."""
        return self.places[-1]

    @property
    def size_out(self) -> int:
        return sum(size for _, size in self.outputs)

    def call(self, i: int) -> str:
        """A C function that takes all inputs and gives all outputs one behind the other. Those of
        every other net lie in the arena meanwhile, where the header has a place for them."""
        ends = [
            (f"{which}{'' if len(found) == 1 else f'_{k}'}", type_name, size, place)
            for which, found, places in (
                ("input", self.inputs, self.places),
                ("output", self.outputs, self.places_out),
            )
            for k, ((type_name, size), place) in enumerate(zip(found, places, strict=False))
        ]
        lines, after = [], []
        for name, type_name, size, place in ends:
            constant, outside = ("", "out") if name.startswith("output") else ("const ", "in")
            at = f"G{i}_{name.upper()}_PLACE"
            pointer = f"{constant}{type_name} *{name} = ({constant}{type_name} *)"
            length = size * _BYTES.get(type_name, 1)
            copy = f"  for (unsigned i = 0; i < {length}u; ++i) "
            lines += [
                f"#if defined({at}) && {i % 2}",
                f"  {pointer}(arena + {at});",
                *(
                    []
                    if outside == "out"
                    else [f"{copy}arena[{at} + i] = (uint8_t)in[{place} + i];"]
                ),
                "#else",
                f"  {pointer}({constant}void *)({outside} + {place});",
                "#endif",
            ]
            if outside == "out":
                copied = f"{copy}out[{place} + i] = (int8_t)arena[{at} + i];"
                after += [f"#if defined({at}) && {i % 2}", copied, "#endif"]
        arguments = ", ".join(name for name, *_ in ends)
        return "\n".join(
            [
                f"static int run_{i}(const int8_t *in, int8_t *out, uint8_t *arena) {{",
                *lines,
                f"  const int status = g{i}_{self.verb}({arguments}, arena);",
                *after,
                "  return status;",
                "}",
                "",
            ]
        )


def write(
    models: Sequence[bytes],
    folder: Path,
    *,
    core: str = "generic",
    stream: bool = False,
    optimize: str = "",
) -> tuple[list[Net], int]:
    """C of every model in one folder, named g0, g1, ...: the nets and the largest arena. Weights
    are kept in all ways in turn, or as `optimize` says."""
    arena = 0
    for i, model in enumerate(models):
        how = optimize or OPTIMIZE[i % 3]
        report = to_c(model, folder, core=core, name=f"g{i}", optimize=how, stream=stream)
        arena = max(arena, report.arena)
    return [Net.of(model, stream=stream) for model in models], arena


def main_of(found: Sequence[Net], runs: int) -> str:
    rows = [
        f"  {{run_{i}, {f'g{i}_reset' if net.stateful else '0'}, {net.size_in}u, {net.size_out}u, "
        f"G{i}_ARENA_SIZE}},\n"
        for i, net in enumerate(found)
    ]
    return (
        _MAIN.replace("INCLUDES", "".join(f'#include "g{i}.h"\n' for i in range(len(found))))
        .replace("CALLS", "".join(net.call(i) for i, net in enumerate(found)))
        .replace("TABLE", "".join(rows))
        .replace("INPUT_BYTES", str(max(net.size_in for net in found)))
        .replace("OUTPUT_BYTES", str(max(net.size_out for net in found)))
        .replace("RUNS", str(runs))
    )


def on_host(
    models: Sequence[bytes],
    values: Sequence[Codes],
    folder: Path,
    *,
    sanitize: bool,
    stream: bool = False,
    optimize: str = "",
) -> list[Codes]:
    """Outputs [runs, elements] of every model, all in one program.

    Args:
        models: Files.
        values: Of every model the inputs [runs, ...], several inputs one behind the other.
        folder: Where to write and build.
        sanitize: Under ASan and UBSan, or plain with -O2.
        stream: Every run is a step, with the frames that are new.
    """
    found, _ = write(models, folder, stream=stream, optimize=optimize)
    (folder / "io.h").write_text(_HOST)
    (folder / "main.c").write_text(main_of(found, len(values[0])).replace("IO", '"io.h"'))
    sources = [str(p) for p in sorted(folder.glob("*.c"))]
    flags = ["-std=c11", "-O1" if sanitize else "-O2", *c_runner.STRICT]
    flags += c_runner.SANITIZE if sanitize else []
    program = folder / "program"
    subprocess.run(["gcc", *flags, *sources, "-o", str(program)], check=True)
    given = b"".join(v.tobytes() for v in values)
    done = subprocess.run([str(program)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, f"program returned {done.returncode}: {done.stderr.decode()}"
    return split(done.stdout, found, len(values[0]))


def on_core(
    core: str,
    models: Sequence[bytes],
    values: Sequence[Codes],
    folder: Path,
    *,
    board: str | None = None,
    stream: bool = False,
    optimize: str = "",
) -> list[Codes]:
    """The same in QEMU, on a board that is not the core's own if there is one."""
    found, arena = write(models, folder, core=core, stream=stream, optimize=optimize)
    (folder / "io.h").write_text(_FIRMWARE.replace("ARENA_BYTES", str(arena)))
    main = folder / "firmware_main.c"
    main.write_text(main_of(found, len(values[0])).replace("IO", '"io.h"'))
    (folder / "input.bin").write_bytes(b"".join(v.tobytes() for v in values))
    board = board or core
    image = qemu.build(board, sorted(folder.glob("*.c")), folder / core, include=[folder])
    run = qemu.run(board, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    return split((folder / "output.bin").read_bytes(), found, len(values[0]))


def split(data: bytes, found: Sequence[Net], runs: int) -> list[Codes]:
    flat, outputs, place = np.frombuffer(data, np.int8), [], 0
    for net in found:
        outputs.append(flat[place : place + runs * net.size_out].reshape(runs, net.size_out))
        place += runs * net.size_out
    assert place == flat.size
    return outputs


def inputs(model: bytes, runs: int, *, seed: int) -> Codes:
    """Random inputs [runs, bytes], the first two extreme; whole numbers for an embedding fit its
    table."""
    graph, net = without_negative_places(tflite.read(model)), Net.of(model)
    random = np.random.default_rng(seed)
    values = random.integers(-128, 128, (runs, net.size_in)).astype(np.int8)
    values[0] = -128
    values[1:2] = 127
    for index, (_, size), place in zip(graph.inputs, net.inputs, net.places, strict=False):
        below = embedding_rows(graph, graph.operators, index)
        if below:
            words = random.integers(0, below, (runs, size)).astype("<i4")
            words[0], words[1:2] = 0, below - 1
            values[:, place : place + 4 * size] = words.view(np.int8)
    return values


def reference(model: bytes, values: Codes) -> Codes:
    """Outputs [runs, elements] of LiteRT's reference kernels, called one after the other: state is
    kept. Float inputs and outputs are in the codes of their operators at the border. Nets with an
    operator that those kernels lack or get wrong are computed by the integer graph."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph, places = tflite.read(model), Net.of(model).places
    if any(op.kind in NO_REFERENCE for op in graph.operators):
        return in_integers(graph, values)
    for op in graph.operators:
        if op.kind == "TILE" and op.version == 3:  # the reference has version 1, on int8 too
            op.version = 1
            model = tflite.write(graph)
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    outputs = []
    for run in values.reshape(len(values), -1):
        details = interpreter.get_input_details()
        for detail, index, codes in zip(
            details, graph.inputs, _entered(graph, places, run), strict=True
        ):
            if detail["dtype"] == np.float32:
                inner = graph.tensors[_border(graph, index)]
                real = (codes.astype(np.int64) - inner.zero_point[0]) * inner.scale[0]
                interpreter.set_tensor(detail["index"], real.astype(np.float32))
            else:
                interpreter.set_tensor(detail["index"], codes.view(detail["dtype"]))
        interpreter.invoke()
        found = []
        for detail, index in zip(interpreter.get_output_details(), graph.outputs, strict=True):
            out = interpreter.get_tensor(detail["index"])
            if out.dtype == np.float32:
                inner = graph.tensors[_border(graph, index)]
                out = np.rint(out / inner.scale[0] + inner.zero_point[0]).astype(np.int8)
            found.append(out.view(np.int8).reshape(-1).copy())
        outputs.append(np.concatenate(found))
    return np.stack(outputs)


def _entered(graph: Graph, places: list[int], run: Codes) -> list[npt.NDArray[np.integer]]:
    """The inputs of one call out of its bytes: whole numbers as int32, others as int8."""
    found: list[npt.NDArray[np.integer]] = []
    for index, place in zip(graph.inputs, places, strict=False):
        tensor = graph.tensors[index]
        size = math.prod(tensor.shape)
        if tensor.dtype == "int32":
            found.append(run[place : place + 4 * size].copy().view("<i4").reshape(tensor.shape))
        else:
            found.append(run[place : place + size].reshape(tensor.shape))
    return found


def in_integers(graph: Graph, values: Codes) -> Codes:
    net, places = integer.Interpreter(graph), Net.of(tflite.write(graph)).places
    outputs = []
    for run in values.reshape(len(values), -1):
        given = [
            codes.view(graph.tensors[index].dtype).reshape(1, *outside(graph.tensors[index]))
            for index, codes in zip(graph.inputs, _entered(graph, places, run), strict=True)
        ]
        found = net(*given)
        parts = found if len(graph.outputs) > 1 else [found]
        outputs.append(np.concatenate([np.asarray(p).view(np.int8).reshape(-1) for p in parts]))
    return np.stack(outputs)


def _border(graph: Graph, index: int) -> int:
    """The int8 tensor behind a float input or output."""
    for op in graph.operators:
        if op.kind == "QUANTIZE" and op.inputs[0] == index:
            return op.outputs[0]
        if op.kind == "DEQUANTIZE" and op.outputs[0] == index:
            return op.inputs[0]
    raise AssertionError(f"tensor {index} is not at a border")


def differences(names: Sequence[object], got: Sequence[Codes], want: Sequence[Codes]) -> list[str]:
    return [
        f"{name}: {int((g != w).sum())} of {w.size} outputs differ"
        for name, g, w in zip(names, got, want, strict=True)
        if (g != w).any()
    ]
