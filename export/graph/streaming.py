"""A net on a window that slides over a stream, as a net that takes the new frames only.

What convolutions and poolings saw before is kept in variables, so that a step computes the new
columns of every map and no others. Its outputs are, bit for bit, those of the whole net on the
window that ends with the newest frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from .graph import Graph, Operator, Tensor
from .time_axis import CannotStream, Reads, Time, layer, reads, sliced


@dataclasses.dataclass(frozen=True)
class Kept:
    """Columns of a tensor that are kept from one step to the next.

    Attributes:
      variable: its name.
      tensor: of the net on the whole window.
      axis: of time.
      columns: how many.
    """

    variable: str
    tensor: int
    axis: int
    columns: int


@dataclasses.dataclass(frozen=True)
class Stream:
    """A net that takes the new frames only.

    Attributes:
      graph: the net. Tensors of the net on the window keep their indices.
      frames: new ones a step.
      window: frames of the whole window.
      kept: its state.
    """

    graph: Graph
    frames: int
    window: int
    kept: tuple[Kept, ...]


def stream(graph: Graph) -> Stream:
    """The streaming net of one on a window.

    Args:
      graph: one input whose first axis behind the batch is time (the next one, where that has
        size 1). Behind it convolutions and poolings without padding in time (or with padding in
        front only, where nothing reads the padded columns), element-wise layers, and at last
        something that takes the whole window: a mean, a dense layer, a window as long as all.

    Raises:
      CannotStream: naming the layer that cannot.
    """
    return _Builder(graph).build()


def with_frames(graph: Graph, frames: int) -> Graph:
    """`graph` with so many frames in its input's shape, for who describes it."""
    (index,), tensors = graph.inputs, list(graph.tensors)
    tensors[index] = _with_columns(tensors[index], _time_of_input(graph).axis, frames)
    return dataclasses.replace(graph, tensors=tensors)


def with_first_values(graph: Graph, values: Mapping[str, npt.NDArray]) -> Graph:
    """`graph` with variables that begin with `values`, in the shape of what they are read into."""
    handles = {
        op.outputs[0]: str(op.options["shared_name"])
        for op in graph.operators
        if op.kind == "VAR_HANDLE"
    }
    initial = Graph(name="initial")
    for op in graph.operators:
        if op.kind == "READ_VARIABLE":
            name, like = handles[op.inputs[0]], graph.tensors[op.outputs[0]]
            handle = initial.add("handle", (), "resource")
            options = {"container": "", "shared_name": name}
            initial.operators.append(Operator("VAR_HANDLE", (), (handle,), options))
            data = values[name].reshape(like.shape)
            initial.tensors.append(dataclasses.replace(like, data=data))
            inputs = (handle, len(initial.tensors) - 1)
            initial.operators.append(Operator("ASSIGN_VARIABLE", inputs, ()))
    once = Operator("CALL_ONCE", (), (), {"init_subgraph_index": 1})
    return dataclasses.replace(graph, operators=[once, *graph.operators], initial=initial)


