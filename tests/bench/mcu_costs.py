"""The table of costs that ships with the package: what one of each amount of a kernel costs.

    python -m tests.bench.mcu_costs --write [--cores=m4,m0]     # rewrites export/mcu/costs.json

Random layers are run in QEMU; instructions and estimated cycles of every kernel call are fitted to
its amounts (export/mcu/work.py) by least squares of the relative error, no cost below zero. The
nets of MLPerf Tiny and of tests/nets.py are not among them: they say how far off estimates are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pickle
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from ec2t_tf.export.mcu import OPTIMIZE, to_c
from ec2t_tf.export.mcu.costs import TABLE
from ec2t_tf.export.mcu.machines import MACHINES
from ec2t_tf.export.mcu.model_files import KERNELS
from ec2t_tf.export.mcu.report import LayerReport, Report
from ec2t_tf.export.tflite import read, write
from tests.bench import cost_nets, qemu
from tests.mcu import random_graphs, random_maps, random_normalisations, random_streams
from tests.nets import NetBuilder

CORES = (*qemu.CORES, "rv32", "rv32_unaligned")
LARGEST = 24_000  # elements of a map
MANY, FEW = 12, 3  # nets of one program
FEWEST = 3  # samples of a kernel that is in the table
LARGEST_FILE = 130_000  # bytes of a net of M55, whose machine has 512 KiB for code
REGISTERS = 128  # bytes that functions in assembly push, and what calls the net
_MAIN = """
#include <stdint.h>
#include "semihost.h"
INCLUDES
static int8_t input[INPUT_BYTES], output[OUTPUT_BYTES];
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(4)));
int main(void) {
  uint32_t state = 1;
  for (uint32_t i = 0; i < INPUT_BYTES; ++i) {
    state = state * 1664525u + 1013904223u;
    input[i] = (int8_t)(state >> 24);
  }
CALLS
  return 0;
}
"""


class Draw:
    """`model`: a net of a few layers of ordinary sizes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        side = self.number(4, 33)
        shape = (1, side, self.choice([side, side, 1, self.number(3, 20)]), self.number(1, 40))
        self.net = NetBuilder(shape, seed=seed)
        x, kinds = self.net.input, self.kinds(seed)
        for kind in kinds:
            x = getattr(self, kind)(x) or x
        self.model = self.net.finish(x)

    def kinds(self, seed: int) -> list[str]:
        several = ["conv", "conv", "depthwise", "add", "pool", "table", "depthwise", "depthwise"]
        chosen = self.random.choice(several, self.number(3, 6)).tolist()
        ends = [["mean", "dense", "softmax"], ["flat", "dense"], ["whole"], ["joined", "pad"]]
        return [*chosen, *ends[seed % len(ends)]]

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def choice(self, values: Sequence[Any]) -> Any:
        return values[self.number(0, len(values) - 1)]

    def zeros(self) -> float | None:
        return self.choice([None, None, 0.5, 0.7, 0.8, 0.9, 0.95])

    def map(self, x: int) -> tuple[int, int, int]:
        _, h, w, c = self.net.shape(x)
        return h, w, c

    def _conv(self, x: int, *, depthwise: bool) -> int | None:
        h, w, c = self.map(x)
        size = self.choice([3, 3, 3, 5, 2] if depthwise else [1, 1, 3, 3, 5, 2])
        kernel = (min(size, h), min(self.choice([size, size, size, size, 1, 4]), w))
        stride = self.choice([(1, 1), (1, 1), (2, 2), (2, 1)])
        channels = c if depthwise else self.number(2, 64)
        if h * w * channels > LARGEST or (kernel == (1, 1) and depthwise):
            return None
        activation = self.choice(["RELU", "RELU", "NONE", "RELU6"])
        return self.net.conv(
            x,
            channels,
            kernel,
            stride,
            zeros=None if depthwise and self.choice([True, False]) else self.zeros(),
            same=self.choice([True, True, False]),
            depthwise=depthwise,
            activation=activation,
        )

    def conv(self, x: int) -> int | None:
        return self._conv(x, depthwise=False)

    def depthwise(self, x: int) -> int | None:
        return self._conv(x, depthwise=True)

    def add(self, x: int) -> int:
        y = self.net.conv(x, self.map(x)[2], (1, 1), zeros=0.8, same=True)
        return self.net.add(x, y, relu=self.choice([True, False]))

    def pool(self, x: int) -> int | None:
        h, w, _ = self.map(x)
        size = self.choice([(2, 2), (3, 3), (2, 1), (h, w)])
        if size[0] > h or size[1] > w or max(size) > 40:
            return None
        return self.net.pool(x, size, size, maximum=self.choice([True, False]))

    def table(self, x: int) -> int:
        kind = self.choice(["HARD_SWISH", "LOGISTIC", "RELU"])
        fixed = {"LOGISTIC": (1 / 256, -128)}
        return self.net.elementwise(kind, x, *fixed.get(kind, self.net.quantisation(x)))

    def mean(self, x: int) -> int:
        return self.net.mean(x)

    def flat(self, x: int) -> int:
        return self.net.reshape(x, (1, int(np.prod(self.net.shape(x)))))

    def dense(self, x: int) -> int:
        size = int(np.prod(self.net.shape(x)))
        outputs = self.number(2, 130 if size < 1000 else 12)
        return self.net.dense(x, outputs, zeros=self.zeros(), relu=self.choice([True, False]))

    def softmax(self, x: int) -> int:
        return self.net.softmax(x)

    def whole(self, x: int) -> int:
        h, w, c = self.map(x)
        deep = self.choice([True, False])
        return self.net.conv(
            x,
            c if deep else self.number(2, 40),
            (h, w),
            same=False,
            depthwise=deep,
            zeros=self.zeros(),
        )

    def joined(self, x: int) -> int:
        y = self.net.conv(x, self.number(2, 20), (1, 1), zeros=0.8)
        scale, zero_point = self.net.quantisation(x)
        return self.net.concatenate([x, self.net.elementwise("QUANTIZE", y, scale, zero_point)], 3)

    def pad(self, x: int) -> int:
        return self.net.pad(x, [[0, 0], [self.number(0, 2), 1], [1, self.number(0, 2)], [0, 0]])


