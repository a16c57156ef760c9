"""From a graph to kernel calls: one `Step` or a few per operator, and the layouts they work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Graph, Operator, Tensor

from . import walks
from .arithmetic import activation_range
from .code import Code, Names
from .code import clamp as clamp_of
from .cores import CORES, FLIP
from .limits import ACTIVATIONS, MOST_SIZE
from .operators import INTERNAL, NO_OUTPUTS, OPERATORS, SEVERAL_OUTPUTS
from .operators.embedding import embedding_rows
from .operators.movement import add_constant, rearrange
from .operators.rows import Part
from .plan import Layout
from .step import Step


def supported() -> list[str]:
    """Names of the operators of a file that can be lowered."""
    return sorted(OPERATORS)


@dataclass(frozen=True)
class State:
    """Memory that is kept from one call to the next, and the C that gives it its first value."""

    layout: Layout
    reset: Callable[[Names], Code]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """An input of whole numbers for an embedding: its parameter in C and what they are below."""

    parameter: str
    below: int


class Lowering:
    """Walks a graph once; then `steps` and `layouts` (by tensor) are ready for planning.

    Attributes:
        inputs, outputs: The net's int8 tensors, behind what converts at its borders.
        states: By what names them: a tensor, or the name of a variable.
        words: Inputs of whole numbers, which are no activations.
        parts: Layouts, by identity, that are rows of another one: that one, and the first row.
        filled: Layouts that are computed in their place as rows of another, and the first row.
        alike: Layouts that get one pitch and one plane.
        shared: Names of constants in C that several steps read and one declares.
    """

    def __init__(self, graph: Graph, *, core: str, optimize: str) -> None:
        self.graph = replace(graph, tensors=list(graph.tensors))
        self.core_name, self.core = core, CORES[core]
        self.optimize = optimize
        self.layouts: dict[int, Layout] = {}
        self.steps: list[Step] = []
        self.states: dict[int | str, State] = {}
        self.words: dict[int, Words] = {}
        self.parts: dict[int, tuple[Layout, int]] = {}
        self.filled: list[tuple[Layout, Layout, int]] = []
        self.alike: list[list[Layout]] = []
        self.shared: set[str] = set()
        self._plain_tensors: dict[int, int] = {}
        if not graph.inputs or not graph.outputs:
            raise FileError(
                "a net with at least one input and one output is required. Received: "
                f"{len(graph.inputs)} inputs, {len(graph.outputs)} outputs."
            )
        operators = self._borders()
        for place, index in enumerate(self.inputs):
            below = embedding_rows(self.graph, operators, index)
            if below:
                name = "input" if len(self.inputs) == 1 else f"input_{place}"
                self.words[index] = Words(name, below)
            else:
                self.define(index)
        for number, operator in enumerate(operators):
            before = len(self.steps)
            self._lower(number, operator)
            if isinstance(operator, Part):
                for step in self.steps[before:]:
                    step.layer = operator.layer
        for index in self.outputs:
            if index not in self.layouts:
                if self.graph.tensors[index].data is None:
                    raise FileError("an output of the model is not computed by any operator.")
                add_constant(self, index)
        self._settle()

    def _borders(self) -> list[Operator]:
        """Takes operators off that convert a float input or output; sets `inputs`, `outputs`.

        A float input that the file makes whole numbers of is whole numbers in C."""
        graph = self.graph
        left = list(graph.operators)
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)
        for place, index in enumerate(graph.inputs):
            users = [op for op in left if index in op.inputs]
            if (
                graph.tensors[index].dtype == "float32"
                and index not in graph.outputs
                and [op.kind for op in users] in (["QUANTIZE"], ["CAST"])
            ):
                self.inputs[place] = users[0].outputs[0]
                left.remove(users[0])
        for place, index in enumerate(graph.outputs):
            makers = [op for op in left if index in op.outputs]
            used = any(index in op.inputs for op in left)
            if (
                graph.tensors[index].dtype == "float32"
                and not used
                and [op.kind for op in makers] == ["DEQUANTIZE"]
            ):
                self.outputs[place] = makers[0].inputs[0]
                left.remove(makers[0])
        return left

    # --- tensors -----------------------------------------------------------------------------

    def quantisation(self, tensor: Tensor) -> tuple[np.float32, int]:
        """Scale and zero point of an activation; uint8 is int8 with a zero point 128 less."""
        if tensor.dtype not in ("int8", "uint8") or len(tensor.scale) != 1:
            raise FileError(
                f"activation {tensor.name!r} must be int8 with one scale and one zero point. "
                f"Received: {tensor.dtype}, {len(tensor.scale)} scales. {_advice(tensor)}"
            )
        zero_point = int(tensor.zero_point[0]) - (128 if tensor.dtype == "uint8" else 0)
        if not -128 <= zero_point <= 127 or not tensor.scale[0] > 0:
            raise FileError(f"activation {tensor.name!r} has a scale or zero point out of range.")
        return tensor.scale[0], zero_point

    def define(self, index: int) -> Layout:
        """The layout of a tensor that is computed."""
        if index in self.layouts:
            return self.layouts[index]
        tensor = self.graph.tensors[index]
        if 0 in tensor.shape:
            raise FileError(f"activation {tensor.name!r} is empty: shape {tensor.shape}.")
        rows, columns, channels = walks.dimensions(tensor.shape)
        if max(rows, columns, channels) > MOST_SIZE:
            raise FileError(
                f"activation {tensor.name!r} must be {ACTIVATIONS}. Received: {tensor.shape}."
            )
        layout = Layout(channels, rows, columns, self.quantisation(tensor)[1])
        self.layouts[index] = layout
        return layout

    def activation(self, op: Operator, position: int) -> int:
        """The tensor at an input; a constant is copied from flash."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        if index >= 0 and index not in self.layouts and self.graph.tensors[index].data is not None:
            add_constant(self, index)
        if index not in self.layouts:
            raise FileError(
                f"input {position} of {op.kind} must be an activation computed before it. "
                f"Received: tensor {index}."
            )
        return index

    def weights(self, op: Operator, position: int) -> Tensor:
        """An int8 constant."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        if index >= 0 and self.graph.tensors[index].dtype == "uint8":
            raise FileError(
                f"weights of {op.kind} must be int8. Received: uint8, which TensorFlow 1 wrote. "
                "Convert the model with TensorFlow 2."
            )
        self.constant(op, position, "int8")
        return self.graph.tensors[op.inputs[position]]

    def constant(self, op: Operator, position: int, dtype: str = "int32") -> npt.NDArray:
        """The values of a constant input; int64 where int32 is asked for and the file has it."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        tensor = self.graph.tensors[index] if index >= 0 else None
        fits = tensor is not None and tensor.dtype in (dtype, "int64" if dtype == "int32" else "")
        if tensor is None or tensor.data is None or not fits:
            raise FileError(f"input {position} of {op.kind} must be a constant of type {dtype}.")
        return tensor.data

    def output_range(self, op: Operator, out: Tensor) -> tuple[int, int]:
        """Least and greatest output, with a fused activation."""
        scale, zero_point = self.quantisation(out)
        try:
            return activation_range(op.options.get("activation", "none"), scale, zero_point)
        except ValueError as error:
            raise FileError(str(error)) from error

    def clamp(self, op: Operator, out: Tensor) -> str:
        """A C initialiser of ec2t_mcu_clamp."""
        low, high = self.output_range(op, out)
        return clamp_of(self.quantisation(out)[1], low, high)

    def add_tensor(self, name: str, shape: tuple[int, ...], *, like: int) -> int:
        """A tensor that is not in the file, with the quantisation of another. Returns its index."""
        new = replace(self.graph.tensors[like], name=name, shape=shape, data=None)
        self.graph.tensors.append(new)
        return len(self.graph.tensors) - 1

    def plain(self, index: int) -> int:
        """A tensor whose elements lie as its shape says: itself, or what a step makes of it where
        it lies as it did before it was flattened."""
        layout, shape = self.layouts[index], self.graph.tensors[index].shape
        own = (layout.height, layout.width, layout.channels)
        if own == walks.dimensions(shape):
            return index
        if index not in self._plain_tensors:
            target = self.add_tensor("flattened", shape, like=index)
            rearrange(self, "flatten", index, target, own)
            self._plain_tensors[index] = target
        return self._plain_tensors[index]

    def stored(self, values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
        """Constant activations as the core stores them."""
        flip = FLIP if self.core.family == "swar" else 0
        if values.dtype == np.uint8:
            flip ^= 0x80
        return np.ascontiguousarray(values).view(np.uint8) ^ np.uint8(flip)

    @staticmethod
    def frame(code: Code, out: Layout, names: Names) -> None:
        """After a kernel that leaves the border alone."""
        if not out.contiguous:
            code.declarations.append(f"static const ec2t_mcu_planar out_{names.index} = {out.c()};")
            code.statements.append(f"ec2t_mcu_frame(&out_{names.index}, {names.output});")
            code.flash += 16

    def _lower(self, number: int, op: Operator) -> None:
        internal = INTERNAL.get(op.kind) if op.custom is None else None
        if internal is not None:
            internal(self, op)
            return
        if op.kind not in OPERATORS:
            layer = self.graph.tensors[op.outputs[0]].name if op.outputs else ""
            raise FileError(
                f"operator {op.kind} (number {number}) is not supported by the C exporter. It "
                f"makes {layer!r}: build that layer of others. Supported: "
                f"{', '.join(supported())}."
            )
        several = op.kind in (*SEVERAL_OUTPUTS, *NO_OUTPUTS)
        if len(op.outputs) != 1 and not several:
            raise FileError(f"operator {op.kind} must have one output. Received: {op.outputs}.")
        OPERATORS[op.kind](self, op)

    # --- layouts -----------------------------------------------------------------------------

    def holder(self, layout: Layout) -> Layout:
        """The layout that a part is rows of; any other one itself."""
        return self.parts[id(layout)][0] if id(layout) in self.parts else layout

    def last_use(self, layout: Layout) -> int:
        """Number of the last step that reads a layout, or rows of it; the step count for outputs
        and states."""
        layout = self.holder(layout)
        kept = [self.layouts[index] for index in self.outputs]
        kept += [state.layout for state in self.states.values()]
        if any(one is layout for one in kept):
            return len(self.steps)
        return self._last_reads.get(id(layout), -1)

    def _settle(self) -> None:
        """Makes layouts that share memory or a row length agree; then adds the tiles' slack."""
        self._last_reads = {
            id(self.holder(self.layouts[t])): i
            for i, step in enumerate(self.steps)
            for t in step.inputs
        }
        self.shares: list[tuple[Layout, Layout]] = []
        taken: set[int] = set()
        for number, step in enumerate(self.steps):
            out = self.layouts[step.output]
            if not step.in_place:
                continue
            for tensor in step.inputs:
                layout = self.layouts[tensor]
                alone = id(layout) not in taken and id(layout) not in self.parts
                if alone and self.last_use(layout) == number:
                    self.shares.append((layout, out))
                    taken.add(id(layout))
                    break
        for _ in range(len(self.steps) + 1):
            before = [layout.border for layout in self.layouts.values()]
            for a, b in self.shares:
                for name in ("pitch", "top", "left", "around"):
                    value = max(getattr(a, name), getattr(b, name))
                    setattr(a, name, value)
                    setattr(b, name, value)
            self._settle_rows()
            for step in self.steps:
                if not step.flat:
                    continue
                a, b = self.layouts[step.inputs[0]], self.layouts[step.output]
                if self._flat_pays(a, b):
                    a.pitch = b.pitch = max(a.pitch, b.pitch)
            if before == [layout.border for layout in self.layouts.values()]:
                break
        for step in self.steps:
            out = self.layouts[step.output]
            out.slack = max(out.slack, step.extent() - out.plane)
        for a, b in reversed(self.shares):
            a.slack = b.slack = max(a.slack, b.slack)

    def _settle_rows(self) -> None:
        """The same of layouts that are rows of another one, or like others."""
        groups = [([new, window], row) for new, window, row in self.filled]
        for group, row in [*groups, *((group, 0) for group in self.alike)]:
            pitch, left = (max(getattr(x, name) for x in group) for name in ("pitch", "left"))
            height = max(x.height + x.around for x in group)
            for layout in group:
                layout.pitch, layout.left = pitch, left
                layout.around = height - layout.height
            if row:
                group[1].top = max(group[1].top, group[0].top - row)
        for part, source, _ in self.rows_of_others():
            source.pitch = part.pitch = max(source.pitch, part.pitch)
            source.left = part.left = max(source.left, part.left)
            part.around = source.height + source.around - part.height

    def rows_of_others(self) -> list[tuple[Layout, Layout, int]]:
        """Parts, what they are rows of, and the first row."""
        distinct = {id(x): x for x in self.layouts.values()}
        return [(distinct[key], *found) for key, found in self.parts.items()]

    def _flat_pays(self, a: Layout, b: Layout) -> bool:
        g = self.core.group
        pitch = max(a.pitch, b.pitch)
        groups = -(-b.width // g)
        plain = b.height * -(-groups // 4) if groups > 2 else -(-b.height // (4 // groups))
        return -(-((b.height - 1) * pitch + b.width) // (4 * g)) < plain


def _advice(tensor: Tensor) -> str:
    """What to do about an activation that is no int8."""
    if tensor.dtype != "int16":
        return "Convert the model to full int8 (representative dataset, int8 operators only)."
    return (
        "C has int16 inside layer, group, RMS and unit normalisations, as `to_tflite` writes them, "
        "and nowhere else. Convert a model that was converted for 16x8 for int8 activations; let "
        "`to_tflite` write one that has normalisations, or run the file with LiteRT or "
        "tflite-micro."
    )
