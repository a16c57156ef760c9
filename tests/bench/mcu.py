"""Instructions, flash and RAM on Cortex-M cores in QEMU, next to CMSIS-NN.

    make bench-mcu            # measures everything and rewrites docs/mcu.md and docs/mcu.json
    python -m tests.bench.mcu --ours --write    # our figures alone; what others take stays
    python -m tests.bench.mcu --against=old.json    # what takes more instructions than it did
    python -m tests.bench.mcu --model=model.tflite --cores=m4      # one file of your own

Counts are executed instructions of the emulated core: exact, repeatable, and neither cycles nor
time. Weights are random ternary (two magnitudes a channel), seed 1 unless the net says otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf.export.graph.ternary import entropy, is_ternary, kernel_of
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.tflite import read, write
from ec2t_tf.export.tflm import to_tflm
from tests import c_runner, nets
from tests.bench import cmsis_nn, numbers, qemu

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPARSITIES = (0.5, 0.7, 0.9)
KINDS = {
    "CONV_2D": "convolutions",
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "fully connected",
}


def conv(zeros: float | None, shape: tuple[int, int, int], channels: int, **options: Any) -> bytes:
    """A net of one convolution on rows x columns x channels."""
    net = nets.NetBuilder((1, *shape), seed=1)
    return net.finish(net.conv(net.input, channels, zeros=zeros, **options))


def dense(zeros: float | None, inputs: int, outputs: int) -> bytes:
    net = nets.NetBuilder((1, inputs), seed=1)
    return net.finish(net.dense(net.input, outputs, zeros=zeros))


SHAPES: dict[str, Callable[[float | None], bytes]] = {
    "3x3, 16x16x32 -> 32": lambda z: conv(z, (16, 16, 32), 32),
    "3x3, 8x8x64 -> 64": lambda z: conv(z, (8, 8, 64), 64),
    "3x3 stride 2, 32x32x16 -> 32": lambda z: conv(z, (32, 32, 16), 32, stride=(2, 2)),
    "1x1, 25x5x64 -> 64": lambda z: conv(z, (25, 5, 64), 64, kernel=(1, 1)),
    "depthwise 3x3, 12x12x32": lambda z: conv(z, (12, 12, 32), 32, depthwise=True),
    "fully connected 512 -> 64": lambda z: dense(z, 512, 64),
}
INT8_SHAPES: dict[str, Callable[[], bytes]] = {
    "int8 3x3, 32x32x3 -> 16": lambda: conv(None, (32, 32, 3), 16),
    "int8 10x4 stride 2, 49x10x1 -> 64": lambda: conv(
        None, (49, 10, 1), 64, kernel=(10, 4), stride=(2, 2)
    ),
    "int8 3x3, 16x16x32 -> 32": lambda: conv(None, (16, 16, 32), 32),
    "int8 3x3, 8x8x64 -> 64": lambda: conv(None, (8, 8, 64), 64),
    "int8 1x1, 25x5x64 -> 64": lambda: conv(None, (25, 5, 64), 64, kernel=(1, 1)),
    "int8 depthwise 3x3, 12x12x32": lambda: conv(None, (12, 12, 32), 32, depthwise=True),
    "int8 depthwise 5x5, 12x12x32": lambda: conv(
        None, (12, 12, 32), 32, kernel=(5, 5), depthwise=True
    ),
    "int8 depthwise 7x7, 12x12x32": lambda: conv(
        None, (12, 12, 32), 32, kernel=(7, 7), depthwise=True
    ),
    "int8 fully connected 512 -> 64": lambda: dense(None, 512, 64),
}

INT8_NETS: dict[str, Callable[[], bytes]] = {
    f"{name}, int8": lambda make=make: make(zeros=None) for name, make in nets.NETS.items()
}
# Cells of the table that are not measured here: figures of CMSIS-NN's newest sources, with what
# they were measured with under "peers".
RECORDED = "CMSIS-NN newest"


def layer(model: bytes, core: str, folder: Path, *, optimize: str) -> int:
    """Instructions of the one layer of a net, conversion to planes and back left out."""
    to_c(model, folder, core=core, optimize=optimize)
    net = numbers.read(model)
    values = nets.inputs(model, 3)[2:]
    shape = net.tensors[net.outputs[0]].shape[1:]
    got, _, counts = c_runner.run_core(core, folder, values, shape, laps=True)
    np.testing.assert_array_equal(got, nets.reference(model, values))
    return counts[1].instructions


def peer(model: bytes, core: str) -> int:
    """Instructions of CMSIS-NN's calls for a net; its objects are kept from call to call."""
    folder = Path(tempfile.gettempdir()) / f"ec2t_yardstick_{core}"
    return sum(x.instructions for x in cmsis_nn.layer_counts(model, core, folder).values())


