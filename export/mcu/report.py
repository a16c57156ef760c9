"""What `to_c` wrote, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LayerReport:
    """One kernel call: what it is, how its weights are kept, bytes of its constants."""

    name: str
    note: str
    flash: int


@dataclass(frozen=True)
class StreamReport:
    """A step of a net that streams, beside a call of the whole net on its window.

    Attributes:
        frames: New ones a step.
        window: Frames of the window.
        macs, window_macs: Multiply-accumulates of a step, and of the whole net.
        window_flash, window_arena: Bytes, of the whole net's C.
        window_instructions: Of the whole net, measured in QEMU, or not measured.
    """

    frames: int
    window: int
    macs: int
    window_macs: int
    window_flash: int
    window_arena: int
    window_instructions: int | None = None


@dataclass(frozen=True)
class Report:
    """What `to_c` wrote. Sizes in bytes; `flash` is the constants alone, without code."""

    folder: Path
    flash: int
    arena: int
    layers: tuple[LayerReport, ...]
    instructions: int | None = None  # of one call (of a step), measured in QEMU, or not measured
    stream: StreamReport | None = None

    def __str__(self) -> str:
        rows = [f"{layer.name:34}{layer.flash:9}  {layer.note}" for layer in self.layers]
        head = f"{'layer':34}{'flash':>9}  weights"
        foot = f"constants {self.flash} bytes of flash, arena {self.arena} bytes of RAM"
        if self.instructions is not None:
            foot += f",\n{self.instructions} instructions a call in QEMU"
        return "\n".join([head, *rows, foot, *self._stream()])

    def _stream(self) -> list[str]:
        one = self.stream
        if one is None:
            return []
        table = [
            ("", f"a step of {one.frames} frames", f"the window of {one.window}", "share"),
            _shares("multiply-accumulates", one.macs, one.window_macs),
            _shares("bytes of the arena", self.arena, one.window_arena),
            _shares("bytes of constants", self.flash, one.window_flash),
        ]
        if self.instructions is not None and one.window_instructions is not None:
            row = _shares("instructions in QEMU", self.instructions, one.window_instructions)
            table.append(row)
        return [f"{a:22}{b:>20}{c:>20}{d:>8}".rstrip() for a, b, c, d in table]


def _shares(what: str, step: int, window: int) -> tuple[str, str, str, str]:
    return what, f"{step:,}", f"{window:,}", f"{step / max(window, 1):.3f}"
