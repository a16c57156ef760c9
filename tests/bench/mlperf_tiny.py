"""MLPerf Tiny's nets with 80 % zeros beside their int8 reference files: docs/mlperf_tiny.md.

    python -m tests.bench.mlperf_tiny --models=FOLDER --write
    python -m tests.bench.mlperf_tiny --models=FOLDER --nets=ad01 --cores=m4

FOLDER holds the int8 files of MLPerf Tiny. Their layers are made ternary where `apply` would do it
(all but the first, the last and depthwise ones): in each output channel the largest fifth of the
codes keeps its sign. That says what such a net costs, not what it can do: nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf.export.file_formats import rewrite
from ec2t_tf.export.graph.graph import Graph
from ec2t_tf.export.graph.ternary import KERNELS, kernel_of
from ec2t_tf.export.tflite import read, write
from tests.bench import mcu
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
CORES = ("m4", "m55", "m0")
ZEROS = 0.8
LARGEST_CODE = 127
# Name in the table -> (file, what it does).
NETS = {
    "resnet8": ("mlperf_tiny_resnet8_int8.tflite", "images, CIFAR-10 (IC01)"),
    "ds_cnn": ("mlperf_tiny_kws_ref_model.tflite", "keywords (KWS)"),
    "mobilenet": ("mlperf_tiny_vww_96_int8.tflite", "a person in the picture (VWW)"),
    "ad01": ("mlperf_tiny_ad01_int8.tflite", "anomalies of machines' sounds (AD)"),
    "str_ww": ("mlperf_tiny_str_ww_ref_model.tflite", "a wake word in a stream (SWW)"),
}


def middle_layers(net: Graph) -> list[int]:
    """Tensors of the kernels that become ternary: not the first, the last, or a depthwise one."""
    found = [(kernel_of(net, op), op.kind) for op in net.operators if op.kind in KERNELS]
    kernels = [(kernel[0], kind) for kernel, kind in found if kernel is not None]
    return [i for i, kind in kernels[1:-1] if kind != "DEPTHWISE_CONV_2D"]


def pruned(int8: bytes, zeros: float = ZEROS) -> bytes:
    """The file with its middle layers ternary, `zeros` of the weights of each channel 0."""
    net = read(int8)
    for index in middle_layers(net):
        tensor = net.tensors[index]
        assert tensor.data is not None  # kernel_of found it
        rows = tensor.data.reshape(tensor.shape[0], -1).astype(np.int32)
        keep = max(1, round((1.0 - zeros) * rows.shape[1]))
        largest = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, :keep]
        codes = np.zeros_like(rows)
        signs = np.where(np.take_along_axis(rows, largest, axis=1) < 0, -1, 1)
        np.put_along_axis(codes, largest, LARGEST_CODE * signs, axis=1)
        tensor.data = codes.astype(np.int8).reshape(tensor.shape)
    return write(net)


def share_of_zeros(int8: bytes) -> float:
    """Of the layers that `pruned` makes ternary."""
    net = read(int8)
    codes = [net.tensors[index].data for index in middle_layers(net)]
    return float(np.mean(np.concatenate([np.ravel(x) == 0 for x in codes if x is not None])))


def measured(int8: bytes, cores: Sequence[str]) -> dict[str, Any]:
    """Bytes of a file; instructions and RAM of its C on each core, None where it has no room."""
    net = mcu.int8_borders(int8)
    row: dict[str, Any] = {"bytes": len(int8)}
    for core in cores:
        with tempfile.TemporaryDirectory() as folder:
            try:
                row[core] = mcu.whole(net, core, Path(folder))
            except RuntimeError as error:  # the linker's: more than the emulated board has
                print(f"{core}: {error}", file=sys.stderr)
                row[core] = None
    return row


def measure(name: str, models: Path, cores: Sequence[str]) -> dict[str, Any]:
    file, task = NETS[name]
    int8 = (models / file).read_bytes()
    ternary = pruned(int8)
    sparse = measured(ternary, cores)
    sparse["bytes"] = len(rewrite(ternary, format="packed").content)
    zeros = share_of_zeros(ternary)
    return {"task": task, "zeros": zeros, "int8": measured(int8, cores), "ternary": sparse}


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a net's reference file, then the net at 80 % zeros."""
    cores = [f"instructions, {core.upper()}" for core in CORES]
    lines = [
        f"| net | weights | file | RAM, M4 | {' | '.join(cores)} |",
        "|---" * 4 + "|---:" * 3 + "|",
    ]
    for name, row in rows.items():
        for kind, words in (
            ("int8", "int8, the reference file"),
            ("ternary", f"{row['zeros']:.1%} zeros, packed, **only pruned**"),
        ):
            net = row[kind]
            title = f"{name}: {row['task']}" if kind == "int8" else ""
            ram = f"{net['m4']['ram']:,}" if net.get("m4") else "no room"
            counts = [f"{net[c]['instructions']:,}" if net.get(c) else "no room" for c in CORES]
            lines.append(f"| {title} | {words} | {net['bytes']:,} | {ram} | {' | '.join(counts)} |")
    return "\n".join(lines)


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    return between(page, "measured", table(rows))


def load() -> dict[str, Any]:
    return json.loads((DOCS / "mlperf_tiny.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of the int8 files")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--cores", default=",".join(CORES))
    parser.add_argument("--write", action="store_true", help="into docs/")
    given = parser.parse_args()
    cores = given.cores.split(",")
    rows = {}
    for name in given.nets.split(","):
        rows[name] = measure(name, given.models, cores)
        print(json.dumps({name: rows[name]}), flush=True)
    if not given.write:
        return
    before = load() if (DOCS / "mlperf_tiny.json").exists() else {}
    rows = {name: (before | rows)[name] for name in NETS if name in before | rows}
    (DOCS / "mlperf_tiny.json").write_text(json.dumps(rows, indent=1) + "\n")
    page = DOCS / "mlperf_tiny.md"
    page.write_text(filled(page.read_text(), rows))


if __name__ == "__main__":
    main()
