"""The text of model.c, model.h and the folder's README."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import Graph

from .plan import Layout

if TYPE_CHECKING:
    from .lowering import Lowering

KERNELS = Path(__file__).parent / "kernels"
TILES = {
    "list_tile.h": "EC2T_MCU_TILE",
    "dense_tile.h": "EC2T_MCU_DENSE_TILE",
    "dot_conv.h": "EC2T_MCU_DOT_TILE",
}
_C_HEADERS = (
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits"),
    *("locale", "math", "setjmp", "signal", "stdalign", "stdarg", "stdatomic", "stdbool"),
    *("stddef", "stdint", "stdio", "stdlib", "stdnoreturn", "string", "tgmath", "threads"),
    *("time", "uchar", "wchar", "wctype", "arm_mve", "arm_acle", "unistd"),
)
_TARGETS = ("all", "clean", "install", "test", "help", "package", "main", "example")


def reserved_names() -> set[str]:
    """What a net may not be called: its files would take the place of others."""
    return {*(p.stem for p in KERNELS.iterdir()), *_C_HEADERS, *_TARGETS}


def copy_kernel(file: str, folder: Path, *, swar: bool) -> None:
    """A kernel's file; the choice of kernels stands in planar.h, no flag is needed."""
    text = (KERNELS / file).read_text()
    if file == "planar.h" and swar:
        text = re.sub(
            r"^#define EC2T_MCU_PLANAR_H$",
            "#define EC2T_MCU_PLANAR_H\n#if !defined(EC2T_MCU_CORE_SWAR)\n"
            "#define EC2T_MCU_CORE_SWAR /* the core that this was exported for */\n#endif",
            text,
            count=1,
            flags=re.MULTILINE,
        )
    (folder / file).write_text(text)


@dataclass(frozen=True)
class End:
    """An input or output of the net as the C code has it."""

    name: str  # "input", or "input_0" of several
    type_name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    layout: Layout
    pointer: str

    @property
    def unsigned(self) -> str:
        """What the name of a conversion ends in."""
        return "_u8" if self.type_name == "uint8_t" else ""

    def parameter(self, upper: str, *, constant: bool) -> str:
        """In the C function's list."""
        return (
            f"{'const ' if constant else ''}{self.type_name} {self.name}"
            f"[{upper}_{self.name.upper()}_SIZE]"
        )


