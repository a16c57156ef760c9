"""The text of model.c, model.h and the folder's README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cores import CORES
from .interface import Ends, Interface
from .machines import MACHINES

if TYPE_CHECKING:
    from .lowering import Lowering
    from .report import Report

KERNELS = Path(__file__).parent / "kernels"
# Headers beside planar.h, and what of a net needs them.
HEADERS = {
    "list_tile.h": "EC2T_MCU_TILE",
    "dense_tile.h": "EC2T_MCU_DENSE_TILE(",
    "dot_conv.h": "EC2T_MCU_DOT_TILE(",
    "masked_conv.h": "const ec2t_mcu_masked_conv ",
    "fours_helium.h": "const ec2t_mcu_four ",
    "normalise.h": "const ec2t_mcu_normalise ",
}
_C_HEADERS = (
    *("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits"),
    *("locale", "math", "setjmp", "signal", "stdalign", "stdarg", "stdatomic", "stdbool"),
    *("stddef", "stdint", "stdio", "stdlib", "stdnoreturn", "string", "tgmath", "threads"),
    *("time", "uchar", "wchar", "wctype", "arm_mve", "arm_acle", "unistd"),
)
_MORE_HEADERS = (
    *(
        "arduino",
        "esp",
        "fcntl",
        "malloc",
        "memory",
        "pthread",
        "sched",
        "strings",
        "syslog",
        "zephyr",
    ),
)
# Targets of make and CMake, what Zephyr calls its own, and libraries that programs link as -lm.
_TARGETS = (
    *("all", "clean", "install", "test", "help", "package", "main", "example", "examples"),
    *("app", "kernel", "idf", "c", "m", "gcc"),
)


def is_reserved(name: str) -> bool:
    """Whether a net may not be called that: its files or names would take the place of others."""
    kernels = {path.stem for path in KERNELS.iterdir()}
    taken = {*kernels, *_C_HEADERS, *_MORE_HEADERS, *_TARGETS}
    return name in taken or name.startswith("ec2t_mcu")


def copy_kernel(file: str, folder: Path, *, core: str) -> None:
    """A kernel's file; the choice of kernels stands in planar.h, no flag is needed."""
    text = (KERNELS / file).read_text()
    family = CORES[core].family
    if file == "planar.h" and family != "helium":
        macro = f"EC2T_MCU_CORE_{family.upper()}"
        if core == "rv32_unaligned":
            macro = "EC2T_MCU_RISCV_UNALIGNED"
        elif CORES[core].by_place:
            macro = "EC2T_MCU_BY_PLACE"
        text = re.sub(
            r"^#define EC2T_MCU_PLANAR_H$",
            f"#define EC2T_MCU_PLANAR_H\n#if !defined({macro})\n"
            f"#define {macro} /* the core that this was exported for */\n#endif",
            text,
            count=1,
            flags=re.MULTILINE,
        )
    (folder / file).write_text(text)


