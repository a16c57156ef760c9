"""Places inside the arena where a net's inputs and outputs may lie, so that they take no RAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .interface import End, Ends
from .plan import ALIGNMENT, Layout

if TYPE_CHECKING:
    from .lowering import Lowering

Span = tuple[int, int]  # first byte, and the one behind the last


def with_places(ends: Ends, net: Lowering, addresses: Mapping[int, int], arena: int) -> Ends:
    """The ends, each with its place where there is one.

    An input is copied into its layout before the first step, an output out of its own after the
    last: only layouts of the same side and what the net remembers are in the way. No two ends get
    the same bytes. An input of whole numbers is read where it lies while the net runs, and gets
    none.

    Args:
        addresses: Where each layout is in the arena, by identity.
        arena: Its size.
    """

    def spans(layouts: list[Layout]) -> list[Span]:
        return [(addresses[id(x)], addresses[id(x)] + x.size) for x in layouts]

    states = spans([state.layout for state in net.states.values()])
    taken: list[Span] = []
    found: list[list[End]] = []
    for side, indices in ((ends.inputs, net.inputs), (ends.outputs, net.outputs)):
        own = spans([net.layouts[i] for i in indices if i not in net.words])
        placed = []
        for end in side:
            at = None if end.words else _free(end.bytes, [*states, *own, *taken], arena)
            if at is not None:
                taken.append((at, at + end.bytes))
            placed.append(replace(end, place=at))
        found.append(placed)
    return Ends(tuple(found[0]), tuple(found[1]))


def _free(size: int, spans: list[Span], arena: int) -> int | None:
    """The first aligned place of `size` bytes outside all spans."""
    at = 0
    for first, end in sorted(spans):
        if at + size <= first:
            break
        at = max(at, end + -end % ALIGNMENT)
    return at if at + size <= arena else None