def whole(model: bytes, core: str, folder: Path, *, optimize: str = "balanced") -> dict[str, int]:
    """A net: instructions of one invoke; bytes of firmware flash, of RAM (arena, input and output,
    all of which TFLM keeps in its arena) and of constants."""
    report = to_c(model, folder, core=core, optimize=optimize)
    net = numbers.read(model)
    values = nets.inputs(model, 3)[2:]
    shape = net.tensors[net.outputs[0]].shape[1:]
    got, image, counts = c_runner.run_core(core, folder, values, shape)
    np.testing.assert_array_equal(got, nets.reference(model, values))
    return {
        "instructions": counts[0].instructions,
        "flash": image.flash,
        "ram": report.arena
        + sum(int(np.prod(net.tensors[i].shape)) for i in (*net.inputs, *net.outputs)),
        "constants": report.flash,
    }


def int8_borders(model: bytes) -> bytes:
    """The same net without a float QUANTIZE at its input and DEQUANTIZE at its output."""
    net = read(model)
    first, last = net.operators[0], net.operators[-1]
    if last.kind == "DEQUANTIZE":
        net.outputs = last.inputs
        net.operators.pop()
    if first.kind == "QUANTIZE" and net.tensors[net.inputs[0]].dtype == "float32":
        net.inputs = first.outputs
        net.operators.pop(0)
    net.signatures = []  # they name the float tensors
    return write(net)


def weight_entropy(model: bytes) -> tuple[float, float]:
    """Bytes of all weights at their layers' first-order entropy, and the share of zeros in ternary
    layers."""
    net, bits, zeros, ternary = read(model), 0.0, 0, 0
    for op in net.operators:
        kernel = kernel_of(net, op)
        if kernel is not None:
            channels = kernel[2]
            sparse = is_ternary(channels)
            bits += channels.size * entropy(np.sign(channels) if sparse else channels)
            zeros += sparse * int((channels == 0).sum())
            ternary += sparse * channels.size
    return bits / 8, zeros / max(ternary, 1)


def one_model(path: Path, cores: list[str]) -> str:
    """A table of one .tflite file, trained elsewhere: ours against CMSIS-NN and TFLM."""
    model = int8_borders(path.read_bytes())
    entropy, zeros = weight_entropy(model)
    lines = [
        f"{path.name}: {zeros:.1%} zeros in ternary layers, weights' entropy {entropy:,.0f} bytes, "
        f"smallest TFLM arena of the int8 net {smallest_arena(model) or 'not measured'} bytes",
        "",
        "| core | optimize | instructions | CMSIS-NN, layers alone | ratio | firmware flash "
        "| flash - entropy | RAM |",
        "|---" * 8 + "|",
    ]
    for core in cores:
        theirs = peer(model, core) if cmsis_nn.root() is not None else 0
        for optimize in ("size", "balanced", "speed"):
            with tempfile.TemporaryDirectory() as folder:
                ours = whole(model, core, Path(folder), optimize=optimize)
            lines.append(
                f"| {core} | {optimize} | {ours['instructions']:,} | {theirs:,} "
                f"| {theirs / ours['instructions']:.2f} | {ours['flash']:,} "
                f"| {ours['flash'] - entropy:,.0f} | {ours['ram']:,} |"
            )
    return "\n".join(lines)


def smallest_arena(model: bytes) -> int | None:
    """Bytes of arena TFLM's interpreter needs, on this machine; None without the wheel."""
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        return None
    low, high = 0, 1 << 22
    while high - low > 16:
        middle = (low + high) // 2
        try:
            runtime.Interpreter.from_bytes(model, arena_size=middle)
            high = middle
        except RuntimeError:
            low = middle
    return high


def tasks(cores: list[str], *, ours: bool) -> Iterator[tuple[list[str], Callable[[Path], Any]]]:
    """Every measurement (or our kernels' alone): its path in the table and what measures it."""
    peer_is_here = cmsis_nn.root() is not None and not ours
    for core in cores:
        for name, make in SHAPES.items():
            for zeros in SPARSITIES:
                for optimize in ("speed", "size"):
                    if optimize == "size" and name != next(iter(SHAPES)):
                        continue  # the price of decoding, shown once
                    yield (
                        ["layers", name, core, f"{zeros:.0%} {optimize}"],
                        lambda f, m=make, z=zeros, c=core, e=optimize: layer(
                            m(z), c, f, optimize=e
                        ),
                    )
        for name, build in INT8_SHAPES.items():
            yield (
                ["layers", name, core, "int8"],
                lambda f, b=build, c=core: layer(b(), c, f, optimize="speed"),
            )
        if peer_is_here:
            peers = {**{n: (lambda m=m: m(0.5)) for n, m in SHAPES.items()}, **INT8_SHAPES}
            for name, build in peers.items():
                yield (
                    ["layers", name, core, "CMSIS-NN"],
                    lambda _, b=build, c=core: peer(b(), c),
                )
        for name, make_net in {**nets.NETS, **INT8_NETS}.items():
            yield ["nets", name, core, "ours"], lambda f, m=make_net, c=core: whole(m(), c, f)
            if peer_is_here:
                yield (
                    ["nets", name, core, "CMSIS-NN layers"],
                    lambda _, m=make_net, c=core: peer(m(), c),
                )
    for name, make_net in ({} if ours else nets.NETS).items():
        yield ["tflm", name], lambda _, m=make_net: tflm_sizes(m())


