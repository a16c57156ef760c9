"""Nets with state, with several inputs and outputs, and with uint8 at their borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter as StockInterpreter

from ec2t_tf.export.graph import Graph, Operator
from ec2t_tf.export.litert import Interpreter
from ec2t_tf.export.tflite import write
from tests.integer import case_recurrent
from tests.tflite.fixtures import packed

UNITS = 8


def add_layer(graph: Graph, source: int, name: str) -> int:
    """A ternary fully connected layer. Returns its output."""
    rng = np.random.default_rng(len(graph.tensors))
    weights = rng.choice([0, 127, -90], p=[0.5, 0.25, 0.25], size=(UNITS, UNITS)).astype(np.int8)
    scale = np.full(UNITS, 0.01, np.float32)
    zeros = np.zeros(UNITS, np.int64)
    kernel = graph.add(
        f"{name}_w", weights.shape, "int8", scale=scale, zero_point=zeros, data=weights
    )
    output = graph.add(name, (1, UNITS), "int8", scale=0.1, zero_point=2)
    options = {"activation": "none", "weights_format": 0, "keep_num_dims": False}
    return graph.call("FULLY_CONNECTED", (source, kernel, -1), output, **options)


def streaming() -> Graph:
    """y = layer(x + the last y), and the state in a variable of the file."""
    graph = Graph()
    x = graph.add("x", (1, UNITS), "int8", scale=0.1, zero_point=2)
    handle = graph.add("handle", (), "resource")
    last = graph.add("last", (1, UNITS), "int8", scale=0.1, zero_point=2)
    total = graph.add("total", (1, UNITS), "int8", scale=0.1, zero_point=2)
    graph.operators = [
        Operator("CALL_ONCE", (), ()),
        Operator("VAR_HANDLE", (), (handle,), {"shared_name": "state"}),
        Operator("READ_VARIABLE", (handle,), (last,)),
        Operator("ADD", (x, last), (total,), {"activation": "none"}),
    ]
    y = add_layer(graph, total, "y")
    graph.operators.append(Operator("ASSIGN_VARIABLE", (handle, y), ()))
    graph.inputs, graph.outputs = (x,), (y,)
    start = graph.initial = Graph(name="start")
    start.add("handle", (), "resource")
    zeros = np.full((1, UNITS), 2, np.int8)
    start.add("zeros", zeros.shape, "int8", scale=0.1, zero_point=2, data=zeros)
    start.operators = [
        Operator("VAR_HANDLE", (), (0,), {"shared_name": "state"}),
        Operator("ASSIGN_VARIABLE", (0, 1), ()),
    ]
    return graph


def recurrent() -> tuple[Graph, npt.NDArray[np.int8]]:
    """An LSTM, and inputs [step, ...] for it."""
    drawn = case_recurrent.lstm(np.random.default_rng(3))
    (source,) = drawn.inputs
    shape = (3, *drawn.tensors[source].shape)
    return drawn, np.random.default_rng(4).integers(-128, 128, shape).astype(np.int8)


def outputs(interpreter: StockInterpreter, steps: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    results = []
    for step in steps:
        interpreter.set_tensor(source["index"], step)
        interpreter.invoke()
        results.append(interpreter.get_tensor(target["index"]))
    return np.stack(results)


def started(content: bytes, **options: object) -> Interpreter:
    interpreter = Interpreter(model_content=content, **options)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("file_format", ["int8", "packed"])
def test_streaming_state_survives_invoke_until_it_is_reset(file_format):
    """Stock's reset leaves it; ours starts anew, and again."""
    int8 = write(streaming())
    steps = np.random.default_rng(1).integers(-40, 40, (6, 1, UNITS)).astype(np.int8)
    stock = StockInterpreter(model_content=int8)
    stock.allocate_tensors()
    expected = outputs(stock, steps)
    assert not np.array_equal(outputs(stock, steps), expected)
    ours = started(packed(int8) if file_format == "packed" else int8, claim_int8="always")
    for _ in range(3):
        np.testing.assert_array_equal(outputs(ours, steps), expected)
        ours.reset_all_variables()
        (source,) = ours.get_input_details()
        np.testing.assert_array_equal(ours.get_tensor(source["index"]), steps[-1])


def test_a_reset_before_tensors_are_allocated():
    interpreter = Interpreter(model_content=write(streaming()))
    interpreter.reset_all_variables()
    interpreter.allocate_tensors()
    assert outputs(interpreter, np.zeros((1, 1, UNITS), np.int8)).shape == (1, 1, UNITS)