Sample = tuple[LayerReport, qemu.Count]


class Sizes:
    """Bytes of code and stack of what was compiled."""

    def __init__(self) -> None:
        self.files: dict[str, list[int]] = {}
        self.nets: list[tuple[list[str], int, int, int]] = []  # tiles, calls, code, stack

    def take(self, folder: Path, core: str, reports: Sequence[Report]) -> None:
        """From the objects of one program."""
        for item in sorted((folder / core).glob("*.o")):
            stem = item.name.rpartition("-")[0]
            frames = [int(line.split("\t")[1]) for line in item.with_suffix(".su").open()]
            frames.sort(reverse=True)
            size = _code_bytes(item, core)
            number = re.fullmatch(r"g(\d+)", stem)
            if number is not None:
                source = (folder / f"{stem}.c").read_text()
                tiles = re.findall(r"^(EC2T_MCU_\w*TILE\w*)\(", source, re.M)
                calls = len(reports[int(number.group(1))].layers)
                self.nets.append((tiles, calls, size, frames[0] if frames else 0))
            elif (KERNELS / f"{stem}.c").exists():
                self.files[f"{stem}.c"] = [size, sum(frames[:2])]

    def fit(self) -> dict[str, Any]:
        """As costs.json has it."""
        macros = sorted({tile for tiles, *_ in self.nets for tile in tiles})
        rows = [[1, calls, *(tiles.count(m) for m in macros)] for tiles, calls, *_ in self.nets]
        sizes = np.array([size for *_, size, _ in self.nets], float)
        costs, _ = nnls(np.array(rows, float), sizes)
        net, call, *of_tiles = (round(c) for c in costs)
        return {
            "files": dict(sorted(self.files.items())),
            "other file": [round(float(np.mean([v[0] for v in self.files.values()]))), 64],
            "tiles": dict(zip(macros, of_tiles, strict=True)),
            "call": call,
            "net": net,
            "net stack": max(stack for *_, stack in self.nets) + REGISTERS,
        }


def _code_bytes(item: Path, core: str) -> int:
    """Of the functions of an object file; of kernels that exclude each other, of one."""
    tool = f"{MACHINES[core].toolchain}-size"
    lines = subprocess.run([tool, "-A", str(item)], capture_output=True, text=True, check=True)
    cells = [line.split() for line in lines.stdout.splitlines()]
    code = [(c[0], int(c[1])) for c in cells if len(c) == 3 and c[0].startswith(".text")]
    kinds = sum(name.startswith(".text.ec2t_mcu_depthwise_") for name, _ in code)
    return sum(size for _, size in code) // max(kinds, 1)


