"""Recurrent layers: the integer LSTM of TensorFlow Lite, a GRU of basic operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import Kernel, NoRuleError, Pending, Value, quantisation, rule
from .activations import SIGNED, UNIT, operator
from .kernels import dense
from .movement import concatenated, gathered, sliced
from .ranges import array

GATES = "ifgo"  # of the operator and of Keras, in this order
GATE_SCALE = 2.0**-12
_INPUT, _KERNEL, _RECURRENT, _BIAS, _HIDDEN, _CELL, _INPUTS = 0, 1, 5, 12, 18, 19, 24


@rule("CellState")
def _cell_state(net: Net, call: Call, *_: Any) -> Value:
    raise NoRuleError(
        f"'{call.name}' is what an LSTM carries from step to step beside its output, which no "
        "operator of a file gives. Use the first of its states, which is its output, or a GRU."
    )


@rule("QuantisedLSTM")
def _lstm(net: Net, call: Call, given: Value, *_: Any) -> Value:
    trained, index = call.operation, _sequence(net, call, given)
    made = sequence_lstm(
        net,
        call.key,
        index,
        _gates(trained.kernel),
        _gates(trained.recurrent),
        np.split(array(trained.bias), len(GATES)),
        quantisation(*trained.limits("hidden")),
        trained.cell_bits(),
    )
    if trained.layer.return_sequences:
        return made
    return _step(net, made, net.tensor(made).shape[1] - 1, f"{call.key}/last")


def _sequence(net: Net, call: Call, given: Value) -> int:
    """The steps in the order in which they run."""
    index = net.settled(given)
    if not net.is_int8(index):
        raise NoRuleError(f"'{call.name}' has int8 operators only.")
    if not call.operation.layer.go_backwards:
        return index
    order = list(reversed(range(net.tensor(index).shape[1])))
    return gathered(net, index, order, 1, f"{call.key}/backwards")


def _step(net: Net, index: int, number: int, name: str) -> int:
    """One step of a sequence: (1, units)."""
    _, _, units = net.tensor(index).shape
    one = sliced(net, index, [0, number, 0], [1, number + 1, units], name)
    return net.reshaped(one, (1, units))


def _gates(part: Any) -> list[tuple[np.ndarray, float]]:
    """Codes (units, inputs) and scale of each gate's matrix."""
    codes, scale = part.codes_and_scale()
    return [(gate.T, float(scale)) for gate in np.split(codes, len(GATES), axis=1)]


