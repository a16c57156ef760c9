"""Graphs drawn by seed out of every operator the C exporter takes, in any order, on maps of 1 to 9
rows and columns; and the program that runs many of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.c import OPTIMIZE, graph, to_c
from tests import c_runner
from tests.bench import qemu
from tests.nets import NetBuilder

LARGEST = 2000  # elements of a tensor


class Draw:
    """One graph; every method appends an operator to `x` or returns None where it does not fit."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        size = self.random.integers(1, 10, 2)
        self.net = NetBuilder((1, int(size[0]), int(size[1]), self.number(1, 8)), seed=seed)
        self.pool = [self.net.input]
        kinds: list[Callable[[int], int | None]] = [
            *(self.convolution, self.convolution, self.depthwise, self.whole, self.dense),
            *(self.pooling, self.add, self.mean, self.concatenation, self.pad, self.reshape),
            *(self.softmax, self.elementwise, self.elementwise),
        ]
        steps = self.number(2, 7)
        for _ in range(50):
            recent = self.random.random() < 0.7
            x = self.pool[-1] if recent else int(self.random.choice(self.pool))
            out = kinds[self.number(0, len(kinds) - 1)](x)
            if out is not None:
                self.pool.append(out)
                steps -= 1
            if not steps:
                break
        self.model = self.net.finish(self.pool[-1])

    def number(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def zeros(self) -> float | None:
        return [None, 0.05, 0.4, 0.8, 0.97][self.number(0, 4)]

    def activation(self) -> str:
        return ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"][self.number(0, 3)]

    def map(self, x: int) -> tuple[int, int, int] | None:
        shape = self.net.shape(x)
        return (shape[1], shape[2], shape[3]) if len(shape) == 4 else None

    def convolution(self, x: int) -> int | None:
        return self._convolution(x, depthwise=False)

    def depthwise(self, x: int) -> int | None:
        return self._convolution(x, depthwise=True)

    def _convolution(self, x: int, *, depthwise: bool) -> int | None:
        size = self.map(x)
        if size is None or size[2] > 64:
            return None
        zeros, same = self.zeros(), self.flip(0.7)
        dilation = self.number(1, 3) if self.flip(0.3) else 1
        kernel = self.number(1, 4), self.number(1, 5)
        stride = (1, 1)
        if dilation == 1 and self.flip(0.4):
            stride = self.number(1, 4), self.number(1, 2)
        spans = [(k - 1) * dilation + 1 for k in kernel]
        if not same and any(s > n for s, n in zip(spans, size[:2], strict=True)):
            return None
        channels = size[2] * self.number(1, 3) if depthwise else self.number(1, 12)
        if channels * size[0] * size[1] > LARGEST:
            return None
        return self.net.conv(
            *(x, channels, kernel, stride),
            zeros=zeros,
            same=same,
            depthwise=depthwise,
            dilation=dilation,
            activation=self.activation(),
        )

    def whole(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        return self.net.conv(x, self.number(1, 9), size[:2], zeros=self.zeros(), same=False)

    def dense(self, x: int) -> int:
        size = int(np.prod(self.net.shape(x)))
        if len(self.net.shape(x)) != 2:
            x = self.net.reshape(x, (1, size))
        x = self.net.dense(x, self.number(1, 12), zeros=self.zeros(), relu=self.flip())
        return self.net.reshape(x, (1, 1, 1, self.net.shape(x)[1])) if self.flip() else x

    def pooling(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        window, stride = (self.number(1, 4), self.number(1, 4)), (self.number(1, 3),) * 2
        same = self.flip()
        if not same and (window[0] > size[0] or window[1] > size[1]):
            window = size[:2]
        return self.net.pool(x, window, stride, maximum=self.flip(), same=same)

    def add(self, x: int) -> int:
        alike = [y for y in self.pool if self.net.shape(y) == self.net.shape(x)]
        return self.net.add(x, int(self.random.choice(alike)), relu=self.flip())

    def mean(self, x: int) -> int | None:
        return None if self.map(x) is None else self.net.mean(x, keep=self.flip(0.7))

    def concatenation(self, x: int) -> int | None:
        if self.map(x) is None:
            return None
        axis, shape = self.number(1, 3), self.net.shape(x)
        parts = [x]
        for y in self.random.permutation(self.pool).tolist():
            other = self.net.shape(y)
            if len(other) == 4 and all(
                a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis
            ):
                if self.net.quantisation(y) != self.net.quantisation(x):
                    y = self.net.elementwise("QUANTIZE", y, *self.net.quantisation(x))
                parts.append(y)
        parts = parts[: self.number(2, 3)]
        if len(parts) < 2 or sum(np.prod(self.net.shape(p)) for p in parts) > LARGEST:
            return None
        return self.net.concatenate([parts[i] for i in self.random.permutation(len(parts))], axis)

    def pad(self, x: int) -> int | None:
        size = self.map(x)
        if size is None or np.prod(size) > LARGEST // 6:
            return None
        amounts = [[0, 0], *([self.number(0, 2), self.number(0, 2)] for _ in range(2)), [0, 0]]
        if self.flip(0.2):
            amounts[3] = [self.number(0, 2), self.number(0, 2)]
        if self.flip():
            return self.net.pad(x, amounts)
        return self.net.pad_with(x, amounts, self.number(-128, 127))

    def reshape(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            rest = self.net.shape(x)[1]
            return self.net.reshape(x, (1, 1, 1, rest))
        h, w, c = size
        shapes = [(1, w, h, c), (1, h * w, 1, c), (1, c, h, w), (1, 1, w, h * c), (1, h, c, w)]
        return self.net.reshape(x, shapes[self.number(0, len(shapes) - 1)])

    def softmax(self, x: int) -> int | None:
        return self.net.softmax(x) if self.map(x) is not None else None

    def elementwise(self, x: int) -> int:
        kinds = ["RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "HARD_SWISH", "QUANTIZE"]
        kind = [*kinds, "LOGISTIC", "TANH"][self.number(0, 7)]
        scale = self.net.quantisation(x)[0] * float(self.random.uniform(0.3, 2))
        zero_point = self.number(-128, 127)
        fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
        scale, zero_point = fixed.get(kind, (scale, zero_point))
        return self.net.elementwise(kind, x, scale, zero_point)


_MAIN = """
#include <stdint.h>
#include IO
INCLUDES
static int8_t input[INPUT_BYTES], output[OUTPUT_BYTES];
typedef int (*net)(const int8_t *, int8_t *, uint8_t *);
static const struct { net invoke; unsigned input, output, arena; } nets[] = {
TABLE};
int main(void) {
  OPEN
  for (unsigned n = 0; n < sizeof nets / sizeof *nets; ++n) {
    for (unsigned run = 0; run < RUNS; ++run) {
      uint8_t *arena = ARENA(nets[n].arena);
      if (READ(input, nets[n].input) != nets[n].input) return 2;
      for (unsigned i = 0; i < nets[n].arena; ++i) arena[i] = (uint8_t)(i * 37u + run);
      if (nets[n].invoke(input, output, arena) != 0) return 3;
      if (WRITE(output, nets[n].output) != nets[n].output) return 4;
      FREE(arena);
    }
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


def write(
    models: list[bytes], folder: Path, *, core: str = "generic"
) -> tuple[list[tuple[int, int]], int]:
    """C of every model in one folder, named g0, g1, ...: input and output sizes, largest arena."""
    sizes, arena = [], 0
    for i, model in enumerate(models):
        report = to_c(model, folder, core=core, name=f"g{i}", optimize=OPTIMIZE[i % 3])
        net = graph.read(model)
        sizes.append(
            (
                int(np.prod(net.tensors[net.inputs[0]].shape)),
                int(np.prod(net.tensors[net.outputs[0]].shape)),
            )
        )
        arena = max(arena, report.arena)
    return sizes, arena


def main_of(sizes: list[tuple[int, int]], runs: int) -> str:
    count = len(sizes)
    return (
        _MAIN.replace("INCLUDES", "".join(f'#include "g{i}.h"\n' for i in range(count)))
        .replace(
            "TABLE",
            "".join(
                f"  {{g{i}_invoke, {a}u, {b}u, G{i}_ARENA_SIZE}},\n"
                for i, (a, b) in enumerate(sizes)
            ),
        )
        .replace("INPUT_BYTES", str(max(a for a, _ in sizes)))
        .replace("OUTPUT_BYTES", str(max(b for _, b in sizes)))
        .replace("RUNS", str(runs))
    )


def on_host(
    models: list[bytes], values: list[npt.NDArray[np.int8]], folder: Path, *, sanitize: bool
) -> list[npt.NDArray[np.int8]]:
    """Outputs [inputs, elements] of every model, all in one program."""
    sizes, _ = write(models, folder)
    (folder / "io.h").write_text(_HOST)
    (folder / "main.c").write_text(main_of(sizes, len(values[0])).replace("IO", '"io.h"'))
    sources = [str(p) for p in sorted(folder.glob("*.c"))]
    flags = ["-std=c11", "-O1" if sanitize else "-O2", "-DEC2T_MCU_CORE_SWAR", *c_runner.STRICT]
    flags += c_runner.SANITIZE if sanitize else []
    program = folder / "program"
    subprocess.run(["gcc", *flags, *sources, "-o", str(program)], check=True)
    given = b"".join(v.tobytes() for v in values)
    done = subprocess.run([str(program)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, f"program returned {done.returncode}: {done.stderr.decode()}"
    return split(done.stdout, sizes, len(values[0]))


def on_core(
    core: str, models: list[bytes], values: list[npt.NDArray[np.int8]], folder: Path
) -> list[npt.NDArray[np.int8]]:
    """The same in QEMU."""
    sizes, arena = write(models, folder, core=core)
    (folder / "io.h").write_text(_FIRMWARE.replace("ARENA_BYTES", str(arena)))
    main = folder / "firmware_main.c"
    main.write_text(main_of(sizes, len(values[0])).replace("IO", '"io.h"'))
    (folder / "input.bin").write_bytes(b"".join(v.tobytes() for v in values))
    image = qemu.build(core, sorted(folder.glob("*.c")), folder / core, include=[folder])
    run = qemu.run(core, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    return split((folder / "output.bin").read_bytes(), sizes, len(values[0]))


def split(data: bytes, sizes: list[tuple[int, int]], runs: int) -> list[npt.NDArray[np.int8]]:
    flat, outputs, place = np.frombuffer(data, np.int8), [], 0
    for _, size in sizes:
        outputs.append(flat[place : place + runs * size].reshape(runs, size))
        place += runs * size
    assert place == flat.size
    return outputs


def differences(
    seeds: list[int], got: list[npt.NDArray[np.int8]], want: list[npt.NDArray[np.int8]]
) -> list[str]:
    return [
        f"seed {seed}: {int((g != w).sum())} of {w.size} outputs differ"
        for seed, g, w in zip(seeds, got, want, strict=True)
        if (g != w).any()
    ]
