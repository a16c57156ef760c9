"""Where in the arena layouts and scratch lie, and which outputs lie over an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .plan import ALIGNMENT, Block, Layout, Part, place

if TYPE_CHECKING:
    from .lowering import Lowering

Over = tuple[Layout, Layout, int]  # an input, the output over it, bytes that it begins before


@dataclass(frozen=True)
class Memory:
    """The plan of an arena.

    Attributes:
        addresses: Bytes to each layout, by identity.
        scratch: Bytes to each step's scratch.
        arena: Bytes of all.
    """

    addresses: dict[int, int]
    scratch: list[int]
    arena: int


def memory_of(net: Lowering) -> Memory:
    """The plan of a lowered net. Outputs that may lie over their input plane by plane do so where
    the arena does not grow by it."""
    planner = _Planner(net)
    best = planner.plan(())
    taken: list[Over] = []
    for one in sorted(planner.by_planes(), key=lambda over: -over[0].size):
        found = planner.plan([*taken, one])
        if found.arena <= best.arena:
            best = found
            taken.append(one)
    return best


class _Planner:
    def __init__(self, net: Lowering) -> None:
        self.net = net
        self.scratch = [step.scratch() for step in net.steps]
        made = {id(net.layouts[step.output]): i for i, step in reversed(list(enumerate(net.steps)))}
        always = [state.layout for state in net.states.values()]
        given = [net.layouts[i] for i in net.inputs if i in net.layouts]
        # Layouts with the first and the last step that need them, by identity.
        self.spans: dict[int, tuple[Layout, int, int]] = {}
        for layout in net.layouts.values():
            first = made.get(id(layout), 0)
            last = max(net.last_use(layout), first)
            if any(layout is one for one in given):
                first = 0
            if any(layout is one for one in always):
                first, last = 0, len(net.steps)
            self.spans[id(layout)] = (layout, first, last)
        # How far each layout is read.
        self.read: dict[int, int] = {}
        for step in net.steps:
            for position, tensor in enumerate(step.inputs):
                layout = net.layouts[tensor]
                far = layout.lead + step.reads(position)
                self.read[id(layout)] = max(self.read.get(id(layout), 0), far)

    def by_planes(self) -> list[Over]:
        """Outputs that may lie over their input: each plane is written before where the next one is
        read."""
        found = []
        for number, step in enumerate(self.net.steps):
            if not step.by_planes:
                continue
            a, b = self.net.layouts[step.inputs[0]], self.net.layouts[step.output]
            if self.spans[id(a)][2] != number or self.spans[id(b)][1] != number:
                continue
            shift = b.lead + max(step.extent(), b.plane)
            shift += max((b.channels - 1) * (b.plane - a.plane), 0)
            found.append((a, b, shift + -shift % ALIGNMENT))
        return found

    def plan(self, more: Sequence[Over]) -> Memory:
        """With `more` outputs over their inputs than those that work element by element."""
        over = {id(after): (before, shift) for before, after, shift in more}
        over |= {id(after): (before, 0) for before, after in self.net.shares}
        homes = {key: _home(layout, over) for key, (layout, _, _) in self.spans.items()}
        lowest: dict[int, int] = {}
        for home, behind in homes.values():
            lowest[home] = min(lowest.get(home, 0), behind)
        blocks: dict[int, Block] = {}
        for key, (layout, first, last) in self.spans.items():
            home, behind = homes[key]
            block = blocks.setdefault(home, Block(str(len(blocks)), []))
            size = layout.size + -layout.size % ALIGNMENT
            block.parts.append(Part(behind - lowest[home], size, first, last))
        scratches = {
            i: Block(f"scratch {i}", [Part(0, size + -size % ALIGNMENT, i, i)])
            for i, size in enumerate(self.scratch)
            if size
        }
        arena = place([*blocks.values(), *scratches.values()])
        addresses = {
            key: blocks[home].offset + behind - lowest[home]
            for key, (home, behind) in homes.items()
        }
        arena = max(arena, *(addresses[key] + far for key, far in self.read.items()), 0)
        offsets = [scratches[i].offset if i in scratches else 0 for i in range(len(self.scratch))]
        return Memory(addresses, offsets, arena + -arena % ALIGNMENT)


def _home(layout: Layout, over: dict[int, tuple[Layout, int]]) -> tuple[int, int]:
    """The layout at the bottom, by identity, and the bytes from it to this one."""
    behind = 0
    while id(layout) in over:
        layout, shift = over[id(layout)]
        behind -= shift
    return id(layout), behind
