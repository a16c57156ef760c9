"""Time, or instructions in QEMU, of the planar kernels on the convolutions of ResNet-20.

    python -m ec2t_tf.export.kernels.bench.planar                  time on this machine
    python -m ec2t_tf.export.kernels.bench.planar --instructions   AArch64 instructions, exact

Weights are random ternary. Instructions are counted by QEMU's user mode emulation with our own
plugin: they are not time on a board. Needs `qemu-user` and `gcc-aarch64-linux-gnu` (Debian names).
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...formats import Layer, Operator, Scales, pack
from .. import build

HERE = Path(__file__).resolve().parent
# XNNPACK int8 in ai-edge-litert 2.3.0, one thread, ReLU: AArch64 instructions per run in QEMU user
# mode for 3x3 SAME convolutions; (size, inputs, outputs, stride) -> cortex-a72, cortex-a76.
XNNPACK_INSTRUCTIONS = {
    (32, 16, 16, 1): (782_710, 274_607),
    (16, 32, 32, 1): (698_263, 236_335),
    (8, 64, 64, 1): (647_004, 206_144),
    (32, 16, 32, 2): (380_795, 140_140),
    (16, 32, 64, 2): (345_579, 117_134),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A 3x3 SAME convolution: input size, channels, stride, and how often the net has it."""

    size: int
    inputs: int
    outputs: int
    stride: int
    times: int

    def blob(self, zeros: float, seed: int = 0) -> bytes:
        """The layer with random weights."""
        rng = np.random.default_rng(seed)
        half = (1 - zeros) / 2
        shape = (self.outputs, 3, 3, self.inputs)
        weights = rng.choice([0, 127, -85], p=[zeros, half, half], size=shape).astype(np.int8)
        layer = Layer(
            Operator.CONV_2D,
            weights,
            Scales(0.02, 0.05, rng.uniform(1e-3, 3e-3, self.outputs).astype(np.float32)),
            bias=rng.integers(-999, 999, self.outputs).astype(np.int32),
            strides=(self.stride, self.stride),
            padding="SAME",
            input_zero_point=-128,
            output_zero_point=-128,
        )
        return pack(layer)


RESNET20 = (
    Case(32, 16, 16, 1, 6),
    Case(32, 16, 32, 2, 1),
    Case(16, 32, 32, 1, 5),
    Case(16, 32, 64, 2, 1),
    Case(8, 64, 64, 1, 5),
)
MODES = ("tflite", "fp32")


def requests(cases: Sequence[Case], zeros: float, mode: str) -> bytes:
    """What bench_planar.c reads."""
    blobs = [(case, case.blob(zeros)) for case in cases]
    return b"".join(
        struct.pack("<4I", MODES.index(mode), case.size, case.size, len(blob)) + blob
        for case, blob in blobs
    )


def count_instructions(
    cases: Sequence[Case], zeros: float, mode: str, folder: Path
) -> list[dict[str, tuple[int, int]]]:
    """For each case and kernel: instructions of one run, and of preparing the layer."""
    program = build.build_cached(
        "bench_planar",
        folder,
        target=build.AARCH64_QEMU,
        extra_sources=[HERE / "bench_planar.c"],
    )
    plugin = build_plugin(folder)
    done = subprocess.run(
        [*build.AARCH64_QEMU.runner, "-plugin", str(plugin), str(program), "0"],
        input=requests(cases, zeros, mode),
        capture_output=True,
        check=True,
    )
    names = [line.split()[0] for line in done.stdout.decode().splitlines()]
    counts = [int(n) for n in re.findall(r"^COUNT (\d+)$", done.stderr.decode(), re.M)]
    results: list[dict[str, tuple[int, int]]] = []
    for i, name in enumerate(names):
        if name == names[0]:
            results.append({})
        empty, prepare, run = counts[3 * i : 3 * i + 3]
        results[-1][name] = (run - empty, prepare - empty)
    return results


def build_plugin(folder: Path) -> Path:
    """The instruction counter as a shared library of this machine."""
    return build.compile_shared(HERE / "qemu_count_plugin.c", folder)


def report_instructions(zeros_list: Sequence[float], mode: str, folder: Path) -> None:
    """Print each layer and the net against XNNPACK."""
    print("AArch64 instructions in QEMU user mode; ratio to XNNPACK int8 on cortex-a72, cortex-a76")
    for zeros in zeros_list:
        total, peers = 0, np.zeros(2)
        for case, kernels in zip(
            RESNET20, count_instructions(RESNET20, zeros, mode, folder), strict=True
        ):
            run, prepare = kernels["neon"]
            peer = np.array(
                XNNPACK_INSTRUCTIONS[(case.size, case.inputs, case.outputs, case.stride)]
            )
            total += case.times * run
            peers += case.times * peer
            print(
                f"  {zeros:.0%} zeros  {case.size}x{case.size} {case.inputs}->{case.outputs} "
                f"/{case.stride}: {run:9,d} ({run / peer[0]:.3f}, {run / peer[1]:.3f})  "
                f"portable {kernels['portable'][0]:,d}  prepare {prepare:,d}"
            )
        print(
            f"{zeros:.0%} zeros, 18 convolutions: {total:,d} "
            f"({total / peers[0]:.3f}, {total / peers[1]:.3f})"
        )


def report_time(zeros_list: Sequence[float], mode: str, folder: Path) -> None:
    """Print microseconds of each kernel, best of many runs."""
    program = build.build_cached("bench_planar", folder, extra_sources=[HERE / "bench_planar.c"])
    for zeros in zeros_list:
        done = subprocess.run(
            [str(program), "200"],
            input=requests(RESNET20, zeros, mode),
            capture_output=True,
            check=True,
        )
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        per_case = len(lines) // len(RESNET20)
        totals: dict[str, float] = {}
        for i, (name, run, _, _) in enumerate(lines):
            case = RESNET20[i // per_case]
            totals[name] = totals.get(name, 0) + case.times * float(run) / 1000
        macs = sum(c.times * 9 * c.inputs * c.outputs * (c.size // c.stride) ** 2 for c in RESNET20)
        for name, microseconds in totals.items():
            print(
                f"{zeros:.0%} zeros, 18 convolutions, {name}: {microseconds:8.1f} us, "
                f"{macs / microseconds / 1000:.1f} dense-equivalent GMAC/s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--instructions", action="store_true", help="count them in QEMU")
    parser.add_argument("--mode", choices=MODES, default="fp32", help="requantisation")
    parser.add_argument(
        "--zeros", type=float, nargs="+", default=[0.5, 0.7, 0.8, 0.9], help="shares of zeros"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = report_instructions if arguments.instructions else report_time
        report(arguments.zeros, arguments.mode, Path(folder))


if __name__ == "__main__":
    main()