def write_model(
    folder: Path,
    interface: Interface,
    net: Lowering,
    declarations: Sequence[str],
    body: Sequence[str],
    reset: Sequence[str],
    report: Report,
) -> None:
    """model.h and model.c; `body` and `reset` are the statements of two functions."""
    calls, ends = interface.calls, interface.ends
    name, upper = calls.name, calls.name.upper()
    (folder / f"{name}.h").write_text(_header(interface, net, report))
    text = "\n".join(declarations)
    includes = [f'#include "{header}"' for header, word in HEADERS.items() if word in text] or [
        '#include "planar.h"'
    ]
    lists = any("status = " in line for line in body)
    layouts = [
        f"static const ec2t_mcu_planar {end.name}_layout = {end.layout.c()};" for end in ends.moved
    ]
    hint = " (-mfloat-abi=soft turns vectors off: softfp, or export for m55_nomve)"
    source = [
        f'#include "{name}.h"',
        "",
        *includes,
        "",
        f"#if !defined(EC2T_MCU_{net.core.family.upper()})",
        f"#error this net was exported for {net.core_name}: compile it for that core, or export "
        f"again{hint if net.core.family == 'helium' else ''}",
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
            if not end.words
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


def _places(ends: Ends, upper: str) -> list[str]:
    """Where inputs and outputs may lie in the arena."""
    placed = [end for end in (*ends.inputs, *ends.outputs) if end.place is not None]
    if not placed:
        return []
    return [
        "/* Inputs and outputs may lie in the arena, so many bytes behind its start: they take",
        " * no RAM then. A call leaves nothing of such an input, and an output may lie where one",
        " * lay. */",
        *(f"#define {end.macro(upper)}_PLACE {end.place}" for end in placed),
        "",
    ]


def _header(interface: Interface, net: Lowering, report: Report) -> str:
    calls, ends = interface.calls, interface.ends
    name, upper, stateful = calls.name, calls.name.upper(), calls.stateful
    table = "\n".join(f" * {line}".rstrip() for line in str(report).splitlines())
    types = {end.type_name for end in (*ends.inputs, *ends.outputs)}
    whole = "int8 in, int8 out" if types == {"int8_t"} else "integers in, integers out"
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
        macro, kind = end.macro(upper), end.type_name.removesuffix("_t")
        if end.words:
            lines += [
                f"/* {end.name}: shape {list(end.shape)}, whole numbers below {macro}_WORDS */",
                f"#define {macro}_SIZE {int(np.prod(end.shape))}",
                f"#define {macro}_WORDS {end.words}",
            ]
            continue
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
        *_places(ends, upper),
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
    has_words = any(end.words for end in ends.inputs)
    keeps = "keeps the net's state" if stateful else "keeps nothing"
    lines += [
        f"/* Runs the net once. The arena starts on a 4-byte boundary and {keeps}.",
        " * Returns 0, or 1 if the weights in flash are damaged"
        + (", or 2 if a number is not below its limit. */" if has_words else ". */"),
        f"{ends.signature(calls)};",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def write_readme(folder: Path, interface: Interface, core: str, report: Report) -> None:
    """How to build and call the net."""
    calls, first = interface.calls, interface.ends.inputs[0]
    name, upper = calls.name, calls.name.upper()
    macro = first.macro(upper)
    buffers = "\n".join(interface.buffers)
    begin = f"{name}_reset(arena); /* once */\n" if calls.stateful else ""
    meaning = f"real / {macro}_SCALE + {macro}_ZERO_POINT,\n * rows-columns-channels"
    if first.words:
        meaning = f"whole numbers below {macro}_WORDS"
    flags = "your compiler's flags for it"
    if core in MACHINES:
        flags = f"your core's flags,\n  for example `{' '.join(MACHINES[core].all_flags)}`"
    (folder / "README.md").write_text(
        f"""# {name}: a net as C

Generated; change the model and export again instead of editing. Built for: {core}.

```c
#include "{name}.h"
{buffers}
static uint8_t arena[{upper}_ARENA_SIZE] __attribute__((aligned(4)));

{begin}/* fill {first.name}: {meaning} */
if ({calls.run}({interface.arguments}, arena) != 0) {{ /* the weights in flash are damaged */ }}
```

Ways to build it:

* Any build: compile every .c file of this folder as C11, `-O2`, with {flags}.
* CMake, Pico SDK: `add_subdirectory` this folder and link `{name}`.
* ESP-IDF: copy this folder into `components`; your component `REQUIRES` it.
* Zephyr: add this folder to `ZEPHYR_EXTRA_MODULES` (`west build -- -DZEPHYR_EXTRA_MODULES=...`).
* Arduino: copy this folder into `libraries`; `File > Examples > {name}` has a sketch.
* PlatformIO: copy this folder into `lib`.

No C library, no heap, no interpreter. `{name}.c` holds the constants and the calls, `planar.h` the
kernels' interface.

```
{report}
```
"""
    )
