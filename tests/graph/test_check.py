"""What a well-formed graph is: each fault by itself, named in the message."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec2t_tf.export.graph import FileError, Graph, Operator, check
from ec2t_tf.export.tflite import read, write


def net() -> Graph:
    """Two convolutions and their sum: tensors 0 input, 1-2 constants, 3-4 results, 5 the sum."""
    graph = Graph()
    graph.add("x", (1, 6, 6, 2), "int8", scale=0.5, zero_point=3)
    weights = np.arange(36, dtype=np.int8).reshape(2, 3, 3, 2)
    graph.add("w", weights.shape, "int8", scale=[0.1, 0.2], zero_point=[0, 0], data=weights)
    bias = np.array([5, -5], np.int32)
    graph.add("b", (2,), "int32", scale=[0.05, 0.1], zero_point=[0, 0], data=bias)
    for name in ("left", "right", "sum"):
        graph.add(name, (1, 6, 6, 2), "int8", scale=0.25, zero_point=-1)
    options = {"padding": "same", "stride": (1, 1), "dilation": (1, 1), "activation": "relu"}
    for output in (3, 4):
        graph.call("CONV_2D", (0, 1, 2), output, **options)
    graph.call("ADD", (3, 4), 5, activation="none")
    graph.inputs, graph.outputs = (0,), (5,)
    return graph


def test_a_net_without_faults_passes_and_is_written() -> None:
    check(net())
    again = read(write(net()))
    assert [operator.kind for operator in again.operators] == ["CONV_2D", "CONV_2D", "ADD"]


def option(name: str, value: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.operators[0].options.update({name: value})


def tensor(index: int, **fields: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        for name, value in fields.items():
            setattr(graph.tensors[index], name, value)

    return change


def operator(number: int, **fields: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        for name, value in fields.items():
            setattr(graph.operators[number], name, value)

    return change


FAULTS: dict[str, tuple[Callable[[Graph], None], str]] = {
    "two operators write one tensor": (operator(1, outputs=(3,)), "'left'.*written already"),
    "the net's input is written": (operator(1, outputs=(0,)), "'x'.*an input of the net"),
    "a constant is written": (operator(1, outputs=(2,)), "'b'.*a constant"),
    "an operator writes its own input": (operator(2, outputs=(4,)), "'right'.*written already"),
    "a tensor is used before it is written": (operator(0, inputs=(5, 1, 2)), "'sum'.*before"),
    "an operator reads what it writes": (operator(0, inputs=(3, 1, 2)), "'left'.*before"),
    "an output that nothing writes": (lambda graph: graph.operators.pop(), "'sum'.*no operator"),
    "an output that does not exist": (lambda graph: setattr(graph, "outputs", (9,)), "tensor 9"),
    "an input twice": (lambda graph: setattr(graph, "inputs", (0, 0)), "different tensors"),
    "a constant as input": (lambda graph: setattr(graph, "inputs", (0, 1)), "'w'.*already"),
    "an input that does not exist": (operator(0, inputs=(6, 1, 2)), "names tensor 6"),
    "no inputs": (operator(0, inputs=()), "inputs and outputs. Received: 0 and 1"),
    "no outputs": (operator(2, outputs=()), "inputs and outputs. Received: 2 and 0"),
    "four inputs": (operator(0, inputs=(0, 1, 2, 2)), "2 to 3 inputs"),
    "no weights": (operator(0, inputs=(0, -1, 2)), "lacks an input"),
    "no options": (operator(0, options={}), "stride"),
    **{
        f"{name} {pair}": (option(name, pair), f"{name} of two numbers from 1")
        for name in ("stride", "dilation")
        for pair in ((0, 1), (1, -1), (2**31 - 1, 1), (1,), None)
    },
    "a padding that is none": (option("padding", 7), "'same' or 'valid'"),
    "an activation that is none": (option("activation", 99), "fused activation"),
    "another shape than computed": (tensor(3, shape=(1, 6, 6, 1)), r"shape \(1, 6, 6, 2\)"),
    "a window larger than its input": (
        lambda graph: graph.operators[0].options.update(padding="valid", dilation=(3, 3)),
        "larger than its input",
    ),
    "weights of other channels": (tensor(0, shape=(1, 6, 6, 3)), "do not fit 3 input channels"),
    "a bias of another size": (operator(0, inputs=(0, 1, 1)), "bias of 2 values"),
    "shapes that do not broadcast": (operator(2, inputs=(3, 1)), "do not broadcast"),
    "a negative size": (tensor(3, shape=(1, -6, 6, 2)), "fixed sizes"),
    "nine axes": (tensor(3, shape=(1,) * 9), "at most 8 axes"),
    "too many elements": (tensor(3, shape=(1 << 14, 1 << 15)), "elements"),
    "a zero point outside int8": (tensor(0, zero_point=np.array([128])), "-128 to 127.*: 128"),
    "a zero point of 2^31": (tensor(0, zero_point=np.array([1 << 31])), "-128 to 127"),
    "a zero point of -2^31": (tensor(5, zero_point=np.array([-(1 << 31)])), "-128 to 127"),
    "no zero point": (tensor(0, zero_point=np.zeros(0, np.int64)), "as many zero points"),
    "a scale that is no number": (tensor(1, scale=np.array([0.1, math.nan])), "finite scales"),
    "a scale of 0": (tensor(0, scale=np.zeros(1)), "above 0"),
    "a negative scale": (tensor(3, scale=-np.ones(1)), "above 0"),
    "scales for another axis": (tensor(1, axis=1), "one a slice of its axis 1"),
    "an axis that does not exist": (tensor(1, axis=7), "one a slice of its axis 7"),
    "values of another type": (tensor(1, data=np.zeros((2, 3, 3, 2), np.int16)), "such values"),
    "values of another shape": (tensor(1, data=np.zeros((2, 3, 3), np.int8)), "such values"),
    "a type without values": (tensor(3, dtype="string"), r"STRING \(text\)"),
    "a type of lists": (tensor(3, dtype="variant"), r"VARIANT \(lists of tensors\)"),
    "a handle of state": (tensor(3, dtype="resource"), r"RESOURCE \(streaming state\)"),
    "state in another operator": (
        lambda graph: graph.operators.append(Operator("READ_VARIABLE", (0,), (5,))),
        "written already",
    ),
    "a call of nothing": (
        lambda graph: graph.operators.append(Operator("CALL_ONCE", (), ())),
        "CALL_ONCE",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    graph = net()
    change, message = FAULTS[fault]
    change(graph)
    with pytest.raises(FileError, match=f"(?s){message}"):
        check(graph)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_the_fault_is_refused(fault: str) -> None:
    """Where a file can hold it at all."""
    graph = net()
    FAULTS[fault][0](graph)
    try:
        content = write(graph)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        pytest.skip("the writer refuses it first")
    with pytest.raises(FileError):
        read(content)


def test_state_is_written_and_read_by_handle() -> None:
    graph = Graph()
    graph.add("x", (1, 4), "int8", scale=1, zero_point=0)
    for name in ("handle", "again"):
        graph.add(name, (), "resource")
    graph.add("state", (1, 4), "int8", scale=1, zero_point=0)
    graph.operators = [
        Operator("CALL_ONCE", (), ()),
        Operator("VAR_HANDLE", (), (1,), {"shared_name": "state"}),
        Operator("READ_VARIABLE", (1,), (3,)),
        Operator("ASSIGN_VARIABLE", (1, 0), ()),
    ]
    graph.inputs, graph.outputs = (0,), (3,)
    with pytest.raises(FileError, match="one CALL_ONCE"):
        check(graph)
    start = graph.initial = Graph(name="start")
    start.add("handle", (), "resource")
    start.add("zeros", (1, 4), "int8", scale=1, zero_point=0, data=np.zeros((1, 4), np.int8))
    start.operators = [
        Operator("VAR_HANDLE", (), (0,), {"shared_name": "state"}),
        Operator("ASSIGN_VARIABLE", (0, 1), ()),
    ]
    check(graph)
    again = read(write(graph))
    assert again.initial is not None
    assert again.operators[1].options["shared_name"] == "state"
    np.testing.assert_array_equal(again.initial.tensors[1].data, np.zeros((1, 4)))
    graph.operators[2] = Operator("READ_VARIABLE", (0,), (3,))
    with pytest.raises(FileError, match=r"must name a RESOURCE \(streaming state\).*INT8"):
        check(graph)


def test_kernels_of_odd_types_are_reported_or_refused(tmp_path: Path) -> None:
    """What `check` lets through, the rooms behind it must bear."""
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.reports import report

    for dtype in ("bool", "uint8", "int16", "float16", "int64", "float64"):
        graph = net()
        graph.tensors[1].dtype = dtype
        graph.tensors[1].data = graph.tensors[1].data.astype(dtype)
        path = tmp_path / f"{dtype}.tflite"
        path.write_bytes(write(graph))
        assert {kernel.codes for kernel in report(path).kernels} == {dtype}
        with pytest.raises(FileError, match="2 layers: its input, weights and output are not all"):
            rewrite(path, format="sparse")
