"""What `to_c` wrote, in figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ec2t_tf.tables import Cell, Table

from .boards import BOARDS
from .costs import Cost, Firmware
from .work import Work


@dataclass(frozen=True)
class LayerReport:
    """One kernel call.

    Attributes:
        name: What it is.
        note: How its weights are kept.
        flash: Bytes of its constants.
        work: What it does.
        estimate: Its instructions and cycles; None where the table of costs does not know it.
    """

    name: str
    note: str
    flash: int
    work: Work
    estimate: Cost | None
    group: int | None = None  # of a net in strips: calls with one number are shown together


@dataclass(frozen=True)
class StreamReport:
    """A step of a net that streams, beside a call of the whole net on its window.

    Attributes:
        frames: New ones a step.
        window: Frames of the window.
        macs, window_macs: Multiply-accumulates of a step, and of the whole net.
        window_flash, window_arena: Bytes, of the whole net's C.
        window_estimate: Of the whole net, or None.
        window_instructions: Of the whole net, measured in QEMU, or not measured.
    """

    frames: int
    window: int
    macs: int
    window_macs: int
    window_flash: int
    window_arena: int
    window_estimate: Cost | None
    window_instructions: int | None = None


@dataclass(frozen=True)
class WholeMaps:
    """What the net of `optimize="ram"` takes with none of its parts in strips.

    Attributes:
        arena: Bytes.
        ram: Bytes with input and output, those in the arena that have room there.
        flash: Bytes of constants and code, about.
        estimate: Of one call, or None.
    """

    arena: int
    ram: int
    flash: int
    estimate: Cost | None


@dataclass(frozen=True)
class Report:
    """What `to_c` wrote. Sizes in bytes.

    Attributes:
        folder: Where.
        core: For which core.
        board: For which board, or None.
        flash: Constants alone, without code.
        arena: RAM that the net works in.
        ends_bytes: Input and output.
        layers: The kernel calls.
        ends: Copies of inputs to planes, and of outputs back.
        firmware: Estimates of code and stack; None for a core without a table.
        instructions: Of one call (of a step), measured in QEMU, or not measured.
        stream: Of a net that streams.
        placed_bytes: Of input and output those that may lie in the arena.
        whole_maps: With `optimize="ram"`.
    """

    folder: Path
    core: str
    board: str | None
    flash: int
    arena: int
    ends_bytes: int
    layers: tuple[LayerReport, ...]
    ends: tuple[LayerReport, ...]
    firmware: Firmware | None = None
    instructions: int | None = None
    stream: StreamReport | None = None
    placed_bytes: int = 0
    whole_maps: WholeMaps | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a call, zeros counted too."""
        return sum(layer.work.macs for layer in self.layers)

    @property
    def estimate(self) -> Cost | None:
        """Of one call; None where a kernel, or the core, is not in the table of costs."""
        return total([*self.layers, *self.ends])

    @property
    def unmeasured(self) -> list[str]:
        """The kernels, each once, that keep a measured core's net from an estimate."""
        layers = (*self.layers, *self.ends)
        missing = [layer.work.kernel for layer in layers if layer.estimate is None]
        return [] if len(missing) == len(layers) else list(dict.fromkeys(missing))

    @property
    def ram(self) -> int:
        """Bytes of arena, input, output and stack."""
        return self.arena + self.ends_bytes + (self.firmware.stack if self.firmware else 0)

    @property
    def firmware_flash(self) -> int:
        """Bytes of constants and code."""
        return self.flash + (self.firmware.code if self.firmware else 0)

    @property
    def fits(self) -> bool | None:
        """Whether flash and RAM are those of the board or less; None without a board."""
        if self.board is None:
            return None
        board = BOARDS[self.board]
        return self.firmware_flash <= board.flash and self.ram <= board.ram

    @property
    def milliseconds(self) -> float | None:
        """Estimated time of one call on the board, without wait states."""
        estimate = self.estimate
        if self.board is None or estimate is None or estimate.cycles is None:
            return None
        return 1000 * estimate.cycles / BOARDS[self.board].clock

    def __str__(self) -> str:
        head = f"{'layer':34}{'MACs':>11}{'instr.':>11}{'cycles':>11}{'flash':>9}  weights"
        rows = [
            f"{layer.name:34}{layer.work.macs or '':>11}{_cells(layer.estimate)}"
            f"{layer.flash:9}  {layer.note}".rstrip()
            for layer in (*_shown(self.layers), *self.ends)
        ]
        foot = f"constants {self.flash} bytes of flash, arena {self.arena} bytes of RAM"
        if self.instructions is not None:
            foot += f",\n{self.instructions} instructions a call in QEMU"
        return "\n".join(
            [head, *rows, foot, *self._whole(), *self._board(), *self._strips(), *self._stream()]
        )

    def _whole(self) -> list[str]:
        lines = []
        if self.firmware is not None:
            lines = [
                f"whole firmware, about: flash {self.firmware_flash:,} bytes (constants "
                f"{self.flash:,}, code {self.firmware.code:,}); RAM {self.ram:,} (arena "
                f"{self.arena:,}, input and output {self.ends_bytes:,}, stack "
                f"{self.firmware.stack:,})"
            ]
            if self.placed_bytes:
                lines[0] += f"; {self.placed_bytes:,} less with input and output in the arena"
        estimate = self.estimate
        if self.unmeasured:
            lines.append(
                f"no estimate of a call: {', '.join(self.unmeasured)} was not measured on this core"
            )
        if estimate is not None:
            cycles = "no estimate" if estimate.cycles is None else f"{estimate.cycles:,.0f}"
            lines.append(
                f"estimated: {estimate.instructions:,.0f} instructions a call, cycles without wait "
                f"states: {cycles}"
            )
        return lines

    def _board(self) -> list[str]:
        if self.board is None:
            return []
        board = BOARDS[self.board]
        time = self.milliseconds
        fits = "fits" if self.fits else "DOES NOT FIT"
        return [
            f"{board.title}, {board.clock / 1e6:.0f} MHz: {fits} (flash {board.flash:,}, RAM "
            f"{board.ram:,} bytes); time of a call: "
            + ("no estimate" if time is None else f"about {time:.2f} ms")
            + f" (flash: {board.waits}, left out)"
        ]

    def _strips(self) -> list[str]:
        one = self.whole_maps
        if one is None:
            return []
        head = ("", "in strips", "whole maps", "share")
        inside = self.arena + self.ends_bytes - self.placed_bytes
        table = [
            _shares("bytes of the arena", self.arena, one.arena),
            _shares("with ends (in it, with room)", inside, one.ram),
            _shares("bytes of flash, about", self.firmware_flash, one.flash),
        ]
        estimate = self.estimate
        if estimate is not None and one.estimate is not None:
            pair = estimate.instructions, one.estimate.instructions
            table.append(_shares("instructions, about", *pair))
            if estimate.cycles is not None and one.estimate.cycles is not None:
                table.append(_shares("cycles, about", estimate.cycles, one.estimate.cycles))
        return [Table(head, table, ("", "{:,.0f}", "{:,.0f}", "{:.3f}")).text()]

    def _stream(self) -> list[str]:
        one = self.stream
        if one is None:
            return []
        head = ("", f"a step of {one.frames} frames", f"the window of {one.window}", "share")
        table = [
            _shares("multiply-accumulates", one.macs, one.window_macs),
            _shares("bytes of the arena", self.arena, one.window_arena),
            _shares("bytes of constants", self.flash, one.window_flash),
        ]
        estimate, of_window = self.estimate, one.window_estimate
        if estimate is not None and of_window is not None:
            pair = estimate.instructions, of_window.instructions
            table.append(_shares("instructions, about", *pair))
            if estimate.cycles is not None and of_window.cycles is not None:
                table.append(_shares("cycles, about", estimate.cycles, of_window.cycles))
        if self.instructions is not None and one.window_instructions is not None:
            row = _shares("instructions in QEMU", self.instructions, one.window_instructions)
            table.append(row)
        return [Table(head, table, ("", "{:,.0f}", "{:,.0f}", "{:.3f}")).text()]

    def as_json(self) -> str:
        """The same as JSON: layers with MACs, instructions, cycles and bytes, and the totals."""
        estimate = self.estimate
        whole: dict[str, Any] = {
            "core": self.core,
            "board": self.board,
            "fits": self.fits,
            "milliseconds": self.milliseconds,
            "macs": self.macs,
            "estimated": None if estimate is None else dataclasses.asdict(estimate),
            "instructions in QEMU": self.instructions,
            "bytes": {
                "constants": self.flash,
                "code": self.firmware.code if self.firmware else None,
                "arena": self.arena,
                "input and output": self.ends_bytes,
                "of these in the arena on request": self.placed_bytes,
                "stack": self.firmware.stack if self.firmware else None,
            },
            "layers": [
                {
                    "name": layer.name,
                    "kernel": layer.work.kernel,
                    "weights": layer.note,
                    "macs": layer.work.macs,
                    "constants": layer.flash,
                    "estimated": (
                        None if layer.estimate is None else dataclasses.asdict(layer.estimate)
                    ),
                }
                for layer in (*_shown(self.layers), *self.ends)
            ],
            "whole maps": None if self.whole_maps is None else dataclasses.asdict(self.whole_maps),
            "stream": None if self.stream is None else dataclasses.asdict(self.stream),
        }
        return json.dumps(whole, indent=1) + "\n"