def wheel_compressor(model: bytes) -> bytes | None:
    """The file as the tflite-micro wheel's own LUT compressor makes it; None without the wheel.
    Tensors with a scale a channel get a table a channel, others one table: its decoder takes the
    number of tables from the scales."""
    try:
        from tflite_micro import compression
    except ImportError:
        return None
    net = numbers.read(model)
    builder = compression.SpecBuilder()
    for op in net.operators:
        axis = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3}.get(op.kind)
        weights = net.tensors[op.inputs[1]].data if axis is not None else None
        if axis is None or weights is None:
            continue
        several = len(net.tensors[op.inputs[1]].scale) > 1
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis] if several else 1, -1)
        values = max(len(np.unique(row)) for row in rows)
        if values <= 8:
            spec = compression.spec
            mode = spec.PerChannel(axis) if several else spec.PerTensor()
            builder.add_tensor(0, op.inputs[1]).with_lut(2 if values <= 4 else 3, mode)
    return bytes(compression.compress(model, builder.build()))


def tflm_sizes(model: bytes) -> dict[str, dict[str, float | None]]:
    """File and smallest arena of plain int8 and of DECODE streams, bytes; of Huffman streams also
    the bits a weight and 2 - p0, p0 being the share of zeros, by kind of layer."""
    table: dict[str, dict[str, float | None]] = {}
    files = {"int8": model}
    for streams in ("lut", "huffman", "auto"):
        files[streams], report = to_tflm(model, streams=streams)
        if streams == "huffman":
            net = numbers.read(model)
            weights = {t.name: t.data for t in net.tensors}
            kinds = {
                net.tensors[op.inputs[1]].name: op.kind for op in net.operators if op.kind in KINDS
            }
            for kind, name in KINDS.items():
                rows = [x for x in report.layers if x.kind == "huffman" and kinds[x.name] == kind]
                count = sum(x.weights for x in rows)
                if count:
                    zeros = sum(int((weights[x.name] == 0).sum()) for x in rows)
                    bits = sum(x.bits_per_weight * x.weights for x in rows) / count
                    table[f"huffman, {name}"] = {"bits": bits, "bound": 2 - zeros / count}
    theirs = wheel_compressor(model)
    if theirs is not None:
        files["LUT of the wheel"] = theirs
    sizes = {k: {"file": len(v), "arena": smallest_arena(v)} for k, v in files.items()}
    return {**sizes, **table}


