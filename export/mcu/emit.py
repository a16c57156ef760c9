"""Writes a lowered net as a folder of C: model.c, model.h, the kernels used, CMake, README."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ec2t_tf import files
from ec2t_tf.export.tflite import read

from .boards import BOARDS
from .code import Code, Names
from .columns import without_columns
from .cores import CORES, OPTIMIZE
from .dead_channels import without_dead_channels
from .example import run_example, write_example
from .lowering import Lowering
from .model_files import (
    KERNELS,
    TILES,
    Ends,
    copy_kernel,
    reserved_names,
    write_model,
    write_readme,
)
from .packages import write_packages
from .plan import ALIGNMENT, Block, Layout, place


@dataclass(frozen=True)
class LayerReport:
    """One kernel call: what it is, how its weights are kept, bytes of its constants."""

    name: str
    note: str
    flash: int


@dataclass(frozen=True)
class Report:
    """What `to_c` wrote. Sizes in bytes; `flash` is the constants alone, without code."""

    folder: Path
    flash: int
    arena: int
    layers: tuple[LayerReport, ...]
    instructions: int | None = None  # of one call, measured in QEMU, or not measured

    def __str__(self) -> str:
        rows = [f"{layer.name:34}{layer.flash:9}  {layer.note}" for layer in self.layers]
        head = f"{'layer':34}{'flash':>9}  weights"
        foot = f"constants {self.flash} bytes of flash, arena {self.arena} bytes of RAM"
        if self.instructions is not None:
            foot += f",\n{self.instructions} instructions a call in QEMU"
        return "\n".join([head, *rows, foot])


def to_c(
    model: bytes | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    core: str = "generic",
    name: str = "model",
    optimize: str = "balanced",
    example: bool = False,
    measure: bool = False,
) -> Report:
    """Writes an int8 .tflite net as freestanding C11 for one microcontroller core.

    The net computes bit for bit what TensorFlow Lite's reference kernels compute. A float input or
    output that the file quantises, or dequantises, is int8 in C.

    Args:
        model: Bytes or path of a fully int8 .tflite file. Convolutions and fully connected layers
            whose output channels hold at most one positive and one negative value are kept as
            ternary lists, others as int8.
        folder: Where to write; made if missing. Files of the same name are replaced.
        core: One of "generic" (any C11 compiler, the host), "m0", "m3", "m4", "m7", "m33", "m55",
            "rv32" (32-bit RISC-V).
        name: Prefix of the public C names, a C identifier.
        optimize: How ternary convolutions keep their weights. "speed": 16-bit distances, nothing to
            decode. "size": a Rice stream, close to the entropy, decoded at every call. "balanced":
            gaps of a byte, cheap to decode, where a layer has at least 16 output pixels to use
            what it decodes, distances elsewhere.
        example: Also write `folder`/example: a firmware for the core that QEMU runs.
        measure: Run that firmware and put the instructions of a call into the report; implies
            `example`, needs arm-none-eabi-gcc and qemu-system-arm.

    Raises:
        FileError: The file is damaged, or holds something the exporter does not support.
        ValueError: An option is not one of those listed, or a tool that measures is missing.
    """
    example = example or measure
    if core not in CORES:
        raise ValueError(f"core must be one of {', '.join(CORES)}. Received: {core!r}.")
    if example and core not in BOARDS:
        raise ValueError(f"an example needs a core of its own. Received: core={core!r}.")
    if optimize not in OPTIMIZE:
        raise ValueError(f"optimize must be one of {', '.join(OPTIMIZE)}. Received: {optimize!r}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        raise ValueError(f"name must be a lower-case C identifier. Received: {name!r}.")
    if name in reserved_names():
        raise ValueError(
            f"name must not be that of another file or target of the folder, such as {name!r}: "
            f"take {name}_net."
        )
    original = read(model)
    graph = without_columns(without_dead_channels(original))
    net = Lowering(graph, core=core, optimize=optimize)
    folder = Path(folder)
    addresses, scratch, arena = _memory(net)

    def pointer(layout: Layout) -> str:
        return f"(arena + {addresses[id(layout)] + layout.lead})"

    declarations: list[str] = []
    body: list[str] = []
    layers: list[LayerReport] = []
    tiles: list[str] = []
    sources = {"layout.c"}

    def add(number: int, what: str, code: Code, used: Sequence[str], lines: list[str]) -> None:
        text = "\n".join(code.declarations + code.statements)
        if code.tile and code.tile not in tiles:
            tiles.append(code.tile)
        sources.update(c for c in used if _uses(c, text))
        declarations.extend([f"/* {number}: {what} */", *code.declarations, ""])
        lines += [f"  /* {number}: {what} */", *(f"  {s}" for s in code.statements)]
        layers.append(LayerReport(what, code.note, code.flash))

    for number, step in enumerate(net.steps):
        names = Names(
            number,
            tuple(pointer(net.layouts[t]) for t in step.inputs),
            pointer(net.layouts[step.output]),
            f"((uint16_t *)(void *)(arena + {scratch[number]}))",
        )
        add(number, step.name, step.emit(names), step.sources, body)
        body.append(f"  {name.upper()}_LAP();")
    reset: list[str] = []
    for number, state in enumerate(net.states.values(), len(net.steps)):
        names = Names(number, (), pointer(state.layout), "")
        add(number, "first state", state.reset(names), state.sources, reset)
    ends = Ends.of(net, original, pointer)
    report = Report(folder, sum(x.flash for x in layers), arena, tuple(layers))

    def write(written: Path, report: Report) -> None:
        parts = [*tiles, "", *declarations]
        write_model(written, name, net, ends, parts, body, reset, report.arena, str(report))
        write_readme(written, name, core, ends, stateful=bool(reset), report=str(report))

    headers = [header for header, macro in TILES.items() if any(t.startswith(macro) for t in tiles)]
    copied = _with_headers(["planar.h", *headers, *sorted(sources)])
    with files.folder(folder) as written:
        write(written, report)
        for file in copied:
            copy_kernel(file, written, swar=CORES[core].family == "swar")
        compiled = [f"{name}.c", *sorted(sources)]
        write_packages(written, name, core, compiled, swar=CORES[core].family == "swar")
        if example:
            write_example(written, name, core)
        if measure:
            report = replace(report, instructions=run_example(written, core))
            write(written, report)
    return report


def _with_headers(files: Sequence[str]) -> list[str]:
    """Kernel files and all they include of each other."""
    found: list[str] = []
    left = list(files)
    while left:
        file = left.pop()
        if file not in found:
            found.append(file)
            text = (KERNELS / file).read_text()
            left += re.findall(r'^#include "([^"]+)"', text, re.M)
    return found


def _uses(source: str, text: str) -> bool:
    """Whether generated C calls into a kernel file."""
    defined = r"^(?:WALK\(|[\w ]+?\b)(ec2t_\w+)[(,]"
    functions = re.findall(defined, (KERNELS / source).read_text(), re.M)
    return any(re.search(rf"\b{function}\b", text) for function in functions)


def _memory(net: Lowering) -> tuple[dict[int, int], list[int], int]:
    """Arena offsets of layouts (by identity) and of each step's scratch, and the arena's size."""
    parent: dict[int, Layout] = {}
    for before, after in net.shares:
        parent[id(after)] = before

    def root(layout: Layout) -> Layout:
        while id(layout) in parent:
            layout = parent[id(layout)]
        return layout

    blocks: dict[int, Block] = {}
    distinct = {id(x): x for x in net.layouts.values()}
    made = {id(net.layouts[step.output]): i for i, step in reversed(list(enumerate(net.steps)))}
    for key, layout in distinct.items():
        first, last = made.get(key, 0), max(net.last_use(layout), made.get(key, 0))
        if any(layout is net.layouts[i] for i in net.inputs):
            first = 0
        if any(layout is state.layout for state in net.states.values()):
            first, last = 0, len(net.steps)
        home = id(root(layout))
        if home in blocks:
            block = blocks[home]
            block.first, block.last = min(block.first, first), max(block.last, last)
            block.size = max(block.size, layout.size)
        else:
            blocks[home] = Block(str(len(blocks)), layout.size, first, last)
    for block in blocks.values():
        block.size += -block.size % ALIGNMENT
    scratches = [
        Block(f"scratch {i}", step.scratch() + -step.scratch() % ALIGNMENT, i, i)
        for i, step in enumerate(net.steps)
    ]
    arena = place([*blocks.values(), *(s for s in scratches if s.size)])
    addresses = {key: blocks[id(root(layout))].offset for key, layout in distinct.items()}
    for step in net.steps:
        for position, layout in enumerate(net.layouts[t] for t in step.inputs):
            arena = max(arena, addresses[id(layout)] + layout.lead + step.reads(position))
    arena += -arena % ALIGNMENT
    return addresses, [max(s.offset, 0) for s in scratches], arena