def run_nets(
    models: Sequence[bytes],
    core: str,
    folder: Path,
    sizes: Sizes | None = None,
    *,
    optimize: str | None = None,
    stream: bool = False,
) -> list[list[Sample]]:
    """Every kernel call of every net, in one program: what was lowered, and what it took. Without
    `optimize` the nets take turns; with `stream` the calls are those of a step."""
    reports = [
        to_c(
            model,
            folder,
            core=core,
            name=f"g{i}",
            optimize=optimize or OPTIMIZE[i % 3],
            stream=stream,
        )
        for i, model in enumerate(models)
    ]
    headers = [(folder / f"g{i}.h").read_text() for i in range(len(models))]

    def most(macro: str) -> int:
        lines = [line.split() for text in headers for line in text.splitlines()]
        return max(int(w[2]) for w in lines if len(w) == 3 and w[1].endswith(macro))

    verb = "step" if stream else "invoke"
    calls = "".join(
        f"  EC2T_COUNT_BEGIN();\n  if (g{i}_{verb}(input, output, arena)) return 1;\n"
        "  EC2T_COUNT_END();\n"
        for i in range(len(models))
    )
    main = _MAIN.replace("INCLUDES", "".join(f'#include "g{i}.h"\n' for i in range(len(models))))
    for word, value in (
        ("CALLS", calls),
        ("INPUT_BYTES", str(most("_INPUT_SIZE"))),
        ("OUTPUT_BYTES", str(most("_OUTPUT_SIZE"))),
        ("ARENA_BYTES", str(most("_ARENA_SIZE"))),
    ):
        main = main.replace(word, value)
    (folder / "firmware_main.c").write_text(main)
    (folder / "laps.h").write_text(
        '#include "semihost.h"\n'
        + "".join(f"#define G{i}_LAP() EC2T_COUNT_LAP()\n" for i in range(len(models)))
    )
    for i in range(len(models)):
        source = folder / f"g{i}.c"
        source.write_text('#include "laps.h"\n' + source.read_text())
    image = qemu.build(
        core,
        sorted(folder.glob("*.c")),
        folder / core,
        include=[folder],
        warnings=[*qemu.WARNINGS, "-fstack-usage"],
    )
    if sizes is not None:
        sizes.take(folder, core, reports)
    run = qemu.run(core, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    counts, place, found = run.counts, 0, []
    for report in reports:
        rows = [report.ends[0], *report.layers, report.ends[-1]]
        found.append(list(zip(rows, counts[place : place + len(rows)], strict=True)))
        place += len(rows)
    assert place == len(counts)
    return found


def samples(core: str, nets: int) -> tuple[list[Sample], Sizes]:
    """Kernel calls of random nets."""
    sizes = Sizes()
    found = _calls(core, [Draw(seed).model for seed in range(nets)], sizes)
    found += more(core, sizes)
    return found + rare(core, {layer.work.kernel for layer, _ in found}), sizes


def more(core: str, sizes: Sizes | None = None) -> list[Sample]:
    """Kernel calls that few nets have: vectors, strides, and steps of streams."""
    found = _calls(core, [cost_nets.vectors(seed) for seed in range(10)])
    found += _calls(core, [cost_nets.strided(seed) for seed in range(12)])
    found += _calls(core, [cost_nets.covered(seed) for seed in range(16)])
    found += rows_and_products(core, sizes) + strips(core)
    found += _calls(core, [cost_nets.wide(seed) for seed in range(20)])
    found += _calls(core, [cost_nets.separable(seed) for seed in range(24)])
    found += _calls(core, [cost_nets.shallow(seed) for seed in range(24)])
    found += _calls(core, [cost_nets.long(seed) for seed in range(24)])
    found += _calls(core, [cost_nets.pairs(seed) for seed in range(12)])
    if core == "rv32":
        found += _calls(core, [cost_nets.by_place(seed) for seed in range(60)])
        short = [cost_nets.short(seed) for seed in range(36)]
        found += _calls(core, short, optimize="balanced") + _calls(core, short)
    found += _calls(core, [cost_nets.pooled(seed) for seed in range(64)], sizes)
    if core == "m55":
        found += _calls(core, [cost_nets.half(seed) for seed in range(10)], sizes, optimize="size")
    steps = [random_streams.Draw(seed).model for seed in range(24)]
    return found + _calls(core, steps, stream=True)


def rows_and_products(core: str, sizes: Sizes | None = None) -> list[Sample]:
    """Kernel calls of transformers: normalisations, and products of two tensors."""
    models = [write(random_normalisations.draw(seed).graph) for seed in range(36)]
    return _calls(core, [*models, *(cost_nets.multiplied(seed) for seed in range(12))], sizes)


def strips(core: str) -> list[Sample]:
    """Copies of rows, of nets in strips."""
    models = [random_maps.chain(seed) for seed in range(16)]
    return _calls(core, models, optimize="ram")


def rare(core: str, known: set[str], *, graphs: int = 120) -> list[Sample]:
    """Calls of kernels that no other net here has, on small maps."""
    models = []
    for seed in range(graphs):
        graph = read(random_graphs.Draw(seed).model)
        if len(graph.inputs) > 1:
            continue
        models.append(write(dataclasses.replace(graph, outputs=graph.outputs[:1])))
    return [row for row in _calls(core, models) if row[0].work.kernel not in known]


def _calls(
    core: str,
    models: Sequence[bytes],
    sizes: Sizes | None = None,
    *,
    optimize: str | None = None,
    stream: bool = False,
) -> list[Sample]:
    """All kernel calls of nets, a few in one program."""
    found: list[Sample] = []
    few = MANY
    if core == "m55":
        few, models = FEW, [model for model in models if len(model) < LARGEST_FILE]
    for first in range(0, len(models), few):
        with tempfile.TemporaryDirectory() as folder:
            batch = models[first : first + few]
            for rows in run_nets(
                batch, core, Path(folder), sizes, optimize=optimize, stream=stream
            ):
                found += rows
    return found


def fit(rows: Sequence[Sample]) -> dict[str, Any]:
    """The kernels of one core."""
    by_kernel: dict[str, list[Sample]] = defaultdict(list)
    for row in rows:
        by_kernel[row[0].work.kernel].append(row)
    table = {}
    for kernel, few in sorted(by_kernel.items()):
        if len(few) < FEWEST:
            continue
        names = sorted({name for layer, _ in few for name in layer.work.amounts})
        lists = [[layer.work.amounts.get(n, 0.0) for n in names] for layer, _ in few]
        matrix = np.array(lists, float)
        used = matrix.any(axis=0)
        names = [n for n, u in zip(names, used, strict=True) if u]
        matrix = matrix[:, used]
        row: dict[str, Any] = {"amounts": names, "samples": len(few)}
        for what in ("instructions", "cycles"):
            values = np.array([getattr(count, what) for _, count in few], float)
            if values.all():
                costs, off = _nonnegative(matrix, values)
                row[what] = [float(f"{c:.5g}") for c in costs]
                row[f"{what} off"] = float(f"{off:.3g}")
        kept = [
            i
            for i in range(len(names))
            if any(row.get(w, [0] * len(names))[i] for w in ("instructions", "cycles"))
        ]
        row["amounts"] = [names[i] for i in kept]
        for what in ("instructions", "cycles"):
            if what in row:
                row[what] = [row[what][i] for i in kept]
        table[kernel] = row
    return table


def _nonnegative(
    matrix: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float]:
    """Costs, and the root mean square of the relative error."""
    scaled = matrix / values[:, None]
    size = np.linalg.norm(scaled, axis=0)
    costs, _ = nnls(scaled / size, np.ones(len(values)))
    costs = costs / size
    return costs, float(np.sqrt(np.mean((scaled @ costs - 1) ** 2)))


def written(table: dict[str, Any]) -> str:
    """costs.json: a line a kernel."""
    cores = []
    for core, row in table["cores"].items():
        kernels = [f'   "{k}": {json.dumps(v)}' for k, v in row["kernels"].items()]
        code, rows = json.dumps(row["code"]), ",\n".join(kernels)
        cores.append(f'  "{core}": {{\n   "code": {code},\n   "kernels": {{\n{rows}\n  }}}}')
    head = [f' "{k}": {json.dumps(v)}' for k, v in table.items() if k != "cores"]
    lines = ",\n".join(head)
    return "{\n" + lines + ',\n "cores": {\n' + ",\n".join(cores) + "\n }\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cores", default=",".join(CORES))
    parser.add_argument("--nets", type=int, default=96)
    parser.add_argument("--write", action="store_true", help="rewrite export/mcu/costs.json")
    parser.add_argument("--keep", type=Path, help="folder that gets the measurements")
    parser.add_argument("--only", default="", help="kernels, all else stays: normalise,matmul")
    flags = parser.parse_args()
    whole = json.loads(TABLE.read_text()) if TABLE.exists() else {"cores": {}}
    whole["command"] = "python -m tests.bench.mcu_costs --write"
    whole["compiler"] = "arm-none-eabi-gcc and riscv64-unknown-elf-gcc 12.2, -O2"
    for core in flags.cores.split(","):
        if flags.only:
            names = flags.only.split(",")
            sizes = Sizes()
            rows = [r for r in more(core, sizes) if r[0].work.kernel in names]
            kernels, row = fit(rows), whole["cores"][core]
            row["kernels"] = dict(sorted((row["kernels"] | kernels).items()))
            files = sizes.files | row["code"]["files"]
            row["code"]["files"] = dict(sorted(files.items()))
        else:
            rows, sizes = samples(core, flags.nets)
            kernels = fit(rows)
            whole["cores"][core] = {"code": sizes.fit(), "kernels": kernels}
        if flags.keep:
            flags.keep.joinpath(f"{core}.pickle").write_bytes(pickle.dumps((rows, sizes)))
        for kernel, row in kernels.items():
            offs = [f"{row.get(f'{w} off', math.nan):7.2%}" for w in ("instructions", "cycles")]
            print(core, f"{kernel:28}{row['samples']:5}", *offs, flush=True)
        if flags.write:
            TABLE.write_text(written(whole))


if __name__ == "__main__":
    main()
