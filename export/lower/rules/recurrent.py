"""The integer LSTM of TensorFlow Lite. Loops of basic operators are in `stepped`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Value, quantisation, rule
from .movement import gathered, sliced
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
    trained, index = call.operation, in_order(net, call, given)
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
    return one_step(net, made, net.tensor(made).shape[1] - 1, f"{call.key}/last")


def in_order(net: Net, call: Call, given: Value) -> int:
    """The steps in the order in which they run."""
    index = net.settled(given)
    if not net.is_int8(index):
        raise NoRuleError(f"'{call.name}' has int8 operators only.")
    if not call.operation.layer.go_backwards:
        return index
    order = list(reversed(range(net.tensor(index).shape[1])))
    return gathered(net, index, order, 1, f"{call.key}/backwards")


def one_step(net: Net, index: int, number: int, name: str) -> int:
    """One step of each sequence: (rows, units)."""
    rows, _, units = net.tensor(index).shape
    one = sliced(net, index, [0, number, 0], [rows, number + 1, units], name)
    return net.reshaped(one, (rows, units))


def _gates(part: Any) -> list[tuple[np.ndarray, float]]:
    """Codes (units, inputs) and scale of each gate's matrix."""
    codes, scale = part.codes_and_scale()
    return [(gate.T, float(scale)) for gate in np.split(codes, len(GATES), axis=1)]


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
      int8 (rows, steps, units).
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
    rows = entry.shape[0]
    inputs[_HIDDEN] = graph.add(
        f"{name}/hidden",
        (rows, units),
        "int8",
        scale=scale,
        zero_point=zero,
        variable=True,
    )
    inputs[_CELL] = graph.add(
        f"{name}/cell",
        (rows, units),
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
    made = net.int8(f"{name}/sequence", (*entry.shape[:2], units), scale, zero)
    graph.call("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, made, activation="tanh", cell_clip=0.0)
    graph.operators[-1].intermediates = tuple(inner)
    return made