def total(layers: Sequence[LayerReport]) -> Cost | None:
    """The sum of estimates; None where one is missing."""
    whole: Cost | None = None
    for layer in layers:
        if layer.estimate is None:
            return None
        whole = layer.estimate if whole is None else whole + layer.estimate
    return whole


def _shown(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """One for all of a group; those without one stay."""
    groups: dict[int, list[LayerReport]] = {}
    for place, layer in enumerate(layers):
        groups.setdefault(-2 - place if layer.group is None else layer.group, []).append(layer)
    return [_sum(group) if len(group) > 1 else group[0] for group in groups.values()]


def _sum(group: Sequence[LayerReport]) -> LayerReport:
    first = group[0]
    amounts: dict[str, int] = {}
    for layer in group:
        for name, amount in layer.work.amounts.items():
            amounts[name] = amounts.get(name, 0) + amount
    work = Work(first.work.kernel, amounts, sum(layer.work.macs for layer in group))
    name = f"{first.name}, {len(group)} x"
    return LayerReport(name, first.note, sum(x.flash for x in group), work, total(group))


def _cells(estimate: Cost | None) -> str:
    if estimate is None:
        return f"{'':>22}"
    cycles = "" if estimate.cycles is None else f"{estimate.cycles:.0f}"
    return f"{estimate.instructions:11.0f}{cycles:>11}"


def _shares(what: str, step: float, window: float) -> tuple[Cell, ...]:
    return what, step, window, step / max(window, 1)
