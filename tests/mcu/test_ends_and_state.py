"""Several inputs and outputs, uint8 among them, and memory from one call to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export import tflite
from ec2t_tf.export.graph import Graph, Operator
from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets


def _two_by_two() -> bytes:
    net = nets.NetBuilder((1, 6, 5, 3), seed=1)
    other = net.tensor((1, 6, 5, 3), 0.03, 130)
    net.graph.tensors[other].type = schema.TensorType.UINT8
    y = net.elementwise("QUANTIZE", other, 0.03, 2)
    x = net.conv(net.add(net.input, y), 4)
    last = net.elementwise("QUANTIZE", x, net.quantisation(x)[0], net.quantisation(x)[1] + 128)
    net.graph.tensors[last].type = schema.TensorType.UINT8
    return net.finish(last, net.dense(net.mean(x), 7), x, inputs=[other])


def _stream(first: np.ndarray | None) -> bytes:
    """Three new rows behind two that are kept; the last two are kept for the next call."""
    graph = Graph()
    numbers = {"scale": 0.1, "zero_point": 3}
    x = graph.add("x", (1, 3, 1, 4), "int8", **numbers)
    handle = graph.add("handle", (), "resource")
    graph.operators.append(
        Operator("VAR_HANDLE", (), (handle,), {"container": "", "shared_name": "rows"})
    )
    kept = graph.add("kept", (1, 2, 1, 4), "int8", **numbers)
    graph.operators.append(Operator("READ_VARIABLE", (handle,), (kept,)))
    whole = graph.add("whole", (1, 5, 1, 4), "int8", **numbers)
    graph.call("CONCATENATION", [kept, x], whole, axis=1, activation="none")
    new = graph.add("new", (1, 2, 1, 4), "int8", **numbers)
    constants = [
        graph.add(name, (4,), "int32", data=np.array(values, np.int32))
        for name, values in (
            ("begin", [0, 3, 0, 0]),
            ("end", [1, 5, 1, 4]),
            ("stride", [1, 1, 1, 1]),
        )
    ]
    graph.call("STRIDED_SLICE", [whole, *constants], new, masks=(0, 0, 0, 0, 0))
    graph.operators.append(Operator("ASSIGN_VARIABLE", (handle, new), ()))
    graph.inputs, graph.outputs = (x,), (whole,)
    if first is not None:
        initial = Graph()
        inner = initial.add("handle", (), "resource")
        initial.operators.append(
            Operator("VAR_HANDLE", (), (inner,), {"container": "", "shared_name": "rows"})
        )
        value = initial.add("first", (1, 2, 1, 4), "int8", **numbers, data=first)
        initial.operators.append(Operator("ASSIGN_VARIABLE", (inner, value), ()))
        graph.initial = initial
        graph.operators.insert(0, Operator("CALL_ONCE", (), (), {"init_subgraph_index": 1}))
    return tflite.write(graph)


def _models() -> list[bytes]:
    first = np.arange(8, dtype=np.int8).reshape(1, 2, 1, 4)
    return [_two_by_two(), _stream(np.full_like(first, 3)), _stream(first)]


@pytest.mark.parametrize("core", ["host", "m4", "m55"])
def test_equal_the_reference(tmp_path: Path, core: str) -> None:
    if core != "host" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    models = _models()
    values = [many_nets.inputs(model, 6, seed=i) for i, model in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    if core == "host":
        got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    else:
        got = many_nets.on_core(core, models, values, tmp_path)
    assert not many_nets.differences(range(len(models)), got, want)


def test_the_header_names_ends_and_state(tmp_path: Path) -> None:
    to_c(_two_by_two(), tmp_path / "two")
    header = (tmp_path / "two" / "model.h").read_text()
    assert "const uint8_t input_1[MODEL_INPUT_1_SIZE]" in header
    assert "uint8_t output_0[MODEL_OUTPUT_0_SIZE]" in header
    assert "_reset" not in header
    to_c(_models()[2], tmp_path / "state")
    header = (tmp_path / "state" / "model.h").read_text()
    assert "void model_reset(uint8_t arena[MODEL_ARENA_SIZE]);" in header
    assert "model_reset(arena); /* once */" in (tmp_path / "state" / "README.md").read_text()


@pytest.mark.parametrize("core", ["host", "m4"])
def test_a_micro_wake_word_model_over_100_calls(shared: Path, tmp_path: Path, core: str) -> None:
    """Against LiteRT, which keeps the state too; its windows slide in place."""
    if core != "host" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    model = (shared / "models" / "real" / "mww__v2_vad.tflite").read_bytes()
    values = many_nets.inputs(model, 100, seed=3)
    want = many_nets.reference(model, values)
    assert len(np.unique(want)) > 1
    if core == "host":
        got = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    else:
        got = many_nets.on_core(core, [model], [values], tmp_path)
    assert not many_nets.differences(["mww"], got, [want])
    assert "ec2t_mcu_slide_run" in (tmp_path / "g0.c").read_text()