class _Builder:
    def __init__(self, graph: Graph) -> None:
        if len(graph.inputs) != 1:
            raise CannotStream(
                f"a net that streams must have one input. Received: {len(graph.inputs)}."
            )
        if graph.initial or any(t.variable or t.dtype == "resource" for t in graph.tensors):
            raise CannotStream(
                "the net keeps state from call to call already: export it without stream."
            )
        self.source = graph
        self.times = {graph.inputs[0]: _time_of_input(graph)}
        self.reads: dict[int, Reads | None] = {}  # by the number of the operator
        for number, op in enumerate(graph.operators):
            if any(index in self.times for index in op.inputs):
                self.reads[number] = self._follow(op)
        self.frames = math.lcm(*(time.every for time in self.times.values()))
        self._first_columns()
        self.out = dataclasses.replace(graph, tensors=list(graph.tensors), operators=[])
        self.kept: list[Kept] = []
        self.held: dict[tuple[int, int], int] = {}  # tensor, first column -> columns from there

    def _follow(self, op: Operator) -> Reads | None:
        """How an operator sees time; tells the times of its outputs."""
        found = reads(self.source, op, self.times)
        if found is None or found.axis is None or found.columns == 1:
            return found
        before = [self.times[index] for index in op.inputs if index in self.times]
        padded = max(-(-max(t.padded - found.offset, 0) // found.stride) for t in before)
        name = next((t.padding for t in before if t.padding), "")
        if found.offset < 0:
            name = name or layer(self.source, op)
        time = Time(found.axis, found.columns, before[0].every * found.stride, padded, name)
        self.times.update(dict.fromkeys(op.outputs, time))
        return found

    # --- which columns are needed ------------------------------------------------------------

    def new(self, tensor: int) -> int:
        """Columns that a step adds."""
        return self.frames // self.times[tensor].every

    def first(self, number: int, tensor: int) -> int:
        """The first column of `tensor` that operator `number` needs in a step."""
        found, op = self.reads[number], self.source.operators[number]
        if found is None:
            return 0
        if found.axis is None or found.columns == 1:  # a slice of one moment
            return found.offset
        computed = self.new(op.outputs[0])
        return (found.columns - computed) * found.stride + found.offset

    def _needs(self) -> Iterator[tuple[int, int, str]]:
        """Every use of a tensor with a time: tensor, first column, by whom."""
        for number in self.reads:
            op = self.source.operators[number]
            for tensor in dict.fromkeys(op.inputs):
                if tensor in self.times:
                    yield tensor, self.first(number, tensor), layer(self.source, op)
        for tensor in self.source.outputs:
            if tensor in self.times:
                yield tensor, 0, "the net's output"

    def _first_columns(self) -> None:
        """The first column of each tensor that a step needs."""
        self.needed: dict[int, int] = {}
        for tensor, time in self.times.items():
            if self.new(tensor) >= time.size:
                raise CannotStream(
                    f"{self.source.tensors[tensor].name!r} has {time.size} columns, and each step "
                    f"of {self.frames} frames makes {self.new(tensor)}: give the net a longer "
                    "window, or smaller strides in time."
                )
        for tensor, first, user in self._needs():
            time = self.times[tensor]
            if first < time.padded:
                raise CannotStream(
                    f"{time.padding} cannot stream: {user} reads the {time.padded} first columns, "
                    "which see its padding and change with every step. Train without padding in "
                    "time ('valid'), or let what follows read the last columns only."
                )
            last = time.size - self.new(tensor)
            self.needed[tensor] = min(first, self.needed.get(tensor, last), last)

    # --- the new net -------------------------------------------------------------------------

    def build(self) -> Stream:
        graph = self.source
        for tensor, time in self.times.items():
            new = _with_columns(graph.tensors[tensor], time.axis, self.new(tensor))
            self.out.tensors[tensor] = new
        self._keep(graph.inputs[0])
        for number, op in enumerate(graph.operators):
            self.out.operators.append(self._operator(number, op))
            for tensor in op.outputs:
                if tensor in self.times:
                    self._keep(tensor)
        self.out.outputs = tuple(
            self._columns(index, 0) if index in self.times else index for index in graph.outputs
        )
        self.out.signatures = []
        window = self.times[graph.inputs[0]].size
        return Stream(self.out, self.frames, window, tuple(self.kept))

    def _keep(self, tensor: int) -> None:
        """After a tensor's new columns are there: puts them behind those that were kept, and keeps
        the last for the next step."""
        time, new = self.times[tensor], self.new(tensor)
        first = self.needed.get(tensor, time.size - new)
        self.held[tensor, time.size - new] = tensor
        count = time.size - new - first
        if not count:
            return
        graph, name = self.out, f"stream {len(self.kept)}"
        self.kept.append(Kept(name, tensor, time.axis, count))
        handle = graph.add(name, (), "resource")
        options = {"container": "", "shared_name": name}
        graph.operators.append(Operator("VAR_HANDLE", (), (handle,), options))
        before = self._add(tensor, f"{name} before", count)
        whole = self._add(tensor, f"{name} whole", count + new)
        after = self._add(tensor, f"{name} after", count)
        graph.operators.append(Operator("READ_VARIABLE", (handle,), (before,)))
        graph.call("CONCATENATION", [before, tensor], whole, axis=time.axis, activation="none")
        graph.operators.append(self._cut(whole, after, time.axis, new))
        graph.operators.append(Operator("ASSIGN_VARIABLE", (handle, after), ()))
        self.held[tensor, first] = whole

    def _columns(self, tensor: int, first: int) -> int:
        """The tensor that holds the columns of `tensor` from `first` on."""
        if (tensor, first) not in self.held:
            time = self.times[tensor]
            needed = self.needed[tensor]
            part = self._add(tensor, f"columns from {first}", time.size - first)
            whole = self.held[tensor, needed]
            self.out.operators.append(self._cut(whole, part, time.axis, first - needed))
            self.held[tensor, first] = part
        return self.held[tensor, first]

    def _operator(self, number: int, op: Operator) -> Operator:
        """The operator on the columns of a step."""
        if number not in self.reads:
            return op
        graph, found = self.source, self.reads[number]
        inputs = [
            self._columns(i, self.first(number, i)) if i in self.times else i for i in op.inputs
        ]
        op = dataclasses.replace(op, inputs=tuple(inputs))
        if found is None:
            return op
        original = graph.operators[number]
        time = self.times.get(original.inputs[0])
        out = self.out.tensors[op.outputs[0]].shape
        if op.kind in ("SLICE", "STRIDED_SLICE") and time is not None:
            places = sliced(graph, original)
            count = 1 if found.axis is None or found.columns == 1 else self.new(op.outputs[0])
            places[time.axis] = range(0, (count - 1) * found.stride + 1, found.stride)
            shrink = op.options["masks"][4] if op.kind == "STRIDED_SLICE" else 0
            return self._strided(inputs[0], op.outputs[0], places, shrink)
        if op.kind in ("PAD", "PADV2") and time is not None:
            amounts = graph.tensors[op.inputs[1]]
            assert amounts.data is not None
            data = amounts.data.reshape(-1, 2).copy()
            data[time.axis] = 0
            return self._with_input(op, 1, dataclasses.replace(amounts, data=data))
        if op.kind in ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"):
            shape = self._constant("shape", out)
            inputs = [inputs[0], shape]
            return Operator("RESHAPE", tuple(inputs), op.outputs, {"new_shape": None})
        return op

    def _with_input(self, op: Operator, place: int, tensor: Tensor) -> Operator:
        self.out.tensors.append(tensor)
        inputs = list(op.inputs)
        inputs[place] = len(self.out.tensors) - 1
        return dataclasses.replace(op, inputs=tuple(inputs))

    def _cut(self, whole: int, part: int, axis: int, first: int) -> Operator:
        """All columns of `whole` from `first` on, to `part`."""
        places = [range(n) for n in self.out.tensors[whole].shape]
        places[axis] = places[axis][first:]
        return self._strided(whole, part, places, 0)

    def _strided(self, source: int, target: int, places: list[range], shrink: int) -> Operator:
        numbers = ([r[0] for r in places], [r[-1] + 1 for r in places], [r.step for r in places])
        constants = [
            self._constant(name, values)
            for name, values in zip(("begin", "end", "stride"), numbers, strict=True)
        ]
        masks = {"masks": (0, 0, 0, 0, shrink), "offset": False}
        return Operator("STRIDED_SLICE", (source, *constants), (target,), masks)

    def _constant(self, name: str, values: npt.ArrayLike) -> int:
        data = np.asarray(values, np.int32)
        return self.out.add(name, data.shape, "int32", data=data)

    def _add(self, like: int, name: str, columns: int) -> int:
        tensor = self.source.tensors[like]
        axis = self.times[like].axis
        new = dataclasses.replace(_with_columns(tensor, axis, columns), name=name)
        self.out.tensors.append(new)
        return len(self.out.tensors) - 1


def _with_columns(tensor: Tensor, axis: int, columns: int) -> Tensor:
    shape = (*tensor.shape[:axis], columns, *tensor.shape[axis + 1 :])
    return dataclasses.replace(tensor, shape=shape)


def _time_of_input(graph: Graph) -> Time:
    tensor = graph.tensors[graph.inputs[0]]
    shape = tensor.shape
    axis = 2 if len(shape) == 4 and shape[1] == 1 else 1
    if not 3 <= len(shape) <= 4 or shape[0] != 1 or shape[axis] < 2:
        raise CannotStream(
            "the input of a net that streams must be (1, frames, features) or (1, frames, rows, "
            f"features), at least two frames. Received: {tensor.name!r} of shape {shape}. "
            "Give the net its frames as they are, without a Reshape or Flatten in front, or "
            "export without stream."
        )
    return Time(axis, shape[axis], 1)