def measure(cores: list[str], *, ours: bool) -> dict[str, Any]:
    """Runs every task, showing progress."""
    table: dict[str, Any] = {}
    todo = list(tasks(cores, ours=ours))
    for number, (path, run) in enumerate(todo, 1):
        print(f"\r{number}/{len(todo)} {' '.join(path):70.70}", end="", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            value = run(Path(folder))
        place = table
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    print(file=sys.stderr)
    return table


def keep_recorded(table: dict[str, Any], before: dict[str, Any], *, ours: bool) -> None:
    """Puts the figures that are not measured here into a table: in any case those of CMSIS-NN's
    newest sources, and with `ours` whatever is not in it."""
    table["peers"] = before["peers"]
    for kind in ("layers", "nets"):
        for name, cores in table[kind].items():
            for core, row in cores.items():
                old = before[kind].get(name, {}).get(core, {})
                kept = {k: v for k, v in old.items() if (ours or k == RECORDED) and k not in row}
                row |= kept
    if ours:
        table.setdefault("tflm", before["tflm"])


def markdown(table: dict[str, Any]) -> str:
    """The table of docs/mcu.md."""
    lines = ["## Layers: thousands of instructions in QEMU", ""]
    head = ["50%", "50% size", "70%", "70% size", "90%", "90% size", "CMSIS-NN 4.0.0", "newest"]
    keys = [f"{z:.0%} {e}" for z in SPARSITIES for e in ("speed", "size")]
    keys += ["CMSIS-NN", RECORDED]
    lines += ["| layer | core | " + " | ".join(head) + " |", "|---" * 10 + "|"]
    for name, cores in table["layers"].items():
        for core, row in cores.items():
            cells = [f"{row[k] / 1000:.1f}" if k in row else "" for k in keys]
            if "int8" in row:
                cells[0] = f"int8 {row['int8'] / 1000:.1f}"
            lines.append(f"| {name} | {core} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Nets (ternary layers at 80 % zeros; int8: the same nets, nothing ternary)",
        "",
    ]
    lines += [
        "| net | core | instructions | CMSIS-NN 4.0.0, layers alone | ratio | newest | ratio "
        "| firmware flash | RAM |",
        "|---" * 9 + "|",
    ]
    for name, cores in table["nets"].items():
        for core, row in cores.items():
            ours = row["ours"]
            peers = [row.get(key) for key in ("CMSIS-NN layers", RECORDED)]
            compared = " | ".join(
                f"{peer:,} | {peer / ours['instructions']:.2f}" if peer else " | " for peer in peers
            )
            lines.append(
                f"| {name} | {core} | {ours['instructions']:,} | {compared} | "
                f"{ours['flash']:,} | {ours['ram']:,} |"
            )
    lines += ["", "## What ternary weights gain: the same nets, int8 / ternary at 80 % zeros", ""]
    lines += ["| net | core | instructions | constants in flash |", "|---" * 4 + "|"]
    for name in nets.NETS:
        for core, row in table["nets"][name].items():
            ours, dense = row["ours"], table["nets"][f"{name}, int8"][core]["ours"]
            shares = [dense[key] / ours[key] for key in ("instructions", "constants")]
            lines.append(f"| {name} | {core} | {shares[0]:.2f} | {shares[1]:.2f} |")
    lines += ["", '## `format="tflm"`: file and smallest arena of TFLM, bytes', ""]
    lines += ["| net | streams | file | arena |", "|---" * 4 + "|"]
    for name, rows in table["tflm"].items():
        for streams, row in rows.items():
            if "file" in row:
                arena = f"{row['arena']:,}" if row["arena"] else ""
                lines.append(f"| {name} | {streams} | {row['file']:,} | {arena} |")
    lines += ["", "## Huffman: bits a weight, and 2 - p0 with p0 the share of zeros", ""]
    lines += ["| net | layers | bits | 2 - p0 |", "|---" * 4 + "|"]
    for name, rows in table["tflm"].items():
        for streams, row in rows.items():
            if "bits" in row:
                lines.append(f"| {name} | {streams} | {row['bits']:.3f} | {row['bound']:.3f} |")
    return "\n".join(lines) + "\n"


def figures(table: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Our instructions, with their place in the table."""
    for kind in ("layers", "nets"):
        for name, cores in table[kind].items():
            for core, row in cores.items():
                ours = {"whole": row["ours"]["instructions"]} if kind == "nets" else row
                for key, value in ours.items():
                    if not key.startswith("CMSIS-NN"):
                        yield (kind, name, core, key), value


def slower(table: dict[str, Any], before: dict[str, Any], *, by: float = 1.02) -> str:
    """The rows that take more instructions than before, and the worst of all."""
    old = dict(figures(before))
    shares = {at: value / old[at] for at, value in figures(table) if at in old}
    worst = max(shares, key=shares.__getitem__)
    found = [f"{' '.join(at)}: {share:.4f}" for at, share in shares.items() if share > by]
    return "\n".join(
        [
            f"of {len(shares)} rows {len(found)} take more than {by:.2f} of the instructions "
            f"before; worst {' '.join(worst)}: {shares[worst]:.4f}",
            *found,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cores", default=",".join(qemu.CORES), help="comma-separated")
    parser.add_argument(
        "--write", action="store_true", help="rewrite docs/mcu.md and docs/mcu.json"
    )
    parser.add_argument(
        "--model", type=Path, help="an int8 .tflite file: measure it alone, write nothing"
    )
    parser.add_argument("--ours", action="store_true", help="measure no other kernels")
    parser.add_argument(
        "--against",
        type=Path,
        help="an earlier mcu.json: say what docs/mcu.json has slower, measure nothing",
    )
    flags = parser.parse_args()
    if flags.against is not None:
        now, before = (json.loads(p.read_text()) for p in (DOCS / "mcu.json", flags.against))
        print(slower(now, before))
        return
    if qemu.missing_tools():
        raise SystemExit(qemu.missing_tools())
    if flags.model is not None:
        print(one_model(flags.model, flags.cores.split(",")))
        return
    table = measure(flags.cores.split(","), ours=flags.ours)
    keep_recorded(table, json.loads((DOCS / "mcu.json").read_text()), ours=flags.ours)
    text = markdown(table)
    if flags.write:
        document = DOCS / "mcu.md"
        before = document.read_text().split("<!-- measured -->")[0]
        document.write_text(before + "<!-- measured -->\n\n" + text)
        (DOCS / "mcu.json").write_text(json.dumps(table, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
