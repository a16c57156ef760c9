"""Layer, group, RMS and unit normalisations as one operator.

A file has each of them as about sixteen operators on int16 and int32
(`ec2t_tf.export.lower.rules.standardised` writes them). In C the row that is normalised is read
three times instead, so that nothing wider than int8 lies in RAM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ec2t_tf.export.graph import Graph, Operator, Tensor
from ec2t_tf.export.graph.inverse_roots import PLACES, TIERS

from . import walks

NORMALISE = "NORMALISE"  # no operator of a file: from int8 to int8, `Parts` as its option "parts"
FINER = 128  # steps of int16 in one of int8
# Elements of a row: their codes of int16 and their squares add up to less than 2^31.
MOST_ELEMENTS = 65538


@dataclass(frozen=True)
class Parts:
    """The tensors of one normalisation, of int16 but for the tiers of int8.

    Attributes:
        axes: Those of a row.
        wide: The input.
        centred: Whether the row's mean is taken off.
        square, variance: Of what is left, and their mean.
        tiers: The variance on four scales.
        roots: 1 / root by the sum of the codes of the tiers.
        standard: What is left times that root.
        gamma, scaled: A factor and the product, if there is one.
        beta, moved: What is taken off and the difference, if there is one.
    """

    axes: tuple[int, ...]
    wide: Tensor
    centred: bool
    square: Tensor
    variance: Tensor
    tiers: tuple[Tensor, ...]
    roots: Tensor
    standard: Tensor
    gamma: Tensor | None
    scaled: Tensor | None
    beta: Tensor | None
    moved: Tensor | None

    @property
    def view(self) -> tuple[int, ...]:
        """Shape in which it is done."""
        return self.wide.shape

    @property
    def size(self) -> int:
        """Elements of a row."""
        return math.prod(self.view[axis] for axis in self.axes)

    @property
    def parameters(self) -> tuple[int, ...]:
        """Shape of gamma and beta, of as many dimensions as the view."""
        held = self.gamma if self.gamma is not None else self.beta
        return (1,) * len(self.view) if held is None else held.shape


class _Other(Exception):
    """The operators are no normalisation."""


def _require(condition: object) -> None:
    if not condition:
        raise _Other


def with_normalisations(graph: Graph) -> Graph:
    """The net with a NORMALISE for every group of operators that is one; reshapes around it, by
    which groups are an axis of their own, are part of it."""
    made: dict[int, Operator] = {}
    gone: set[int] = set()
    index = _Index(graph)
    for number, op in enumerate(graph.operators):
        if op.kind != "QUANTIZE":
            continue
        try:
            match = _Match(index, number)
        except _Other:
            continue
        made[number] = Operator(NORMALISE, (match.source,), (match.target,), {"parts": match.parts})
        gone |= match.numbers - {number}
    if not made:
        return graph
    operators = [
        made.get(number, op) for number, op in enumerate(graph.operators) if number not in gone
    ]
    return replace(graph, operators=operators)


class _Index:
    """Which operators make and read a tensor."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers: dict[int, int] = {}
        self.users: dict[int, list[int]] = {}
        for number, op in enumerate(graph.operators):
            self.makers |= dict.fromkeys(op.outputs, number)
            for entry in op.inputs:
                self.users.setdefault(entry, []).append(number)

    def only(self, tensor: int, kind: str) -> Operator | None:
        """What alone reads a tensor that is no output of the net, if it is of this kind."""
        users = self.users.get(tensor, [])
        if len(users) != 1 or tensor in self.graph.outputs:
            return None
        found = self.graph.operators[users[0]]
        return found if found.kind == kind else None


