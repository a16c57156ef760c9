"""The C interface of a generated net: functions, inputs and outputs, and how programs use them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import Graph

from .plan import Layout

if TYPE_CHECKING:
    from .lowering import Lowering


@dataclass(frozen=True)
class Calls:
    """Names of the net's functions: `name` and "invoke", or "step" of a net that streams.

    Attributes:
        stateful: Whether there is a `name`_reset, to be called first.
    """

    name: str
    verb: str
    stateful: bool

    @property
    def run(self) -> str:
        return f"{self.name}_{self.verb}"


@dataclass(frozen=True)
class End:
    """An input or output of the net as the C code has it.

    Attributes:
        words: Of an input of whole numbers, for an embedding: what they are below; else 0.
        place: Bytes from the arena's start to where it may lie, or None.
    """

    name: str  # "input", or "input_0" of several
    type_name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    layout: Layout
    pointer: str
    words: int = 0
    place: int | None = None

    @property
    def unsigned(self) -> str:
        """What the name of a conversion ends in."""
        return "_u8" if self.type_name == "uint8_t" else ""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * (4 if self.words else 1)

    def macro(self, upper: str) -> str:
        """What its constants begin with."""
        return f"{upper}_{self.name.upper()}"

    def parameter(self, upper: str, *, constant: bool) -> str:
        """In the C function's list."""
        return (
            f"{'const ' if constant else ''}{self.type_name} {self.name}"
            f"[{upper}_{self.name.upper()}_SIZE]"
        )


@dataclass(frozen=True)
class Ends:
    """All of them."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]

    @staticmethod
    def of(net: Lowering, original: Graph, pointer: Callable[[Layout], str]) -> Ends:
        """Those of a lowered net, with the shapes of the graph it was made of."""

        def ends(which: str, indices: Sequence[int]) -> tuple[End, ...]:
            found = []
            for place, index in enumerate(indices):
                tensor = net.graph.tensors[index]
                source = (original if index < len(original.tensors) else net.graph).tensors
                name = which if len(indices) == 1 else f"{which}_{place}"
                shape = source[index].shape
                if index in net.words:
                    none = Layout(1, 1, 1, 0)
                    found.append(
                        End(name, "int32_t", shape, 1, 0, none, "", net.words[index].below)
                    )
                    continue
                layout, kind = net.layouts[index], f"{tensor.dtype}_t"
                scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])
                found.append(End(name, kind, shape, scale, zero_point, layout, pointer(layout)))
            return tuple(found)

        return Ends(ends("input", net.inputs), ends("output", net.outputs))

    def signature(self, calls: Calls) -> str:
        """Of the function that runs the net."""
        upper = calls.name.upper()
        parameters = [end.parameter(upper, constant=True) for end in self.inputs]
        parameters += [end.parameter(upper, constant=False) for end in self.outputs]
        parameters.append(f"uint8_t arena[{upper}_ARENA_SIZE]")
        indent = ",\n" + " " * (len(calls.run) + 5)
        return f"int {calls.run}({indent.join(parameters)})"

    @property
    def moved(self) -> tuple[End, ...]:
        """Inputs and outputs that are copied from and to the arena."""
        return tuple(end for end in (*self.inputs, *self.outputs) if not end.words)


@dataclass(frozen=True)
class Interface:
    """Functions, inputs and outputs."""

    calls: Calls
    ends: Ends

    @property
    def buffers(self) -> list[str]:
        """C declarations of memory for them."""
        upper = self.calls.name.upper()
        return [
            f"static {end.type_name} {end.name}[{end.macro(upper)}_SIZE];"
            for end in (*self.ends.inputs, *self.ends.outputs)
        ]

    @property
    def arguments(self) -> str:
        return ", ".join(end.name for end in (*self.ends.inputs, *self.ends.outputs))

    @property
    def made_up(self) -> list[str]:
        """C statements that give the inputs some values."""
        upper, lines = self.calls.name.upper(), []
        for end in self.ends.inputs:
            value = "(int8_t)(int)(i * 37u % 256u - 128u)"
            if end.words:
                value = f"(int32_t)(i * 37u % {end.macro(upper)}_WORDS)"
            elif end.unsigned:
                value = "(uint8_t)(i * 37u)"
            lines += [
                f"for (uint32_t i = 0; i < {end.macro(upper)}_SIZE; ++i) {{",
                f"    {end.name}[i] = {value};",
                "}",
            ]
        return lines

    def fill(self, template: str) -> str:
        """A template with NAME, UPPER and RUN in it; lines of BUFFERS, MADE_UP and RESET alone
        stand for several or none; OUTPUT is the first output."""
        reset = [f"{self.calls.name}_reset(arena);"] if self.calls.stateful else []
        parts = {"BUFFERS": self.buffers, "MADE_UP": self.made_up, "RESET": reset}
        lines = []
        for line in template.split("\n"):
            some = parts.get(line.strip())
            indent = line[: len(line) - len(line.lstrip())]
            lines += [line] if some is None else [indent + one for one in some]
        first = self.ends.outputs[0]
        text = "\n".join(lines).replace("RUN(ALL", f"{self.calls.run}({self.arguments}")
        text = text.replace("OUTPUT_SIZE", f"{first.name.upper()}_SIZE")
        text = re.sub(r"\bOUTPUT\[", f"{first.name}[", text)
        name = self.calls.name
        return text.replace("NAME", name).replace("UPPER", name.upper())