@rule("QuantisedGRU")
def _gru(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return _Unrolled(net, call, _sequence(net, call, given)).output()


class _Unrolled:
    """A GRU step by step: g = tanh(x + r s), h' = g + z (h - g), with gates z, r = sigmoid(x + s),
    where x = W input + b for all steps at once, and s = U h + c."""

    def __init__(self, net: Net, call: Call, index: int) -> None:
        self.net, self.name, self.trained = net, call.key, call.operation
        self.units = self.trained.layer.units
        bias = array(self.trained.bias)
        self.steps = net.tensor(index).shape[1]
        shape = (1, self.steps, 3 * self.units)
        kernel = _kernel(self.trained.kernel, bias[0])
        self.inputs = self.ranged("inputs", dense(net, f"{self.name}/inputs", index, kernel, shape))
        self.recurrent = _kernel(self.trained.recurrent, bias[1])

    def output(self) -> int:
        net, h, outputs = self.net, None, []
        for number in range(self.steps):
            h = self.step(number, h)
            outputs.append(h)
        assert h is not None
        if not self.trained.layer.return_sequences:
            return h
        rows = [net.reshaped(one, (1, 1, self.units)) for one in outputs]
        return net.settled(concatenated(net, rows, 1, f"{self.name}/sequence"))

    def step(self, number: int, h: int | None) -> int:
        net, name, units = self.net, f"{self.name}/{number}", self.units
        x = _step(net, self.inputs, number, f"{name}/input")
        if h is None:
            something = self.part(x, 0, 1)
            h = self.two("SUB", "hidden", something, something, f"{name}/start")  # zeros
        states = dense(net, f"{name}/states", h, self.recurrent, (1, 3 * units))
        s = self.ranged("states", states, name)
        gates = self.two("ADD", "gates", self.part(x, 0, 2), self.part(s, 0, 2), name)
        gates = self.prescribed("LOGISTIC", gates, UNIT, name)
        z, r = self.part(gates, 0, 1), self.part(gates, 1, 2)
        reset = self.two("MUL", "reset", r, self.part(s, 2, 3), name)
        candidate = self.two("ADD", "candidate", self.part(x, 2, 3), reset, name)
        g = self.prescribed("TANH", candidate, SIGNED, name)
        difference = self.two("SUB", "difference", h, g, name)
        update = self.two("MUL", "update", z, difference, name)
        return self.two("ADD", "hidden", g, update, name)

    def part(self, index: int, first: int, end: int) -> int:
        """Gates of (1, gates * units)."""
        begin, stop = first * self.units, end * self.units
        name = f"{self.net.tensor(index).name}/part_{first}"
        return sliced(self.net, index, [0, begin], [1, stop], name)

    def ranged(self, value: str, pending: Pending, name: str = "") -> int:
        return self.net.with_range(pending, *quantisation(*self.trained.limits(value)), name)

    def two(self, kind: str, value: str, a: int, b: int, name: str) -> int:
        shape = self.net.tensor(a).shape
        made = Pending(f"{name}/{value}", kind, (a, b), shape, {"activation": "none"})
        return self.ranged(value, made)

    def prescribed(self, kind: str, index: int, scale: tuple[float, int], name: str) -> int:
        made = operator(self.net, kind, f"{name}/{kind.lower()}", index, scale)
        return self.net.with_range(made, *scale, made.name)


def _kernel(part: Any, bias: np.ndarray) -> Kernel:
    codes, scale = part.codes_and_scale()
    return Kernel(codes.T, np.full(codes.shape[1], float(scale)), bias.astype(np.float32))


def sequence_lstm(
    net: Net,
    name: str,
    index: int,
    kernels: list[tuple[np.ndarray, float]],
    recurrents: list[tuple[np.ndarray, float]],
    biases: list[np.ndarray],
    hidden: tuple[float, int],
    integer_bits: int,
) -> int:
    """UNIDIRECTIONAL_SEQUENCE_LSTM with its state and its intermediates.

    Args:
      kernels, recurrents: int8 codes (units, inputs) and scale of each gate, in the order
        i, f, g, o.
      biases: real numbers.
      hidden: scale and zero point of the hidden state.
      integer_bits: of the cell state, in 16 bits.

    Returns:
      int8 (1, steps, units).
    """
    graph, entry, units = net.graph, net.tensor(index), len(biases[0])
    s_in = float(entry.scale[0])
    inputs = [-1] * _INPUTS  # tflite-micro wants all of them
    inputs[_INPUT] = index
    for i, gate in enumerate(GATES):
        for place, kind, (codes, scale) in (
            (_KERNEL, "kernel", kernels[i]),
            (_RECURRENT, "recurrent", recurrents[i]),
        ):
            inputs[place + i] = graph.add(
                f"{name}/{kind}_{gate}",
                codes.shape,
                "int8",
                scale=scale,
                zero_point=0,
                data=np.ascontiguousarray(codes, np.int8),
            )
        step = s_in * kernels[i][1]
        codes = np.floor(np.abs(biases[i]) / step + 0.5) * np.sign(biases[i])
        inputs[_BIAS + i] = graph.add(
            f"{name}/bias_{gate}",
            (units,),
            "int32",
            scale=step,
            zero_point=0,
            data=codes.astype(np.int32),
        )
    scale, zero = hidden
    inputs[_HIDDEN] = graph.add(
        f"{name}/hidden", (1, units), "int8", scale=scale, zero_point=zero, variable=True
    )
    inputs[_CELL] = graph.add(
        f"{name}/cell",
        (1, units),
        "int16",
        scale=2.0 ** (integer_bits - 15),
        zero_point=0,
        variable=True,
    )
    # Read only with layer normalisation; tflite-micro wants them empty.
    inner = [
        graph.add(f"{name}/gate_{gate}", (0,), "int16", scale=GATE_SCALE, zero_point=0)
        for gate in GATES
    ]
    inner.append(graph.add(f"{name}/inner", (0,), "int8", scale=scale, zero_point=zero))
    made = net.int8(f"{name}/sequence", (1, entry.shape[1], units), scale, zero)
    graph.call("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, made, activation="tanh", cell_clip=0.0)
    graph.operators[-1].intermediates = tuple(inner)
    return made
