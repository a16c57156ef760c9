"""AArch64 instructions of the stream decoders, counted in QEMU.

    python -m ec2t_tf.export.kernels.bench.decoders

Prints, per encoding, the cost per weight and per non-zero weight, fitted over random layers of
several densities: the numbers of `formats.choose.DECODE_COST`.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ...formats import Encoding, Layer, Operator, Scales, pack
from .. import build
from .planar import HERE, build_plugin

SHAPE = (32, 3, 3, 32)
ZEROS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
ENCODINGS = tuple(encoding for encoding in Encoding if encoding is not Encoding.INT8)


def count(folder: Path) -> dict[Encoding, list[tuple[int, int, int]]]:
    """Per encoding and density: weights, non-zeros, instructions."""
    rng = np.random.default_rng(0)
    scales = Scales(1.0, 1.0, np.ones(1, np.float32))
    cases, request = [], b""
    for zeros in ZEROS:
        half = (1 - zeros) / 2
        weights = rng.choice([0, 1, -1], p=[zeros, half, half], size=SHAPE).astype(np.int8)
        for encoding in ENCODINGS:
            blob = pack(Layer(Operator.CONV_2D, weights, scales), encoding=encoding)
            request += struct.pack("<I", len(blob)) + blob
            cases.append((encoding, weights.size, int(np.count_nonzero(weights))))
    program = build.build_cached(
        "bench_decode",
        folder,
        target=build.AARCH64_QEMU,
        extra_sources=[HERE / "bench_decode.c"],
    )
    done = subprocess.run(
        [*build.AARCH64_QEMU.runner, "-plugin", str(build_plugin(folder)), str(program)],
        input=request,
        capture_output=True,
        check=True,
    )
    empty, *counts = map(int, re.findall(r"^COUNT (\d+)$", done.stderr.decode(), re.M))
    results: dict[Encoding, list[tuple[int, int, int]]] = {}
    for (encoding, size, nonzeros), instructions in zip(cases, counts, strict=True):
        results.setdefault(encoding, []).append((size, nonzeros, instructions - empty))
    return results


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = count(Path(folder))
    print("AArch64 instructions in QEMU user mode, fitted: per weight, per non-zero")
    for encoding, rows in results.items():
        table = np.array(rows, np.float64)
        fit, *_ = np.linalg.lstsq(table[:, :2], table[:, 2], rcond=None)
        worst = np.abs(table[:, :2] @ fit / table[:, 2] - 1).max()
        print(f"{encoding.name:10s} {fit[0]:7.1f} {fit[1]:7.1f}   off by at most {worst:.0%}")


if __name__ == "__main__":
    main()
