"""Writes a lowered net as a folder of C: model.c, model.h, the kernels used, CMake, README."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ec2t_tf import files

from .. import kernels
from . import graph as graph_module
from .boards import BOARDS
from .code import Names
from .columns import without_columns
from .dead_channels import without_dead_channels
from .example import run_example, write_example
from .lower import CORES, OPTIMIZE, SWAR_CORES, Lowering
from .packages import write_packages
from .plan import ALIGNMENT, Block, Layout, place

KERNELS = Path(kernels.__file__).parent / "cortex_m"
TILES = {
    "list_tile.h": "EC2T_MCU_TILE",
    "dense_tile.h": "EC2T_MCU_DENSE_TILE",
    "dot_conv.h": "EC2T_MCU_DOT_TILE",
}


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

    The net computes bit for bit what TensorFlow Lite's reference kernels compute.

    Args:
        model: Bytes or path of a fully int8 .tflite file. Convolutions and fully connected layers
            whose output channels hold at most one positive and one negative value are kept as
            ternary lists, others as int8.
        folder: Where to write; made if missing. Files of the same name are replaced.
        core: One of "generic" (any C11 compiler, the host), "m0", "m3", "m4", "m7", "m33", "m55".
        name: Prefix of the public C names, a C identifier.
        optimize: How ternary convolutions keep their weights. "speed": 16-bit distances, nothing to
            decode. "size": a Rice stream, close to the entropy, decoded at every call. "balanced":
            Rice where a layer has at least 16 output pixels to use what it decodes, distances
            elsewhere.
        example: Also write `folder`/example: a firmware for the core that QEMU runs.
        measure: Run that firmware and put the instructions of a call into the report; implies
            `example`, needs arm-none-eabi-gcc and qemu-system-arm.

    Raises:
        ModelError: The file is damaged, or holds something the exporter does not support.
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
    if not isinstance(model, bytes):
        model = Path(model).read_bytes()
    original = graph_module.read(model)
    graph, numbers = without_columns(without_dead_channels(original))
    net = Lowering(graph, model, core=core, optimize=optimize, numbers=numbers)
    folder = Path(folder)
    addresses, scratch, arena = _memory(net)

    def pointer(layout: Layout) -> str:
        return f"(arena + {addresses[id(layout)] + layout.lead})"

    declarations: list[str] = []
    body: list[str] = []
    layers: list[LayerReport] = []
    tiles: list[str] = []
    sources = {"layout.c"}
    for number, step in enumerate(net.steps):
        names = Names(
            number,
            tuple(pointer(net.layouts[t]) for t in step.inputs),
            pointer(net.layouts[step.output]),
            f"((uint16_t *)(void *)(arena + {scratch[number]}))",
        )
        code = step.emit(names)
        text = "\n".join(code.declarations + code.statements)
        if code.tile and code.tile not in tiles:
            tiles.append(code.tile)
        sources |= {c for c in step.sources if _uses(c, text)}
        declarations += [f"/* {number}: {step.name} */", *code.declarations, ""]
        body += [f"  /* {number}: {step.name} */", *(f"  {s}" for s in code.statements)]
        body.append(f"  {name.upper()}_LAP();")
        layers.append(LayerReport(step.name, code.note, code.flash))
    first, last = net.layouts[net.input], net.layouts[net.output]
    shapes = [
        (original if i < len(original.tensors) else graph).tensors[i].shape
        for i in (net.input, net.output)
    ]
    report = Report(folder, sum(x.flash for x in layers), arena, tuple(layers))

    def write(written: Path, report: Report) -> None:
        ends = (pointer(first), pointer(last))
        text = [*tiles, "", *declarations]
        _write_model(written, name, net, shapes, text, body, ends, report)
        _write_readme(written, name, core, report)

    headers = [header for header, macro in TILES.items() if any(t.startswith(macro) for t in tiles)]
    copied = _with_headers(["planar.h", *headers, *sorted(sources)])
    with files.folder(folder) as written:
        write(written, report)
        for file in copied:
            shutil.copyfile(KERNELS / file, written / file)
        compiled = [f"{name}.c", *sorted(sources)]
        write_packages(written, name, core, compiled, swar=core in SWAR_CORES)
        if example:
            write_example(written, name, core)
        if measure:
            report = replace(report, instructions=run_example(written))
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
        if layout is net.layouts[net.input]:
            first = 0
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


def _write_model(
    folder: Path,
    name: str,
    net: Lowering,
    shapes: Sequence[tuple[int, ...]],
    declarations: list[str],
    body: list[str],
    ends: tuple[str, str],
    report: Report,
) -> None:
    upper = name.upper()
    tensors = net.graph.tensors
    table = "\n".join(f" * {line}".rstrip() for line in str(report).splitlines())
    header = [
        f"/* A generated net: int8 in, int8 out, for {net.core}.",
        " *",
        table,
        " */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
    ]
    for which, index, shape in zip(
        ("INPUT", "OUTPUT"), (net.input, net.output), shapes, strict=True
    ):
        tensor = tensors[index]
        header += [
            f"/* {which.lower()}: shape {list(shape)}, "
            f"real value = (int8 - {upper}_{which}_ZERO_POINT) * {upper}_{which}_SCALE */",
            f"#define {upper}_{which}_SIZE {int(np.prod(shape))}",
            f"#define {upper}_{which}_SCALE {float(tensor.scale[0])!r}f",
            f"#define {upper}_{which}_ZERO_POINT ({int(tensor.zero_point[0])})",
        ]
    header += [
        "",
        f"/* Bytes of RAM {name}_invoke works in. */",
        f"#define {upper}_ARENA_SIZE {report.arena}",
        "",
        "/* Runs the net once. The arena starts on a 4-byte boundary and keeps nothing.",
        " * Returns 0, or 1 if the weights in flash are damaged. */",
        f"int {name}_invoke(const int8_t input[{upper}_INPUT_SIZE], "
        f"int8_t output[{upper}_OUTPUT_SIZE],",
        f"{' ' * (len(name) + 12)}uint8_t arena[{upper}_ARENA_SIZE]);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    (folder / f"{name}.h").write_text("\n".join(header))
    first, last = net.layouts[net.input], net.layouts[net.output]
    lists = any("status = " in line for line in body)
    text = "\n".join(declarations)
    includes = [
        f'#include "{header}"' for header, macro in TILES.items() if f"{macro}(" in text
    ] or ['#include "planar.h"']
    source = [
        f'#include "{name}.h"',
        "",
        *includes,
        "",
        f"#if EC2T_MCU_FLIP != {0x80 if net.core in SWAR_CORES else 0}u",
        f"#error this net was exported for {net.core}: compile it for that core, or export again",
        "#endif",
        "",
        f"#ifndef {upper}_LAP",
        f"#define {upper}_LAP() (void)0 /* called after every layer */",
        "#endif",
        "",
        *declarations,
        f"static const ec2t_mcu_planar input_layout = {first.c()};",
        f"static const ec2t_mcu_planar output_layout = {last.c()};",
        "",
        f"int {name}_invoke(const int8_t input[{upper}_INPUT_SIZE], "
        f"int8_t output[{upper}_OUTPUT_SIZE],",
        f"{' ' * (len(name) + 12)}uint8_t arena[{upper}_ARENA_SIZE]) {{",
        *(["  ec2t_mcu_status status;"] if lists else []),
        f"  ec2t_mcu_from_nhwc(input, &input_layout, {ends[0]});",
        f"  {upper}_LAP();",
        *body,
        f"  ec2t_mcu_to_nhwc(&output_layout, {ends[1]}, output);",
        "  return EC2T_MCU_OK;",
        "}",
        "",
    ]
    (folder / f"{name}.c").write_text("\n".join(source))


def _write_readme(folder: Path, name: str, core: str, report: Report) -> None:
    upper = name.upper()
    (folder / "README.md").write_text(
        f"""# {name}: a net as C

Generated; change the model and export again instead of editing. Built for: {core}.

```c
#include "{name}.h"
static int8_t input[{upper}_INPUT_SIZE], output[{upper}_OUTPUT_SIZE];
static uint8_t arena[{upper}_ARENA_SIZE] __attribute__((aligned(4)));

/* fill input: real / {upper}_INPUT_SCALE + {upper}_INPUT_ZERO_POINT, rows-columns-channels */
if ({name}_invoke(input, output, arena) != 0) {{ /* the weights in flash are damaged */ }}
```

Ways to build it:

* Any build: compile every .c file of this folder as C11, `-O2`, with the flags of your core
  (`-mcpu=cortex-m4 -mthumb` and so on).
* CMake: `add_subdirectory` this folder and link `{name}`.
* Zephyr: add this folder to `ZEPHYR_EXTRA_MODULES` (`west build -- -DZEPHYR_EXTRA_MODULES=...`).
* Arduino: copy this folder into `libraries`; `File > Examples > {name}` has a sketch.

No C library, no heap, no interpreter. `{name}.c` holds the constants and the calls, `planar.h` the
kernels' interface.

```
{report}
```
"""
    )
