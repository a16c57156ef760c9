"""GRU, SimpleRNN and an LSTM of basic operators, step by step, as in `quantisation.stepped`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ec2t_tf.quantisation.stepped import limits_of

from ..calls import Call
from ..net import Net
from ..pending import Kernel, Pending, Value, quantisation, rule
from .activations import FUNCTIONS, SIGNED, UNIT, table
from .kernels import dense
from .movement import concatenated, sliced
from .ranges import array
from .recurrent import in_order, one_step

Scale = tuple[float, int]


class _Stepped:
    """x = W input + b for all steps at once, s = U h + c in each.

    Attributes:
      rows: how many sequences there are: 1, but where a TimeDistributed makes them of one.
      order: places of the layer's gates, as the loop has them.
    """

    order: tuple[int, ...]

    def __init__(self, net: Net, call: Call, given: Value) -> None:
        self.net, self.name, self.trained = net, call.key, call.operation
        self.layer = self.trained.layer
        self.units = self.layer.units
        index = in_order(net, call, given)
        biases = self.biases(array(self.trained.bias))
        self.rows, self.steps = net.tensor(index).shape[:2]
        shape = (self.rows, self.steps, len(self.order) * self.units)
        kernel = self._kernel(self.trained.kernel, biases[0])
        self.inputs = self.ranged("inputs", dense(net, f"{self.name}/inputs", index, kernel, shape))
        self.recurrent = self._kernel(self.trained.recurrent, biases[1])
        self._inputs: dict[int, int] = {}

    def biases(self, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """b and c."""
        return bias, np.zeros_like(bias)

    def _kernel(self, part: Any, bias: np.ndarray) -> Kernel:
        codes, scale = part.codes_and_scale()
        columns = np.arange(codes.shape[1]).reshape(-1, self.units)[list(self.order)].reshape(-1)
        scales = np.full(columns.size, float(scale))
        return Kernel(codes.T[columns], scales, bias[columns].astype(np.float32))

    def output(self) -> int:
        net, outputs = self.net, []
        state = self.start()
        for number in range(self.steps):
            name = f"{self.name}/{number}"
            x = self.input(number)
            size = (self.rows, self.recurrent.bias.size)
            states = dense(net, f"{name}/states", state[0], self.recurrent, size)
            state = self.step(x, self.ranged("states", states, name), state, name)
            outputs.append(state[0])
        if not self.layer.return_sequences:
            return state[0]
        rows = [net.reshaped(one, (self.rows, 1, self.units)) for one in outputs]
        return net.settled(concatenated(net, rows, 1, f"{self.name}/sequence"))

    def start(self) -> tuple[int, ...]:
        """The state before the first step: the hidden one first."""
        return (self.zeros("hidden", self.scale("hidden")),)

    def step(self, x: int, s: int, state: tuple[int, ...], name: str) -> tuple[int, ...]:
        raise NotImplementedError

    def input(self, number: int) -> int:
        """x of a step."""
        if number not in self._inputs:
            name = f"{self.name}/{number}/input"
            self._inputs[number] = one_step(self.net, self.inputs, number, name)
        return self._inputs[number]

    def zeros(self, value: str, scale: Scale) -> int:
        """(rows, units), which no operator of all runtimes makes: a value less itself."""
        one = self.part(self.input(0), 0, 1)
        made = self.pending("SUB", f"{self.name}/start/{value}", one, one)
        return self.net.with_range(made, *scale, made.name)

    def scale(self, value: str) -> Scale:
        return quantisation(*self.trained.limits(value))

    def part(self, index: int, first: int, end: int) -> int:
        """Gates of (rows, gates * units)."""
        begin, stop = first * self.units, end * self.units
        if self.net.tensor(index).shape[1] == stop - begin:
            return index
        name = f"{self.net.tensor(index).name}/part_{first}"
        return sliced(self.net, index, [0, begin], [self.rows, stop], name)

    def ranged(self, value: str, pending: Pending, name: str = "") -> int:
        return self.net.with_range(pending, *self.scale(value), name)

    def pending(self, kind: str, name: str, a: int, b: int) -> Pending:
        return Pending(name, kind, (a, b), self.net.tensor(a).shape, {"activation": "none"})

    def two(self, kind: str, value: str, a: int, b: int, name: str) -> int:
        return self.ranged(value, self.pending(kind, f"{name}/{value}", a, b))

    def activated(self, function: Callable, value: str, a: int, b: int, name: str) -> int:
        """An activation of a + b."""
        if function is keras.activations.relu:
            total = self.pending("ADD", f"{name}/{value}", a, b)
            return self.ranged(value, total.with_limits(0.0, None))
        return self.of(function, self.two("ADD", value, a, b, name), f"{name}/{value}")

    def of(self, function: Callable, index: int, name: str) -> int:
        """An activation; in the argument's range where it has none of its own."""
        if function is keras.activations.linear:
            return index
        tensor, limits = self.net.tensor(index), limits_of(function)
        scale = (float(tensor.scale[0]), int(tensor.zero_point[0]))
        if limits is not None:
            scale = SIGNED if limits[0] < 0 else UNIT
        name = f"{name}/{function.__name__}"
        write = FUNCTIONS.get(function)
        made = (
            table(self.net, name, index, function)
            if write is None
            else write(self.net, name, index)
        )
        return self.net.with_range(made, *scale, name)


