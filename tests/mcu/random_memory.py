"""The part of random graphs that remembers, and that takes whole numbers: variables, SVDF, LSTM,
embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tests.mcu.random_movements import LARGEST, Movements

_CODE = 70.0  # the spread of int8 codes, about


class Memory(Movements):
    """Draws of operators with a state, or with an input of their own."""

    more_inputs: list[int]  # those after the first
    first_values: list[tuple[str, float, int, npt.NDArray[np.int8]]]  # how variables begin

    def embedding(self, _: int) -> int | None:
        """Rows of a table that another input names."""
        if self.more_inputs and self.flip(0.8):
            words = self.more_inputs[-1]
        elif len(self.more_inputs) < 2:
            words = self.net.tensor((1, self.number(1, 8)), None)
            self.net.graph.tensors[words].type = schema.TensorType.INT32
            self.more_inputs.append(words)
        else:
            return None
        rows, width = self.number(2, 300), self.number(1, 12)
        data = self.random.integers(-128, 128, (rows, width)).astype(np.int8)
        numbers = float(self.random.uniform(0.005, 0.05)), self.number(-128, 127)
        table = self.net.tensor((rows, width), *numbers, data)
        out = self.net.tensor((*self.net.shape(words), width), *numbers)
        return self.net.operator("GATHER", [table, words], out, schema.GatherOptionsT())

    def variable(self, x: int) -> int | None:
        """Rows that are kept, `x` behind them, of which the last are kept for the next call."""
        shape = self.net.shape(x)
        if len(shape) not in (3, 4) or shape[0] != 1 or np.prod(shape) > LARGEST // 3:
            return None
        name = f"rows{len(self.net.graph.operators)}"
        rows = self.number(1, 2 * shape[1])
        kept = self.net.like(x, (1, rows, *shape[2:]))
        handle = self.net.variable(name)
        self.net.operator("READ_VARIABLE", [handle], kept, schema.ReadVariableOptionsT())
        both = self.net.concatenate([kept, x], 1)
        begin = [0, shape[1], *(0 for _ in shape[2:])]
        sizes = self.net.shape(kept)
        new = self.net.operator(
            "SLICE",
            [both, self.net.constant(begin), self.net.constant(sizes)],
            self.net.like(x, sizes),
            schema.SliceOptionsT(),
        )
        self.net.without_output("ASSIGN_VARIABLE", [handle, new], schema.AssignVariableOptionsT())
        scale, zero_point = self.net.quantisation(x)
        data = self.random.integers(-128, 128, sizes).astype(np.int8)
        if self.flip():
            data = np.full_like(data, zero_point)
        self.first_values.append((name, scale, zero_point, data))  # LiteRT insists on one
        return both

    def begin(self) -> None:
        """Appends the subgraph that gives variables their first values, and calls it."""
        if not self.first_values:
            return
        net, whole, inner = self.net, self.net.graph, schema.SubGraphT()
        inner.tensors, inner.operators, inner.inputs, inner.outputs = [], [], [], []
        net.model.subgraphs.append(inner)
        net.graph = inner
        for name, scale, zero_point, data in self.first_values:
            given = [net.variable(name), net.tensor(data.shape, scale, zero_point, data)]
            net.without_output("ASSIGN_VARIABLE", given, schema.AssignVariableOptionsT())
        net.graph = whole
        options = schema.CallOnceOptionsT()
        options.initSubgraphIndex = 1
        net.without_output("CALL_ONCE", [], options)
        whole.operators.insert(0, whole.operators.pop())

    def _row(self, x: int, most: int) -> int | None:
        size = int(np.prod(self.net.shape(x)))
        return self.net.reshape(x, (1, size)) if size <= most else None

    def _weights(self, shape: tuple[int, ...], scale: float, dtype: str = "int8") -> int:
        most = np.iinfo(dtype).max
        data = self.random.integers(-most, most + 1, shape).astype(dtype)
        return self.net.tensor(shape, scale, 0, data)

    def _state(self, shape: tuple[int, ...], dtype: str, scale: float, zero_point: int = 0) -> int:
        index = self.net.tensor(shape, scale, zero_point)
        tensor = self.net.graph.tensors[index]
        tensor.type, tensor.isVariable = getattr(schema.TensorType, dtype), True
        return index

    def svdf(self, x: int) -> int | None:
        row = self._row(x, 200)
        if row is None:
            return None
        width, units = self.net.shape(row)[1], self.number(1, 9)
        rank, steps = self.number(1, 3), self.number(1, 9)
        features = self._weights((units * rank, width), 2.0**-7)
        times = self._weights((units * rank, steps), 2.0**-15, "int16")
        state_scale = self.net.quantisation(row)[0] * 2.0**-7 * width**0.5 / 4
        unit = state_scale * 2.0**-15
        bias = self.random.integers(-100000, 100000, units).astype(np.int32)
        state = self._state((1, units * rank * steps), "INT16", state_scale)
        options = schema.SVDFOptionsT()
        options.rank = rank
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU  # LiteRT wants it
        out = self.net.tensor((1, units), unit * 2.0**21 * steps**0.5, self.number(-30, 30))
        given = [row, features, times, self.net.tensor((units,), unit, 0, bias), state]
        return self.net.operator("SVDF", given, out, options)

    def lstm(self, x: int) -> int | None:
        size = int(np.prod(self.net.shape(x)))
        steps = self.divisor(size)
        width, units = size // steps, self.number(1, 9)
        if width > 60:
            return None
        x = self.net.reshape(x, (1, steps, width))
        scale_in = self.net.quantisation(x)[0]
        hidden = 2.0 ** float(self.random.uniform(-9, -7)), self.number(-30, 30)
        inputs = [-1] * 24
        inputs[0] = x
        for gate in range(4):
            for place, count, scale in ((1, width, scale_in), (5, units, hidden[0])):
                scale_of = 1.5 / (_CODE**2 * count**0.5 * scale)
                inputs[place + gate] = self._weights((units, count), scale_of)
            unit = scale_in * self.net.quantisation(inputs[1 + gate])[0]
            bias = np.rint(self.random.normal(size=units) / unit).astype(np.int32)
            inputs[12 + gate] = self.net.tensor((units,), unit, 0, bias)
        inputs[18] = self._state((1, units), "INT8", *hidden)
        inputs[19] = self._state((1, units), "INT16", 2.0 ** (self.number(0, 5) - 15))
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        options.fusedActivationFunction = schema.ActivationFunctionType.TANH
        options.cellClip = float(self.random.choice([0.0, 1.0, 10.0]))
        out = self.net.tensor((1, steps, units), *hidden)
        self.net.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, out, options)
        inner = [self.net.tensor((0,), 2.0**-12) for _ in range(4)]
        for index in inner:
            self.net.graph.tensors[index].type = schema.TensorType.INT16
        self.net.graph.operators[-1].intermediates = [*inner, self.net.tensor((0,), *hidden)]
        return out
