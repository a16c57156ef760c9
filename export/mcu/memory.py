"""Where in the arena layouts and scratch lie, and which outputs lie over an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .plan import ALIGNMENT, Block, Layout, Part, place

if TYPE_CHECKING:
    from .lowering import Lowering

Over = tuple[Layout, Layout, int]  # a layout, one that overlaps it, bytes to where that begins

MOST_TRIED = 40  # outputs that are put over their input one by one


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
    left = sorted(planner.by_planes(), key=lambda over: -over[0].size)
    if len(left) > MOST_TRIED:  # of a net in strips
        return min(best, planner.plan(left), key=lambda memory: memory.arena)
    for one in left:
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
        self.parts = {id(part): (part, source, row) for part, source, row in net.rows_of_others()}
        for layout in net.layouts.values():
            if id(layout) in self.parts:
                continue
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
        net, found = self.net, []
        for number, step in enumerate(net.steps):
            if not step.by_planes:
                continue
            a, b = net.holder(net.layouts[step.inputs[0]]), net.layouts[step.output]
            if self.spans[id(a)][2] != number or self.spans[id(b)][1] != number:
                continue
            shift = b.lead + max(step.extent(), b.plane)
            shift += max((b.channels - 1) * (b.plane - a.plane), 0)
            found.append((a, b, -(shift + -shift % ALIGNMENT)))
        return found

    def plan(self, more: Sequence[Over]) -> Memory:
        """With `more` outputs over their inputs than those that work element by element."""
        fixed = [(before, after, 0) for before, after in self.net.shares]
        fixed += [(window, new, _behind(window, new, row)) for new, window, row in self.net.filled]
        homes = _homes([layout for layout, _, _ in self.spans.values()], [*fixed, *more])
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
        for key, (part, source, row) in self.parts.items():
            addresses[key] = addresses[id(source)] + _behind(source, part, row)
        arena = max(arena, *(addresses[key] + far for key, far in self.read.items()), 0)
        offsets = [scratches[i].offset if i in scratches else 0 for i in range(len(self.scratch))]
        return Memory(addresses, offsets, arena + -arena % ALIGNMENT)


def _behind(whole: Layout, part: Layout, row: int) -> int:
    """Bytes from a layout to one of its rows from `row` on."""
    return whole.lead + row * whole.pitch - part.lead


def _homes(layouts: Sequence[Layout], pairs: Sequence[Over]) -> dict[int, tuple[int, int]]:
    """Of every layout, by identity, one that stands for all that lie in one block with it, and the
    bytes from that one."""
    near: dict[int, list[tuple[int, int]]] = {id(layout): [] for layout in layouts}
    for a, b, behind in pairs:
        near[id(a)].append((id(b), behind))
        near[id(b)].append((id(a), -behind))
    homes: dict[int, tuple[int, int]] = {}
    for home in near:
        if home in homes:
            continue
        homes[home] = home, 0
        left = [home]
        while left:
            key = left.pop()
            for other, behind in near[key]:
                if other not in homes:
                    homes[other] = home, homes[key][1] + behind
                    left.append(other)
    return homes