class _GRU(_Stepped):
    """g = activation(x + r s), h' = g + z (h - g), with gates z, r of x + s."""

    order = (0, 1, 2)

    def biases(self, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return bias[0], bias[1]

    def step(self, x: int, s: int, state: tuple[int, ...], name: str) -> tuple[int, ...]:
        (h,), layer = state, self.layer
        gates = (self.part(x, 0, 2), self.part(s, 0, 2))
        both = self.activated(layer.recurrent_activation, "gates", *gates, name)
        z, r = self.part(both, 0, 1), self.part(both, 1, 2)
        reset = self.two("MUL", "reset", r, self.part(s, 2, 3), name)
        g = self.activated(layer.activation, "candidate", self.part(x, 2, 3), reset, name)
        difference = self.two("SUB", "difference", h, g, name)
        update = self.two("MUL", "update", z, difference, name)
        return (self.two("ADD", "hidden", g, update, name),)


class _SimpleRNN(_Stepped):
    """h' = activation(x + s)."""

    order = (0,)

    def start(self) -> tuple[int, ...]:
        limits = limits_of(self.layer.activation)
        if limits is None:
            return super().start()
        return (self.zeros("hidden", SIGNED if limits[0] < 0 else UNIT),)

    def step(self, x: int, s: int, state: tuple[int, ...], name: str) -> tuple[int, ...]:
        return (self.activated(self.layer.activation, "hidden", x, s, name),)


class _LSTM(_Stepped):
    """c' = f c + i g, h' = o activation(c'), with gates i, f, o and g of x + s."""

    order = (0, 1, 3, 2)  # i, f, o, g

    def start(self) -> tuple[int, ...]:
        return *super().start(), self.zeros("cell", self.scale("cell"))

    def step(self, x: int, s: int, state: tuple[int, ...], name: str) -> tuple[int, ...]:
        layer = self.layer
        gates = (self.part(x, 0, 3), self.part(s, 0, 3))
        all_gates = self.activated(layer.recurrent_activation, "gates", *gates, name)
        i, f, o = (self.part(all_gates, n, n + 1) for n in range(3))
        last = (self.part(x, 3, 4), self.part(s, 3, 4))
        g = self.activated(layer.activation, "candidate", *last, name)
        kept = self.two("MUL", "kept", f, state[1], name)
        update = self.two("MUL", "update", i, g, name)
        c = self.two("ADD", "cell", kept, update, name)
        out = self.of(layer.activation, c, f"{name}/cell")
        return self.two("MUL", "hidden", o, out, name), c


def _register(kind: str, steps: type[_Stepped]) -> None:
    def written(net: Net, call: Call, given: Value, *_: Any) -> Value:
        return steps(net, call, given).output()

    rule(kind)(written)


for _kind, _steps in (("QuantisedGRU", _GRU), ("QuantisedSimpleRNN", _SimpleRNN)):
    _register(_kind, _steps)
_register("SteppedLSTM", _LSTM)
