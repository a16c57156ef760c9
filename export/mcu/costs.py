"""What a kernel call costs, by a table of measurements that ships with the package: no compiler and
no QEMU is needed. `python -m tests.bench.mcu_costs --write` makes costs.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .cores import CORES
from .work import Work

TABLE = Path(__file__).with_name("costs.json")


@dataclass(frozen=True)
class Cost:
    """Estimated instructions, and cycles without wait states; None on cores whose timings are not
    published."""

    instructions: float
    cycles: float | None

    def __add__(self, other: Cost) -> Cost:
        cycles = None
        if self.cycles is not None and other.cycles is not None:
            cycles = self.cycles + other.cycles
        return Cost(self.instructions + other.instructions, cycles)


@dataclass(frozen=True)
class Firmware:
    """Estimated bytes of a net's code and of the stack that it needs."""

    code: int
    stack: int


@cache
def table() -> dict[str, Any]:
    """The file: of every core the kernels, of each the names of its amounts and what one of each
    costs in instructions and cycles."""
    return json.loads(TABLE.read_text()) if TABLE.exists() else {"cores": {}}


def _row(core: str) -> dict[str, Any]:
    """Of a core, or of the one whose costs stand for it; empty where neither was measured."""
    return table()["cores"].get(CORES[core].like or core, {})


def cost_of(core: str, work: Work) -> Cost | None:
    """That of one kernel call; None where the table does not have the core or the kernel."""
    kernels = _row(core).get("kernels", {})
    row = kernels.get(work.kernel) or kernels.get(work.kernel.removesuffix("_any"))
    if row is None:
        return None
    amounts = [work.amounts.get(name, 0.0) for name in row["amounts"]]

    def total(costs: list[float]) -> float:
        return sum(a * c for a, c in zip(amounts, costs, strict=True))

    cycles = total(row["cycles"]) if "cycles" in row else None
    return Cost(total(row["instructions"]), cycles)


def firmware_of(
    core: str, sources: Iterable[str], tiles: Iterable[str], calls: int
) -> Firmware | None:
    """Code and stack of a net with these kernel files, shapes of tiles and kernel calls; None where
    the table does not have the core."""
    row = _row(core).get("code")
    if row is None:
        return None
    files = [row["files"].get(source, row["other file"]) for source in sources]
    shapes = [row["tiles"].get(tile.partition("(")[0], 0) for tile in tiles]
    code = sum(size for size, _ in files) + sum(shapes) + calls * row["call"] + row["net"]
    return Firmware(code, max((stack for _, stack in files), default=0) + row["net stack"])
