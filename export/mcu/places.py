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
    last: only layouts of the same side and what the net remembers are in the way. One whose layout
    has its bytes in the same order lies in that very layout. No two ends get the same bytes, but
    an output for which there is no room elsewhere those of inputs. An input of whole numbers is
    read where it lies while the net runs, and gets none.

    Args:
        addresses: Where each layout is in the arena, by identity.
        arena: Its size.
    """

    def spans(layouts: list[Layout]) -> list[Span]:
        return [(addresses[id(x)], addresses[id(x)] + x.size) for x in layouts]

    states = spans([state.layout for state in net.states.values()])
    of_inputs: list[Span] = []
    found: list[list[End]] = []
    for side, indices in ((ends.inputs, net.inputs), (ends.outputs, net.outputs)):
        layouts = [net.layouts[i] for i in indices if i not in net.words]
        placed: list[End] = []
        taken: list[Span] = []
        for end in side:
            at = None
            if not end.words:
                own = addresses[id(end.layout)]
                near = [*states, *spans(_without(layouts, end.layout)), *taken]
                far = [*states, *spans(layouts), *taken, *of_inputs]
                at = _inside(end, own, [*near, *of_inputs])
                at = _free(end.bytes, far, arena) if at is None else at
                at = _inside(end, own, near) if at is None else at
            if at is not None:
                taken.append((at, at + end.bytes))
            placed.append(replace(end, place=at))
        found.append(placed)
        of_inputs = taken
    return Ends(tuple(found[0]), tuple(found[1]))


def _without(layouts: list[Layout], one: Layout) -> list[Layout]:
    """The layouts but one of them; of two ends that share it, it is the other's still."""
    first = next(i for i, layout in enumerate(layouts) if layout is one)
    return layouts[:first] + layouts[first + 1 :]


def _inside(end: End, address: int, others: list[Span]) -> int | None:
    """The place of an end in its own layout, if its bytes have the same order there and no other
    span has any of them."""
    layout = end.layout
    one_plane = layout.channels == 1 and (layout.contiguous or layout.height == 1)
    if not (one_plane or layout.plane == 1):
        return None
    at = address + layout.lead
    size = layout.channels * layout.height * layout.width
    apart = all(at + size <= first or behind <= at for first, behind in others)
    return at if apart and size == end.bytes else None


def _free(size: int, spans: list[Span], arena: int) -> int | None:
    """The first aligned place of `size` bytes outside all spans."""
    at = 0
    for first, end in sorted(spans):
        if at + size <= first:
            break
        at = max(at, end + -end % ALIGNMENT)
    return at if at + size <= arena else None