@dataclass(frozen=True)
class Ends:
    """All of them."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]

    @staticmethod
    def of(net: Lowering, original: Graph, pointer: Callable[[Layout], str]) -> Ends:
        """Those of a lowered net, with the shapes of the graph it was made of."""

        def ends(which: str, indices: Sequence[int]) -> tuple[End, ...]:
            found = []
            for place, index in enumerate(indices):
                tensor, layout = net.graph.tensors[index], net.layouts[index]
                source = (original if index < len(original.tensors) else net.graph).tensors
                found.append(
                    End(
                        which if len(indices) == 1 else f"{which}_{place}",
                        f"{tensor.dtype}_t",
                        source[index].shape,
                        float(tensor.scale[0]),
                        int(tensor.zero_point[0]),
                        layout,
                        pointer(layout),
                    )
                )
            return tuple(found)

        return Ends(ends("input", net.inputs), ends("output", net.outputs))

    def signature(self, name: str) -> str:
        """Of the function that runs the net."""
        upper = name.upper()
        parameters = [end.parameter(upper, constant=True) for end in self.inputs]
        parameters += [end.parameter(upper, constant=False) for end in self.outputs]
        parameters.append(f"uint8_t arena[{upper}_ARENA_SIZE]")
        indent = ",\n" + " " * (len(name) + 12)
        return f"int {name}_invoke({indent.join(parameters)})"


def write_model(
    folder: Path,
    name: str,
    net: Lowering,
    ends: Ends,
    declarations: Sequence[str],
    body: Sequence[str],
    reset: Sequence[str],
    arena: int,
    report: str,
) -> None:
    """model.h and model.c; `body` and `reset` are the statements of two functions."""
    (folder / f"{name}.h").write_text(_header(name, net, ends, bool(reset), arena, report))
    upper = name.upper()
    text = "\n".join(declarations)
    includes = [
        f'#include "{header}"' for header, macro in TILES.items() if f"{macro}(" in text
    ] or ['#include "planar.h"']
    lists = any("status = " in line for line in body)
    layouts = [
        f"static const ec2t_mcu_planar {end.name}_layout = {end.layout.c()};"
        for end in (*ends.inputs, *ends.outputs)
    ]
    source = [
        f'#include "{name}.h"',
        "",
        *includes,
        "",
        f"#if EC2T_MCU_FLIP != {0x80 if net.core.family == 'swar' else 0}u",
        f"#error this net was exported for {net.core_name}: compile it for that core, or export "
        "again",
        "#endif",
        "",
        f"#ifndef {upper}_LAP",
        f"#define {upper}_LAP() (void)0 /* called after every layer */",
        "#endif",
        "",
        *declarations,
        *layouts,
        "",
        f"{ends.signature(name)} {{",
        *(["  ec2t_mcu_status status;"] if lists else []),
        *(
            f"  ec2t_mcu_from_nhwc{end.unsigned}({end.name}, &{end.name}_layout, {end.pointer});"
            for end in ends.inputs
        ),
        f"  {upper}_LAP();",
        *body,
        *(
            f"  ec2t_mcu_to_nhwc{end.unsigned}(&{end.name}_layout, {end.pointer}, {end.name});"
            for end in ends.outputs
        ),
        "  return EC2T_MCU_OK;",
        "}",
        "",
    ]
    if reset:
        source += [f"void {name}_reset(uint8_t arena[{upper}_ARENA_SIZE]) {{", *reset, "}", ""]
    (folder / f"{name}.c").write_text("\n".join(source))


def _header(name: str, net: Lowering, ends: Ends, stateful: bool, arena: int, report: str) -> str:
    upper = name.upper()
    table = "\n".join(f" * {line}".rstrip() for line in report.splitlines())
    types = {end.type_name for end in (*ends.inputs, *ends.outputs)}
    whole = "int8 in, int8 out" if types == {"int8_t"} else "8 bits in, 8 bits out"
    lines = [
        f"/* A generated net: {whole}, for {net.core_name}.",
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
    for end in (*ends.inputs, *ends.outputs):
        macro, kind = f"{upper}_{end.name.upper()}", end.type_name.removesuffix("_t")
        lines += [
            f"/* {end.name}: shape {list(end.shape)}, "
            f"real value = ({kind} - {macro}_ZERO_POINT) * {macro}_SCALE */",
            f"#define {macro}_SIZE {int(np.prod(end.shape))}",
            f"#define {macro}_SCALE {end.scale!r}f",
            f"#define {macro}_ZERO_POINT ({end.zero_point})",
        ]
    lines += [
        "",
        f"/* Bytes of RAM {name}_invoke works in. */",
        f"#define {upper}_ARENA_SIZE {arena}",
        "",
    ]
    if stateful:
        lines += [
            "/* Forgets what was: call it once before the first call, and where a new sequence",
            " * begins. The net keeps its state in the arena from one call to the next. */",
            f"void {name}_reset(uint8_t arena[{upper}_ARENA_SIZE]);",
            "",
        ]
    keeps = "keeps the net's state" if stateful else "keeps nothing"
    lines += [
        f"/* Runs the net once. The arena starts on a 4-byte boundary and {keeps}.",
        " * Returns 0, or 1 if the weights in flash are damaged. */",
        f"{ends.signature(name)};",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def write_readme(
    folder: Path, name: str, core: str, ends: Ends, *, stateful: bool, report: str
) -> None:
    """How to build and call the net."""
    upper = name.upper()
    buffers = "\n".join(
        f"static {e.type_name} {e.name}[{upper}_{e.name.upper()}_SIZE];"
        for e in (*ends.inputs, *ends.outputs)
    )
    first = ends.inputs[0].name
    arguments = ", ".join(e.name for e in (*ends.inputs, *ends.outputs))
    begin = f"{name}_reset(arena); /* once */\n" if stateful else ""
    (folder / "README.md").write_text(
        f"""# {name}: a net as C

Generated; change the model and export again instead of editing. Built for: {core}.

```c
#include "{name}.h"
{buffers}
static uint8_t arena[{upper}_ARENA_SIZE] __attribute__((aligned(4)));

{begin}/* fill {first}: real / {upper}_{first.upper()}_SCALE + {upper}_{first.upper()}_ZERO_POINT,
 * rows-columns-channels */
if ({name}_invoke({arguments}, arena) != 0) {{ /* the weights in flash are damaged */ }}
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
