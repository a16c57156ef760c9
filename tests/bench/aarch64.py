"""AArch64 instructions of whole nets in QEMU: XNNPACK int8 and ours in the same wheel.

    python -m tests.bench.aarch64 --root=ROOT --site=SITE --nets=FOLDER [--cpus=cortex-a72,...]
        [--write]

ROOT is a Debian arm64 tree with python3.11 and libstdc++6 (`debootstrap --arch=arm64 --foreign
--variant=minbase --include=python3,libstdc++6 bookworm ROOT`, then `dpkg-deb -x` of its packages;
`proc/cpuinfo` in it must be an arm64 one), SITE holds the aarch64 wheels of ai-edge-litert and its
dependencies, FOLDER the int8 files of `python -m tests.tflite.nets FOLDER`.

Counts are instructions of one invocation from Python, mean of several; they are exact, and they
are no time on a board.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")
CPUS = ("cortex-a72", "cortex-a76", "max")
KINDS = ("stock", "int8", "packed")
INVOCATIONS = 4

MARKS = """
void ec2t_begin(void);
void ec2t_end(void);
void ec2t_begin(void) { __asm__ volatile("hint #0x70" ::: "memory"); }
void ec2t_end(void) { __asm__ volatile("hint #0x78" ::: "memory"); }
"""


def inside(marks: str, library: str, files: list[str]) -> None:
    """In the emulated Python, with NumPy and ai-edge-litert only."""
    import ctypes

    import numpy as np
    from ai_edge_litert import interpreter as litert

    region = ctypes.CDLL(marks)
    for file in files:
        kind, _, path = file.partition(":")
        options = {} if kind == "stock" else {"requant": "fp32", "claim_int8": "1"}
        delegates = [] if kind == "stock" else [litert.load_delegate(library, options)]
        interpreter = litert.Interpreter(path, num_threads=1, experimental_delegates=delegates)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        values = np.random.default_rng(0).integers(-128, 128, detail["shape"], dtype=np.int8)
        interpreter.set_tensor(detail["index"], values)
        for _ in range(2):
            interpreter.invoke()
        region.ec2t_begin()
        for _ in range(INVOCATIONS):
            interpreter.invoke()
        region.ec2t_end()


def main() -> None:
    from ec2t_tf.export.kernels import build
    from ec2t_tf.export.kernels.bench.planar import build_plugin
    from ec2t_tf.export.litert import library
    from tests.tflite.fixtures import packed

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="arm64 Debian tree")
    parser.add_argument("--site", type=Path, required=True, help="aarch64 wheels, unpacked")
    parser.add_argument("--nets", type=Path, required=True, help="folder of int8 .tflite files")
    parser.add_argument("--write", action="store_true", help="into docs/runtime.json and .md")
    parser.add_argument("--only", default=",".join(NETS), help="nets, with commas between")
    parser.add_argument("--cpus", default=",".join(CPUS), help="QEMU's cores, with commas between")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "marks.c").write_text(MARKS)
        compiler = "aarch64-linux-gnu-gcc"
        command = [compiler, "-shared", "-fPIC", str(folder / "marks.c"), "-o"]
        subprocess.run([*command, str(folder / "marks.so")], check=True)
        target = build.Target("aarch64", (compiler,), ("qemu-aarch64",))
        ours = library.build(folder / library.NAME, target=target)
        plugin = build_plugin(folder)
        print("our instructions as a share of XNNPACK int8's, QEMU user mode, one thread")
        print(f"{'net':<14}{'core':<12}{'XNNPACK':>14}{'int8':>8}{'packed':>8}")
        for net in arguments.only.split(","):
            int8, small = arguments.nets / f"{net}.tflite", folder / f"{net}.packed"
            small.write_bytes(packed(int8.read_bytes()))
            files = [f"stock:{int8.resolve()}", f"int8:{int8.resolve()}", f"packed:{small}"]
            for cpu in arguments.cpus.split(","):
                done = subprocess.run(
                    [
                        *("qemu-aarch64", "-cpu", cpu, "-L", str(arguments.root)),
                        *("-plugin", str(plugin), str(arguments.root / "usr/bin/python3.11")),
                        *(__file__, "--inside", str(folder / "marks.so"), str(ours), *files),
                    ],
                    env={**os.environ, "PYTHONPATH": str(arguments.site.resolve())},
                    capture_output=True,
                    check=True,
                )
                text = done.stderr.decode(errors="replace")
                counts = [int(n) / INVOCATIONS for n in re.findall(r"^COUNT (\d+)$", text, re.M)]
                ratios = "".join(f"{count / counts[0]:>8.3f}" for count in counts[1:])
                print(f"{net:<14}{cpu:<12}{counts[0]:>14,.0f}{ratios}", flush=True)
                shares = [round(count / counts[0], 3) for count in counts[1:]]
                row = dict(zip(("int8", "packed"), shares, strict=True))
                rows.setdefault(net, {})[cpu] = {"xnnpack": round(counts[0]), **row}
    if arguments.write:
        from tests.bench import runtime_table

        runtime_table.update("aarch64", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main()
