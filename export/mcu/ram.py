"""Which parts of a net go in strips so that arena, input and output take the least RAM.

Every run of operators that work row by row is tried, at several heights of the strips: first by the
sizes of the maps that are alive at once, then, the best of them, by plans of whole arenas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ec2t_tf.export.graph import FileError, Graph, Operator

from .interface import Ends
from .lowering import Lowering
from .memory import Memory, memory_of
from .operators.rows import ALIKE, ROWS, STACK
from .places import with_places
from .plan import ALIGNMENT
from .strips import Region, in_strips, works_by_rows
from .walks import dimensions, is_map

ROWS_TRIED = (1, 2, 3, 4, 6, 8, 12, 16)
MOST_OPERATORS = 24  # of a part in strips
MOST_CALLS = 600  # kernel calls of all strips of a part, each a few instructions of flash
PLANNED = 6  # how many of the best by estimate are planned
WORTH = 1.09  # no arena is larger than the least by more
# An arena larger by so much is taken for instructions fewer by the fourth power of it.
FOR_COST = 0.25
MOST_REGIONS = 3
_ANY = 1 << 40  # a size that holds whatever there is
# Their output may lie over their input, or nearly.
_IN_PLACE = ("ADD", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "TABLE")


Cost = Callable[[Lowering, Memory], float]


def with_least_ram(graph: Graph, core: str, cost: Cost) -> Graph:
    """The net with those of its parts in strips with which it takes the least RAM, or nearly that
    and far fewer instructions; the graph itself where that is without. `cost`: instructions."""
    least, best = _ram(graph, core)[0], graph
    chosen: list[Region] = []
    for _ in range(MOST_REGIONS):
        tried = {}
        for region in regions(graph, chosen):
            striped = in_strips(graph, [*chosen, region])
            if len(striped.operators) <= len(graph.operators) + MOST_CALLS:
                tried[region] = _peak(striped), striped
        found = []
        for region in sorted(tried, key=lambda r: (tried[r][0], -r.rows))[:PLANNED]:
            try:
                found.append((*_ram(tried[region][1], core), region))
            except FileError:  # shapes that a kernel does not take a few rows at a time
                continue
        most = min([WORTH * min((ram for ram, *_ in found), default=0), least - 1])
        fitting = [one for one in found if one[0] <= most]
        if not fitting:
            break
        least, *_, region = min(
            fitting, key=lambda one: one[0] * max(cost(one[1], one[2]), 1.0) ** FOR_COST
        )
        best = tried[region][1]
        chosen.append(region)
    return best


def _ram(graph: Graph, core: str) -> tuple[int, Lowering, Memory]:
    net = Lowering(graph, core=core, optimize="balanced")
    memory = memory_of(net)
    return least_ram(net, memory)[0], net, memory


def least_ram(net: Lowering, memory: Memory) -> tuple[int, int]:
    """Bytes of arena, inputs and outputs together, those inside the arena that have room there; and
    of the arena, which is made larger where that makes room for more than it takes."""
    ends = Ends.of(net, net.graph, lambda _: "")
    least = memory.arena, memory.arena
    for arena in (memory.arena, _ANY):
        placed = with_places(ends, net, memory.addresses, arena)
        both = (*placed.inputs, *placed.outputs)
        behind = [end.place + end.bytes for end in both if end.place is not None]
        size = max([memory.arena, *behind])
        size += -size % ALIGNMENT
        total = size + sum(end.bytes for end in both if end.place is None)
        if arena == memory.arena or total < least[0]:
            least = total, size
    return least


def regions(graph: Graph, others: Sequence[Region]) -> Iterator[Region]:
    """Runs of operators that work by rows, apart from others, at several heights of strips."""
    taken = {i for r in others for i in range(r.first, r.last + 1)}
    by_rows = [i not in taken and works_by_rows(graph, op) for i, op in enumerate(graph.operators)]
    read = {i for op in graph.operators for i in op.inputs} | set(graph.outputs)
    for first in range(len(by_rows)):
        for last in range(first, min(first + MOST_OPERATORS, len(by_rows))):
            if not by_rows[last]:
                break
            out = graph.operators[last].outputs[0]
            rows = graph.tensors[out].shape[1]
            if last > first and out in read:
                yield from (Region(first, last, r) for r in ROWS_TRIED if r < rows)


def _peak(graph: Graph) -> int:
    """About the most bytes of maps that are alive at once."""
    holders: dict[int, int] = {}
    for op in graph.operators:
        if op.kind == ROWS:
            holders[op.outputs[0]] = op.inputs[0]
        elif op.kind == STACK:  # what is new is computed where it stays
            holders[op.inputs[1]] = op.outputs[0]
    holders = {t: holders.get(holder, holder) for t, holder in holders.items()}

    def maps(indices: Sequence[int]) -> list[int]:
        found = dict.fromkeys(holders.get(i, i) for i in indices if i >= 0)
        return [i for i in found if graph.tensors[i].data is None]

    operators = [op for op in graph.operators if op.kind not in (ROWS, ALIKE)]
    last = {i: n for n, op in enumerate(operators) for i in maps((*op.inputs, *op.outputs))}
    last |= dict.fromkeys(maps(graph.outputs), len(operators))
    alive = {i: _size(graph, i) for i in maps(graph.inputs)}
    most = total = sum(alive.values())
    for number, op in enumerate(operators):
        new = [i for i in maps((*op.inputs, *op.outputs)) if i not in alive]
        for i in new:
            alive[i] = _size(graph, i)
            total += alive[i]
        dying = [i for i in maps((*op.inputs, *op.outputs)) if last[i] <= number]
        over = _over(op, [alive[i] for i in dying if i not in new], [alive[i] for i in new])
        most = max(most, total - over)
        for i in dying:
            total -= alive.pop(i)
    return most


def _over(op: Operator, dying: list[int], new: list[int]) -> int:
    """Bytes of an output that lie over an input."""
    if op.kind not in _IN_PLACE or not dying or not new:
        return 0
    return min(max(dying), sum(new))


def _size(graph: Graph, index: int) -> int:
    """About the bytes of a map with its border."""
    shape = graph.tensors[index].shape
    if 0 in shape:
        return 0
    rows, columns, channels = dimensions(shape)
    border = is_map(shape) and columns > 1
    return channels * rows * (columns + border)
