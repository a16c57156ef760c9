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
    from .report import Report

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
class Calls:
    """Names of the net's functions: `name` and "invoke", or "step" of a net that streams.

    Attributes:
        stateful: Whether there is a `name`_reset, to be called first.
    """

    name: str
    verb: str
    stateful: bool

    @property
    def run(self) -> str:
        return f"{self.name}_{self.verb}"

    def fill(self, template: str) -> str:
        """A template with NAME, UPPER, RUN and RESET in it; a line of RESET alone goes where the
        net has nothing to reset."""
        reset = f"{self.name}_reset(arena);" if self.stateful else ""
        text = re.sub(r"^( *)RESET\n", rf"\1{reset}\n" if reset else "", template, flags=re.M)
        return (
            text.replace("RUN(", f"{self.run}(")
            .replace("NAME", self.name)
            .replace("UPPER", self.name.upper())
        )


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

    def signature(self, calls: Calls) -> str:
        """Of the function that runs the net."""
        upper = calls.name.upper()
        parameters = [end.parameter(upper, constant=True) for end in self.inputs]
        parameters += [end.parameter(upper, constant=False) for end in self.outputs]
        parameters.append(f"uint8_t arena[{upper}_ARENA_SIZE]")
        indent = ",\n" + " " * (len(calls.run) + 5)
        return f"int {calls.run}({indent.join(parameters)})"


def write_model(
    folder: Path,
    calls: Calls,
    net: Lowering,
    ends: Ends,
    declarations: Sequence[str],
    body: Sequence[str],
    reset: Sequence[str],
    report: Report,
) -> None:
    """model.h and model.c; `body` and `reset` are the statements of two functions."""
    name, upper = calls.name, calls.name.upper()
    (folder / f"{name}.h").write_text(_header(calls, net, ends, report))
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
        f"{ends.signature(calls)} {{",
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


def _header(calls: Calls, net: Lowering, ends: Ends, report: Report) -> str:
    name, upper, stateful = calls.name, calls.name.upper(), calls.stateful
    table = "\n".join(f" * {line}".rstrip() for line in str(report).splitlines())
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
        f"/* Bytes of RAM {calls.run} works in. */",
        f"#define {upper}_ARENA_SIZE {report.arena}",
        "",
    ]
    if report.stream is not None:
        lines += [
            f"/* Frames that {calls.run} takes, and those of the window that its output is of: the",
            " * frames of this and of earlier calls, zeros before the first. */",
            f"#define {upper}_FRAMES {report.stream.frames}",
            f"#define {upper}_WINDOW {report.stream.window}",
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
        f"{ends.signature(calls)};",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def write_readme(folder: Path, calls: Calls, core: str, ends: Ends, report: Report) -> None:
    """How to build and call the net."""
    name, upper = calls.name, calls.name.upper()
    buffers = "\n".join(
        f"static {e.type_name} {e.name}[{upper}_{e.name.upper()}_SIZE];"
        for e in (*ends.inputs, *ends.outputs)
    )
    first = ends.inputs[0].name
    arguments = ", ".join(e.name for e in (*ends.inputs, *ends.outputs))
    begin = f"{name}_reset(arena); /* once */\n" if calls.stateful else ""
    (folder / "README.md").write_text(
        f"""# {name}: a net as C

Generated; change the model and export again instead of editing. Built for: {core}.

```c
#include "{name}.h"
{buffers}
static uint8_t arena[{upper}_ARENA_SIZE] __attribute__((aligned(4)));

{begin}/* fill {first}: real / {upper}_{first.upper()}_SCALE + {upper}_{first.upper()}_ZERO_POINT,
 * rows-columns-channels */
if ({calls.run}({arguments}, arena) != 0) {{ /* the weights in flash are damaged */ }}
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
