"""Writes a lowered net as a folder of C: model.c, model.h, the kernels used, CMake, README."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ec2t_tf import files
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.graph.macs import total_macs
from ec2t_tf.export.graph.streaming import with_frames
from ec2t_tf.export.tflite import read

from .boards import BOARDS
from .code import Code, Names
from .columns import without_columns
from .constants import Constants
from .cores import CORES, OPTIMIZE
from .costs import cost_of, firmware_of
from .dead_channels import without_dead_channels
from .dilation import with_dilation
from .each_example import with_each_example
from .example import run_example, write_example
from .interface import Calls, Ends, Interface
from .lowering import Lowering
from .machines import MACHINES
from .memory import Memory, memory_of
from .model_files import (
    HEADERS,
    KERNELS,
    copy_kernel,
    is_reserved,
    write_model,
    write_readme,
)
from .normalisations import with_normalisations
from .operators.embedding import MOST_WORDS, without_negative_places
from .operators.window import with_windows
from .packages import write_packages
from .places import with_places
from .plan import Layout
from .ram import least_ram, with_least_ram
from .report import LayerReport, Report, StreamReport, WholeMaps, total
from .streaming import stream_from_silence
from .tables import with_tables
from .work import borders, work_of


def to_c(
    model: bytes | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    core: str = "generic",
    name: str = "model",
    optimize: str = "balanced",
    example: bool = False,
    measure: bool = False,
    stream: bool = False,
    board: str | None = None,
) -> Report:
    """Writes an int8 .tflite net as freestanding C11 for one microcontroller core.

    The net computes bit for bit what TensorFlow Lite's reference kernels compute. A float input or
    output that the file quantises, or dequantises, is int8 in C.

    Args:
        model: Bytes or path of a fully int8 .tflite file. Convolutions and fully connected layers
            whose output channels hold at most one positive and one negative value are kept as
            ternary lists, others as int8.
        folder: Where to write; made if missing. Files of the same name are replaced.
        core: One of `ec2t_tf.export.mcu.CORES`: "generic" (any C11 compiler, the host), "m0" (M0+
            too), "m3", "m4", "m7", "m23", "m33", "m33_nodsp" (one made without DSP instructions),
            "m55", "m55_nomve" (without its vectors, which -mfloat-abi=soft turns off), "m85",
            "rv32" (32-bit RISC-V), "rv32_unaligned" (one that loads words from any address, such as
            Espressif's).
        name: Prefix of the public C names, a C identifier.
        optimize: How ternary convolutions keep their weights. "speed": 16-bit distances, nothing to
            decode. "size": a Rice stream, close to the entropy, decoded at every call. "balanced":
            gaps of a byte, cheap to decode, where a layer has at least 16 output pixels to use
            what it decodes, distances elsewhere. "ram": as "balanced", and parts of the net are
            computed in strips of a few rows, so that the arena is as small as it gets; the report
            says what that costs.
        example: Also write `folder`/example: a firmware for the core that QEMU runs.
        measure: Run that firmware and put the instructions of a call into the report; implies
            `example`, needs arm-none-eabi-gcc and qemu-system-arm.
        stream: For a net on a window that slides over a stream: write `NAME_step`, which takes the
            frames that are new, and `NAME_reset`. The bits are those of the whole net on the window
            that ends with them; before the first frame the input was zero. Time is the input's
            first axis behind the batch; see `ec2t_tf.export.graph.streaming.stream` for what nets.
        board: One of `ec2t_tf.export.mcu.BOARDS`, such as "pico": chooses the core; the report says
            whether the net fits and, where the core's timings are published, about how long a call
            takes. An estimate is arithmetic: neither a compiler nor QEMU is needed.

    Raises:
        FileError: The file is damaged, or holds something the exporter does not support, or cannot
            stream (the message names the layer).
        ValueError: An option is not one of those listed, or a tool that measures is missing.
    """
    example = example or measure
    core = _core_of(board, core)
    if core not in CORES:
        raise ValueError(f"core must be one of {', '.join(CORES)}. Received: {core!r}.")
    if example and core not in MACHINES:
        raise ValueError(f"an example needs a core of its own. Received: core={core!r}.")
    if optimize not in OPTIMIZE:
        raise ValueError(f"optimize must be one of {', '.join(OPTIMIZE)}. Received: {optimize!r}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        raise ValueError(f"name must be a lower-case C identifier. Received: {name!r}.")
    if is_reserved(name):
        raise ValueError(
            f"name must not be that of another file or target of the folder, such as {name!r}: "
            f"take {name}_net."
        )
    original = read(model)
    graph = with_each_example(with_dilation(without_negative_places(original)))
    graph = without_columns(without_dead_channels(graph))
    flow = stream_from_silence(graph) if stream else None
    lowered = _joined(graph if flow is None else flow.graph)
    kept = "balanced" if optimize == "ram" else optimize
    net = Lowering(lowered, core=core, optimize=kept)
    text = _text(net, name)
    plain, least = text, least_ram(net, text.memory)[0]
    if optimize == "ram":
        striped = with_least_ram(lowered, core, _instructions)
        if striped is not lowered:
            net = Lowering(striped, core=core, optimize=kept)
            text = _text(net, name)
        text.arena = least_ram(net, text.memory)[1]
    shown = original if flow is None else with_frames(original, flow.frames)
    ends = with_places(Ends.of(net, shown, text.pointer), net, text.memory.addresses, text.arena)
    report = Report(
        folder=Path(folder),
        core=core,
        board=board,
        flash=text.flash,
        arena=text.arena,
        ends_bytes=sum(end.bytes for end in (*ends.inputs, *ends.outputs)),
        placed_bytes=sum(
            end.bytes for end in (*ends.inputs, *ends.outputs) if end.place is not None
        ),
        layers=tuple(text.layers),
        ends=tuple(text.ends),
        firmware=firmware_of(core, text.sources, text.tiles, len(net.steps)),
    )
    if optimize == "ram":
        report = replace(report, whole_maps=_whole_maps(report, plain, least))
    if flow is not None:
        whole = _text(Lowering(_joined(graph), core=core, optimize=kept), name)
        sizes = total_macs(flow.graph), total_macs(graph), whole.flash, whole.arena
        estimate = total([*whole.layers, *whole.ends])
        report = replace(report, stream=StreamReport(flow.frames, flow.window, *sizes, estimate))
    verb = "invoke" if flow is None else "step"
    interface = Interface(Calls(name, verb, stateful=bool(text.reset)), ends)

    def write(written: Path, report: Report) -> None:
        parts = [*text.tiles, "", *text.declarations]
        write_model(written, interface, net, parts, text.body, text.reset, report)
        write_readme(written, interface, core, report)
        (written / "report.json").write_text(report.as_json())

    headers = [h for h, macro in HEADERS.items() if any(t.startswith(macro) for t in text.tiles)]
    sources = sorted(text.sources)
    with files.folder(Path(folder)) as written:
        write(written, report)
        for file in _with_headers(["planar.h", *headers, *sources]):
            copy_kernel(file, written, core=core)
        write_packages(written, interface, core, [f"{name}.c", *sources])
        if example:
            write_example(written, interface, core)
        if measure:
            report = replace(report, instructions=run_example(written, core))
            if report.stream is not None:
                with tempfile.TemporaryDirectory() as other:
                    of_window = to_c(
                        model, other, core=core, name=name, optimize=optimize, measure=True
                    )
                window = replace(report.stream, window_instructions=of_window.instructions)
                report = replace(report, stream=window)
            write(written, report)
    return report


def _joined(graph: Graph) -> Graph:
    """The net with groups of operators that one kernel computes as one operator."""
    return with_tables(with_normalisations(with_windows(graph)))


def _whole_maps(report: Report, plain: _Text, least: int) -> WholeMaps:
    """What the net takes without strips."""
    firmware = firmware_of(report.core, plain.sources, plain.tiles, len(plain.layers))
    estimate = total([*plain.layers, *plain.ends])
    flash = plain.flash + (firmware.code if firmware else 0)
    return WholeMaps(plain.memory.arena, least, flash, estimate)


def _core_of(board: str | None, core: str) -> str:
    """The core of a board; `core` without one."""
    if board is None:
        return core
    if board not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}. Received: {board!r}.")
    if core not in ("generic", BOARDS[board].core):
        raise ValueError(
            f"board {board!r} has the core {BOARDS[board].core!r}: leave core out, or give that "
            f"one. Received: core={core!r}."
        )
    return BOARDS[board].core


@dataclass
class _Text:
    """C of a lowered net: constants, the statements of its functions, the kernel files it calls."""

    memory: Memory
    arena: int
    pointer: Callable[[Layout], str]
    declarations: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    layers: list[LayerReport] = field(default_factory=list)
    ends: list[LayerReport] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    state_flash: int = 0  # bytes of the constants that states begin with
    tiles: list[str] = field(default_factory=list)
    sources: set[str] = field(default_factory=lambda: {"layout.c"})

    @property
    def flash(self) -> int:
        return self.state_flash + sum(layer.flash for layer in self.layers)

    def add(
        self,
        number: int,
        what: str,
        code: Code,
        used: Sequence[str],
        lines: list[str],
    ) -> None:
        """Appends a kernel call to the statements `lines`."""
        code.flash -= self.constants.share(code)
        text = "\n".join(code.declarations + code.statements)
        if code.tile and code.tile not in self.tiles:
            self.tiles.append(code.tile)
        self.sources.update(c for c in used if _uses(c, text))
        self.declarations.extend([f"/* {number}: {what} */", *code.declarations, ""])
        lines += [f"  /* {number}: {what} */", *(f"  {s}" for s in code.statements)]


def _instructions(net: Lowering, memory: Memory) -> float:
    """Estimated of a call; where there is no estimate, kernel calls."""
    estimate = total(_text(net, "model", memory).layers)
    return len(net.steps) if estimate is None else estimate.instructions


def _text(net: Lowering, name: str, memory: Memory | None = None) -> _Text:
    memory = memory_of(net) if memory is None else memory
    addresses = memory.addresses

    def pointer(layout: Layout) -> str:
        return f"(arena + {addresses[id(layout)] + layout.lead})"

    text = _Text(memory, memory.arena, pointer)
    for number, step in enumerate(net.steps):
        names = Names(
            number,
            tuple(pointer(net.layouts[t]) for t in step.inputs),
            pointer(net.layouts[step.output]),
            f"((uint16_t *)(void *)(arena + {memory.scratch[number]}))",
        )
        code = step.emit(names)
        layouts = [net.layouts[t] for t in step.inputs]
        work = work_of(net.core, step.facts, code, layouts, net.layouts[step.output])
        text.add(number, step.name, code, step.sources, text.body)
        text.body.append(f"  {name.upper()}_LAP();")
        estimate = cost_of(net.core_name, work)
        text.layers.append(
            LayerReport(step.name, code.note, code.flash, work, estimate, step.layer)
        )
    for number, state in enumerate(net.states.values(), len(net.steps)):
        names = Names(number, (), pointer(state.layout), "")
        code = state.reset(names)
        text.add(number, "first state", code, state.sources, text.reset)
        text.state_flash += code.flash
    for what, indices in (("input", net.inputs), ("output", net.outputs)):
        for index in indices:
            if index in net.words:
                if net.words[index].below == MOST_WORDS:
                    text.body.append(
                        f"  (void){net.words[index].parameter}; /* nothing reads it */"
                    )
                continue
            work = borders(net.core, what, net.layouts[index])
            estimate = cost_of(net.core_name, work)
            text.ends.append(LayerReport(f"copy of an {what}", "", 0, work, estimate))
    return text


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
    return any(re.search(rf"\b{function}\b", text) for function in _functions(source))


def _functions(source: str) -> list[str]:
    """What a kernel file defines, by itself or through a macro."""
    defined = r"^(?:[A-Z][A-Z0-9_]*\(|[\w ]+?\b)(ec2t_\w+)[(,]"
    return re.findall(defined, (KERNELS / source).read_text(), re.M)
