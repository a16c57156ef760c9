"""A part of a net in horizontal strips: each of its maps is there a few rows at a time, so that it
takes less RAM. No row is computed twice: rows that a later strip needs again are kept.

The rewritten graph has operators that no file has (operators/rows.py lowers them): ROWS is some
rows of a map where they lie, KEEP copies rows, STACK puts them above new ones, PUT writes rows
into a whole map, ALIKE names maps that get one geometry, so that convolutions share their tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ec2t_tf.export.graph import Graph, Operator, Tensor

from .arithmetic import same_padding
from .operators import elementwise, pairs
from .operators.rows import ALIKE, KEEP, PUT, ROWS, STACK, Part
from .tables import TABLE

_WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D")
# Each row of an output is of the same row of the inputs.
_ROW_BY_ROW = (*elementwise.KINDS, *pairs.KINDS, TABLE, "CONCATENATION")


@dataclass(frozen=True)
class Region:
    """Operators `first` to `last` of a graph, in strips of `rows` rows of the last one's output."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class _Window:
    """Row y of an output is of rows y * stride - before, `span` of them."""

    stride: int = 1
    span: int = 1
    before: int = 0

    def first(self, row: int) -> int:
        return row * self.stride - self.before

    def behind(self, rows: int) -> int:
        """What the first `rows` rows need ends there."""
        return self.first(rows - 1) + self.span if rows else 0

    def rows(self, behind: int) -> int:
        """How many rows need nothing from row `behind` on."""
        return max((behind + self.before - self.span) // self.stride + 1, 0)


def works_by_rows(graph: Graph, op: Operator) -> bool:
    """Whether an operator can be done a few rows at a time."""
    if op.custom is not None or len(op.outputs) != 1:
        return False
    out = graph.tensors[op.outputs[0]]
    maps = [graph.tensors[i] for i in _maps(graph, op)]
    if not maps or not all(map(_is_map, (*maps, out))):
        return False
    if op.kind in _WINDOWS:
        window = _window(graph, op)
        pool = op.kind.endswith("POOL_2D")
        return window is not None and not (pool and _is_padded(window, maps[0], out))
    if op.kind not in _ROW_BY_ROW:
        return False
    if op.kind == "CONCATENATION":
        return len(maps) == len(op.inputs) and op.options["axis"] in (3, -1)
    constants = [
        graph.tensors[i] for i in op.inputs if i >= 0 and graph.tensors[i].data is not None
    ]
    small = all(math.prod(t.shape[:-1]) == 1 for t in constants)
    return small and all(t.shape == out.shape for t in maps)


def _is_map(tensor: Tensor) -> bool:
    shape = tensor.shape
    return (
        len(shape) == 4 and shape[0] == 1 and min(shape) > 0 and tensor.dtype in ("int8", "uint8")
    )


def _maps(graph: Graph, op: Operator) -> list[int]:
    return [i for i in dict.fromkeys(op.inputs) if i >= 0 and graph.tensors[i].data is None]


def _window(graph: Graph, op: Operator) -> _Window | None:
    """The rows that an operator sees; None where its shapes do not fit."""
    if op.kind not in _WINDOWS:
        return _Window()
    rows, out = (graph.tensors[i].shape[1] for i in (op.inputs[0], op.outputs[0]))
    if op.kind.endswith("POOL_2D"):
        size, dilation = op.options["size"][0], 1
    else:
        filters = graph.tensors[op.inputs[1]]
        if filters.data is None or len(filters.shape) != 4:
            return None
        size, dilation = filters.shape[1], op.options["dilation"][0]
    stride = op.options["stride"][0]
    if min(size, dilation, stride) < 1:
        return None
    before = 0
    if op.options["padding"] == "same":
        before = same_padding(rows, out, size, stride, dilation)[0]
    return _Window(stride, (size - 1) * dilation + 1, before)


def _is_padded(window: _Window, source: Tensor, out: Tensor) -> bool:
    return window.before > 0 or window.behind(out.shape[1]) > source.shape[1]


def in_strips(graph: Graph, regions: Sequence[Region]) -> Graph:
    """The graph with these regions, which do not overlap, in strips. Tensors keep their indices."""
    result = dataclasses.replace(graph, tensors=list(graph.tensors), operators=[])
    at = 0
    for region in sorted(regions, key=lambda r: r.first):
        result.operators += graph.operators[at : region.first]
        _Strips(graph, region, result).write()
        at = region.last + 1
    result.operators += graph.operators[at:]
    return result


class _Strips:
    def __init__(self, graph: Graph, region: Region, result: Graph) -> None:
        self.graph, self.region, self.result = graph, region, result
        self.operators = graph.operators[region.first : region.last + 1]
        self.windows = []
        for op in self.operators:
            window = _window(graph, op)
            assert window is not None
            self.windows.append(window)
        made = [op.outputs[0] for op in self.operators]
        others = (*graph.operators[: region.first], *graph.operators[region.last + 1 :])
        outside = {*graph.outputs, *(i for op in others for i in op.inputs)}
        self.whole = {t for t in made if t in outside}  # what is needed as a whole map
        self.inside = [t for t in made if t not in self.whole]
        self.read = {i for op in self.operators for i in op.inputs}
        self.rows = {t: graph.tensors[t].shape[1] for t in made}
        self._schedule()

    def _schedule(self) -> None:
        """`made[t][i]`: rows of t that are there before strip i; `kept[t][i]`: the first row that
        strip i or a later one needs."""
        steps, wanted = self._steps()
        self.made: dict[int, list[int]] = {t: [0] for t in self.rows}
        while any(made[-1] < wanted[t] for t, made in self.made.items()):
            for op, window in zip(self.operators, self.windows, strict=True):
                out = op.outputs[0]
                rows = min(wanted[out], self.made[out][-1] + steps[out])
                for t in _maps(self.graph, op):
                    if t in self.rows and self.made[t][-1] < wanted[t]:
                        rows = min(rows, window.rows(self.made[t][-1]))
                self.made[out].append(max(rows, self.made[out][-1]))
        count = self.count = len(self.made[self.operators[0].outputs[0]]) - 1
        self.kept = {t: [*made[:-1], made[-1]] for t, made in self.made.items()}
        for strip in range(count - 1, -1, -1):
            for t in self.rows:
                self.kept[t][strip] = self.kept[t][strip + 1]
            for op, window in zip(self.operators, self.windows, strict=True):
                before, behind = self.made[op.outputs[0]][strip : strip + 2]
                if before == behind:
                    continue
                for t in _maps(self.graph, op):
                    if t in self.rows:
                        first = max(window.first(before), 0)
                        self.kept[t][strip] = min(self.kept[t][strip], first)

    def _steps(self) -> tuple[dict[int, int], dict[int, int]]:
        """Of each tensor the rows that a strip adds at most, and those that are needed at all."""
        steps, wanted = dict.fromkeys(self.rows, 1), dict.fromkeys(self.rows, 0)
        wanted |= {t: self.rows[t] for t in self.whole}
        steps[self.operators[-1].outputs[0]] = self.region.rows
        for op, window in zip(self.operators[::-1], self.windows[::-1], strict=True):
            for t in _maps(self.graph, op):
                if t in self.rows:
                    out = op.outputs[0]
                    steps[t] = max(steps[t], steps[out] * window.stride)
                    wanted[t] = max(wanted[t], min(window.behind(wanted[out]), self.rows[t]))
        return steps, wanted

    def write(self) -> None:
        """Appends the strips' operators."""
        self.holds: dict[
            int, tuple[int, int]
        ] = {}  # the tensor with the rows of another, its first
        self.alike: dict[int, list[int]] = {t: [] for t in self.inside}
        for strip in range(self.count):
            users = {
                t: number
                for number, op in enumerate(self.operators)
                if self._new(op.outputs[0], strip)
                for t in _maps(self.graph, op)
            }
            for t in self.inside:
                if t not in users and t in self.holds and not self._new(t, strip):
                    self._keep(t, strip)
            for number, op in enumerate(self.operators):
                new = self._new(op.outputs[0], strip)
                done = [t for t, last in users.items() if last == number and t in self.alike]
                # What writes over its input needs nothing else of it.
                early = op.kind in _WINDOWS[1:]
                source = self._inputs(number, strip) if new else ()
                for t in done if early else ():
                    self._keep(t, strip)
                if new:
                    self._compute(number, strip, source)
                for t in () if early else done:
                    self._keep(t, strip)
                out = op.outputs[0]
                if new and out in self.alike and out not in users:
                    self._keep(out, strip)
        for members in self.alike.values():
            members = list(dict.fromkeys(members))
            if len(members) > 1:
                self._append(ALIKE, members, (), {})

    def _new(self, t: int, strip: int) -> int:
        """Rows of a tensor that a strip adds."""
        return self.made[t][strip + 1] - self.made[t][strip]

    def _inputs(self, number: int, strip: int) -> tuple[int, ...]:
        """An operator's inputs, of maps the rows that this strip reads."""
        op, window = self.operators[number], self.windows[number]
        before, behind = self.made[op.outputs[0]][strip : strip + 2]
        span = window.first(before), window.behind(behind)
        if op.kind in _WINDOWS and op.inputs[0] in self.alike:
            self.alike[op.inputs[0]].append(self.holds[op.inputs[0]][0])
        return tuple(self._part(t, *span) if t in _maps(self.graph, op) else t for t in op.inputs)

    def _part(self, t: int, first: int, behind: int) -> int:
        holder, start = self.holds.get(t, (t, 0))
        rows = self.result.tensors[holder].shape[1]
        if (first, behind) == (start, start + rows):
            return holder
        part = self._tensor(t, behind - first)
        self._append(ROWS, (holder,), (part,), {"first": first - start})
        return part

    def _compute(self, number: int, strip: int, inputs: tuple[int, ...]) -> None:
        op, out = self.operators[number], self.operators[number].outputs[0]
        before, behind = self.made[out][strip : strip + 2]
        new = self._tensor(out, behind - before)
        options = dict(op.options)
        if op.kind in _WINDOWS:
            options["padding"] = ("valid", op.options["padding"])
        self.result.operators.append(
            Part(op.kind, inputs, (new,), options, layer=self.region.first + number)
        )
        if out in self.whole:
            self._append(
                PUT,
                (new,),
                (out,),
                {"first": before, "frame": out in self.read or behind == self.rows[out]},
            )
            return
        holder, start = new, before
        if out in self.holds:
            kept, start = self.holds[out]
            holder = self._tensor(out, behind - start)
            self._append(STACK, (kept, new), (holder,), {})
        self.holds[out] = holder, start

    def _keep(self, t: int, strip: int) -> None:
        """Keeps what later strips need of a tensor's rows."""
        holder, start = self.holds[t]
        first, behind = self.kept[t][strip + 1], self.made[t][strip + 1]
        if first >= behind:
            del self.holds[t]
        elif first > start:
            kept = self._tensor(t, behind - first)
            self._append(KEEP, (holder,), (kept,), {"first": first - start})
            self.holds[t] = kept, first

    def _append(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: dict[str, object]
    ) -> None:
        self.result.operators.append(Part(kind, tuple(inputs), tuple(outputs), options))

    def _tensor(self, like: int, rows: int) -> int:
        tensor = self.graph.tensors[like]
        shape = (1, rows, *tensor.shape[2:])
        self.result.tensors.append(dataclasses.replace(tensor, shape=shape))
        return len(self.result.tensors) - 1