def test_lstm_state_is_reset():
    graph, inputs = recurrent()
    content = write(graph)
    ours, stock = started(content, claim_int8="always"), StockInterpreter(model_content=content)
    stock.allocate_tensors()
    expected = outputs(stock, inputs[:1])
    for interpreter in (ours, stock):
        outputs(interpreter, inputs)
        assert not np.array_equal(outputs(interpreter, inputs[:1]), expected)
        interpreter.reset_all_variables()
        np.testing.assert_array_equal(outputs(interpreter, inputs[:1]), expected)


def several_ends() -> Graph:
    """Inputs b, a (uint8); outputs: a layer of b, a sum of both layers (uint8)."""
    graph = Graph()
    a = graph.add("a", (1, UNITS), "uint8", scale=0.1, zero_point=130)
    b = graph.add("b", (1, UNITS), "int8", scale=0.1, zero_point=2)
    inner = graph.add("inner", (1, UNITS), "int8", scale=0.1, zero_point=2)
    graph.call("QUANTIZE", (a,), inner)
    left, right = add_layer(graph, inner, "left"), add_layer(graph, b, "right")
    total = graph.add("total", (1, UNITS), "int8", scale=0.2, zero_point=0)
    graph.call("ADD", (left, right), total, activation="relu")
    out = graph.add("out", (1, UNITS), "uint8", scale=0.2, zero_point=128)
    graph.call("QUANTIZE", (total,), out)
    graph.inputs, graph.outputs = (b, a), (right, out)
    return graph


@pytest.mark.parametrize("file_format", ["int8", "packed"])
def test_several_inputs_and_outputs_and_uint8(file_format, rng):
    int8 = write(several_ends())
    ours = started(packed(int8) if file_format == "packed" else int8, claim_int8="always")
    stock = StockInterpreter(model_content=int8)
    stock.allocate_tensors()
    for _ in range(10):
        values = [
            rng.integers(-128, 128, (1, UNITS), dtype=np.int8),
            rng.integers(0, 256, (1, UNITS), dtype=np.uint8),
        ]
        results = []
        for interpreter in (ours, stock):
            for detail, value in zip(interpreter.get_input_details(), values, strict=True):
                interpreter.set_tensor(detail["index"], value)
            interpreter.invoke()
            ends = interpreter.get_output_details()
            assert [end["dtype"] for end in ends] == [np.int8, np.uint8]
            results.append([interpreter.get_tensor(end["index"]) for end in ends])
        np.testing.assert_array_equal(*results)


def test_wrong_use_is_an_error():
    interpreter = Interpreter(model_content=write(several_ends()), claim_int8="always")
    with pytest.raises((RuntimeError, ValueError), match=r"[Ii]nvoke|allocate"):
        interpreter.invoke()
    interpreter.allocate_tensors()
    interpreter.allocate_tensors()
    (b, _) = interpreter.get_input_details()
    with pytest.raises(ValueError, match=r"FLOAT32 but expected type INT8"):
        interpreter.set_tensor(b["index"], np.zeros((1, UNITS), np.float32))
    with pytest.raises(ValueError, match="Dimension mismatch"):
        interpreter.set_tensor(b["index"], np.zeros((2, UNITS), np.int8))
    with pytest.raises(ValueError, match="options of the EC2T delegate"):
        Interpreter(model_content=write(several_ends()), claim_int8="sometimes")


def test_resized_inputs_that_do_not_fit():
    """Another batch runs; other channels are an error, and the interpreter goes on after it."""
    int8 = write(several_ends())
    interpreter = Interpreter(model_content=packed(int8), claim_int8="always")
    b, a = (detail["index"] for detail in interpreter.get_input_details())
    for shape, fits in (((3, UNITS), True), ((1, UNITS + 1), False), ((2, UNITS), True)):
        interpreter.resize_tensor_input(b, shape)
        interpreter.resize_tensor_input(a, shape)
        if not fits:
            with pytest.raises(RuntimeError, match="does not fit its layer"):
                interpreter.allocate_tensors()
            with pytest.raises((RuntimeError, ValueError)):
                interpreter.invoke()
            continue
        interpreter.allocate_tensors()
        interpreter.set_tensor(b, np.ones(shape, np.int8))
        interpreter.set_tensor(a, np.ones(shape, np.uint8))
        interpreter.invoke()
        right = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert right.shape == shape
        assert (right == right[0]).all()