class _Match:
    """A normalisation that ends in the operator `last`, from its end to its beginning.

    Attributes:
        numbers: Of its operators.
        source, target: The int8 tensors around it.
    """

    def __init__(self, index: _Index, last: int) -> None:
        self._index, self._tensors = index, index.graph.tensors
        self.numbers = {last}
        end = index.graph.operators[last]
        self.target = end.outputs[0]
        _require(self._is_code(self.target))
        self.parts = self._read(end.inputs[0])
        self._is_inside(last)
        self._with_reshapes()

    def _read(self, index: int) -> Parts:
        op = self._made(index, "SUB", "MUL")
        gamma = scaled = beta = moved = None
        if op.kind == "SUB":
            moved, beta = self._int16(index), self._parameter(op.inputs[1])
            index = op.inputs[0]
            op = self._made(index, "MUL")
        if self._tensors[op.inputs[1]].data is not None:
            scaled, gamma = self._int16(index), self._parameter(op.inputs[1])
            index = op.inputs[0]
            op = self._made(index, "MUL")
        standard, (left, root) = self._int16(index), op.inputs
        table, variance, tiers = self._looked_up(root)
        squares, axes = self._averaged(variance)
        _require(self._made(squares, "MUL").inputs == (left, left))
        wide = self._int16(left)
        op = self._made(left, "SUB", "QUANTIZE")
        centred = op.kind == "SUB"
        if centred:
            first, mean = op.inputs
            _require(self._averaged(mean) == (first, axes))
            same = {float(self._int16(i).scale[0]) for i in (left, first, mean)}
            _require(len(same) == 1)
            op = self._made(first, "QUANTIZE")
        self.source = op.inputs[0]
        _require(self._is_code(self.source))
        _require(self._tensors[self.source].scale[0] == FINER * wide.scale[0])
        found = Parts(
            axes,
            wide,
            centred,
            self._int16(squares),
            self._int16(variance),
            tiers,
            table,
            standard,
            gamma,
            scaled,
            beta,
            moved,
        )
        self._has_shapes(found, (variance, root))
        return found

    def _looked_up(self, root: int) -> tuple[Tensor, int, tuple[Tensor, ...]]:
        """The table, the variance, and its tiers."""
        gather = self._made(root, "GATHER")
        table = self._int16(gather.inputs[0])
        _require(not gather.options.get("axis", 0) and not gather.options.get("batch_dims", 0))
        _require(table.data is not None and table.shape == (PLACES,))
        _require(table.scale[0] == self._int16(root).scale[0])
        left, offset = [gather.inputs[1]], 0
        tiers: list[Tensor] = []
        variances: set[int] = set()
        while left:
            index = left.pop()
            tensor = self._tensors[index]
            _require(tensor.dtype == "int32" and len(tiers) <= TIERS)
            if tensor.data is not None:
                _require(tensor.data.size == 1)
                offset += int(tensor.data.reshape(-1)[0])
                continue
            op = self._made(index, "ADD", "CAST")
            if op.kind == "ADD":
                left += op.inputs
                continue
            tiers.append(self._tensors[op.inputs[0]])
            _require(self._is_code(op.inputs[0]) and tiers[-1].zero_point[0] == -128)
            variances.add(self._made(op.inputs[0], "QUANTIZE").inputs[0])
        _require(len(tiers) == TIERS and len(variances) == 1 and offset == 128 * TIERS)
        return table, variances.pop(), tuple(tiers)

    def _averaged(self, index: int) -> tuple[int, tuple[int, ...]]:
        """What a MEAN is of, and along which axes."""
        op = self._made(index, "MEAN")
        axes, rank = self._tensors[op.inputs[1]].data, len(self._tensors[op.inputs[0]].shape)
        if axes is None or axes.dtype.kind != "i" or not op.options.get("keep_dims") or not rank:
            raise _Other
        return op.inputs[0], tuple(sorted({int(axis) % rank for axis in axes.reshape(-1)}))

    def _has_shapes(self, found: Parts, one_a_row: Sequence[int]) -> None:
        view = found.view
        _require(view == self._tensors[self.source].shape == self._tensors[self.target].shape)
        _require(0 < found.size <= MOST_ELEMENTS and 0 not in view)
        row = tuple(1 if i in found.axes else n for i, n in enumerate(view))
        _require(all(self._tensors[i].shape == row for i in one_a_row))
        held = [t.shape for t in (found.gamma, found.beta) if t is not None]
        _require(len(set(held)) <= 1 and len(found.parameters) == len(view))
        _require(all(n in (1, m) for n, m in zip(found.parameters, view, strict=True)))
        values = [t for t in (found.square, found.standard, found.scaled, found.moved) if t]
        _require(all(t.shape == view for t in values))

    def _made(self, index: int, *kinds: str) -> Operator:
        number = self._index.makers.get(index, -1)
        _require(number >= 0)
        op = self._index.graph.operators[number]
        _require(op.kind in kinds and len(op.outputs) == 1)
        _require(len(op.inputs) == (1 if op.kind in ("CAST", "QUANTIZE") else 2))
        _require(min(op.inputs) >= 0)
        _require(op.options.get("activation", "none") == "none")
        _require(op.kind != "SUB" or op.options.get("pot_scale_int16") is False)
        self.numbers.add(number)
        return op

    def _int16(self, index: int) -> Tensor:
        tensor = self._tensors[index]
        _require(tensor.dtype == "int16" and len(tensor.scale) == 1 and tensor.scale[0] > 0)
        _require(not np.any(tensor.zero_point))
        return tensor

    def _parameter(self, index: int) -> Tensor:
        tensor = self._int16(index)
        if tensor.data is None or not tensor.data.size or tensor.data.min() < -32767:
            raise _Other
        return tensor

    def _is_code(self, index: int) -> bool:
        tensor = self._tensors[index]
        return tensor.dtype == "int8" and len(tensor.scale) == 1 and bool(tensor.scale[0] > 0)

    def _is_inside(self, last: int) -> None:
        """Nothing else reads what is between."""
        for number in self.numbers - {last}:
            for out in self._index.graph.operators[number].outputs:
                _require(out not in self._index.graph.outputs)
                _require(set(self._index.users.get(out, [])) <= self.numbers)

    def _with_reshapes(self) -> None:
        """Takes in a RESHAPE before and one after where both shapes are runs of the same sizes."""
        makers, operators = self._index.makers, self._index.graph.operators
        before = makers.get(self.source, -1)
        if (
            before >= 0
            and operators[before].kind == "RESHAPE"
            and self._index.only(self.source, "QUANTIZE") is not None
            and self._is_view(operators[before].inputs[0], self.source)
        ):
            self.numbers.add(before)
            self.source = operators[before].inputs[0]
        after = self._index.only(self.target, "RESHAPE")
        if after is not None and self._is_view(after.outputs[0], self.target):
            self.numbers.add(makers[after.outputs[0]])
            self.target = after.outputs[0]

    def _is_view(self, other: int, index: int) -> bool:
        """Whether a tensor is another in a shape that runs of the same sizes make up."""
        a, b = self._tensors[other], self._tensors[index]
        alike = a.dtype == b.dtype and np.array_equal(a.scale, b.scale)
        alike = alike and np.array_equal(a.zero_point, b.zero_point)
        alike = alike and math.prod(a.shape) == math.prod(b.shape)
        return alike and common_runs(a.shape, b.shape, self._tensors[self.source].shape) is not None


def common_runs(*shapes: Sequence[int]) -> list[int] | None:
    """Sizes of which runs make up the dimensions of all shapes; None if two cut across each
    other."""
    found: list[int] | None = list(shapes[0])
    for shape in shapes[1:]:
        found = None if found is None else walks.refined(found, shape)
    return found
