"""Files that mean harm end in one `FileError`, at once."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.graph import FileError
from ec2t_tf.export.tflite import read, write

from .test_check import net


def repeated(builder: flatbuffers.Builder, table: int, count: int) -> int:
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def model(builder: flatbuffers.Builder, graphs: int) -> bytes:
    schema.BufferStart(builder)
    buffers = repeated(builder, schema.BufferEnd(builder), 1)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def one_table_many_times(tensors: int, graphs: int) -> bytes:
    """`graphs` references to one subgraph of `tensors` references to one tensor."""
    builder = flatbuffers.Builder(0)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    vector = repeated(builder, tensor, tensors)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, vector)
    graph = schema.SubGraphEnd(builder)
    return model(builder, repeated(builder, graph, graphs))


def one_name_many_times() -> bytes:
    """20,000 tensors with one name of 200 KB."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString(b"n" * 200_000)
    tensors = []
    for _ in range(20_000):
        schema.TensorStart(builder)
        schema.TensorAddName(builder, name)
        tensors.append(schema.TensorEnd(builder))
    builder.StartVector(4, len(tensors), 4)
    for tensor in tensors:
        builder.PrependUOffsetTRelative(tensor)
    vector = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, vector)
    graph = schema.SubGraphEnd(builder)
    return model(builder, repeated(builder, graph, 1))


def one_constant_many_times() -> bytes:
    """2,000 tensors that share 200 KB of values: 400 MB for whoever looks at each."""
    graph = net()
    data = np.zeros(200_000, np.int8)
    for number in range(2000):
        graph.add(f"c{number}", data.shape, "int8", data=data)
    return write(graph)


def zeros_in_rows() -> bytes:
    """A sparse tensor of 2^28 zeros in a few hundred bytes."""
    graph = net()
    graph.add("zeros", (1 << 10, 1 << 18), "int8", data=np.zeros((1, 1), np.int8))
    graph.tensors[-1].storage = "sparse"
    graph.tensors[-1].data[:] = 1
    content = write(graph)
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    parsed.buffers[parsed.subgraphs[0].tensors[-1].buffer].data = None
    sparse = parsed.subgraphs[0].tensors[-1].sparsity
    sparse.dimMetadata[0].denseSize = 1 << 10
    sparse.dimMetadata[1].arraySegments.values = np.zeros((1 << 10) + 1, np.uint8)
    builder = flatbuffers.Builder(0)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "700 subgraphs of 700 tensors": (lambda: one_table_many_times(700, 700), "one net"),
    "20,000 subgraphs of 20,000": (lambda: one_table_many_times(20_000, 20_000), "one net"),
    "a name of 200 KB for 20,000 tensors": (one_name_many_times, "name must have at most"),
    "a constant 2,000 times": (one_constant_many_times, "constants"),
    "2^28 zeros": (zeros_in_rows, "expand"),
    "70,000 tensors": (lambda: one_table_many_times(70_000, 1), "at most 65,536 tensors"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused_at_once_in_little_memory(case: str) -> None:
    make, message = HOSTILE[case]
    content = make()
    with pytest.raises(FileError, match=message):
        read(content)
    started = time.process_time()
    with pytest.raises(FileError):
        read(content)
    assert time.process_time() - started < 0.1
    tracemalloc.start()
    with pytest.raises(FileError):
        read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(content) + (1 << 20)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 60])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(FileError, match=r"a \.tflite file is required"):
        read(data)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_read_or_refused(seed: int) -> None:
    """Bytes and 32-bit numbers of a file changed, or its end cut off: `FileError` or a graph."""
    rng = np.random.default_rng(seed)
    original = write(net())
    messages = []
    for _ in range(300):
        damaged = bytearray(original)
        if rng.integers(8) == 0:
            damaged = damaged[: rng.integers(16, len(damaged))]
        for position in rng.integers(8, len(damaged) - 4, rng.integers(1, 5)):
            if rng.integers(2):
                damaged[position] ^= 1 << rng.integers(8)
            else:
                number = rng.choice([0, 1, -1, 1 << 30, -(1 << 31), (1 << 31) - 1, 255, 65536])
                damaged[position : position + 4] = int(number).to_bytes(4, "little", signed=True)
        try:
            read(bytes(damaged))
        except FileError as error:
            messages.append(str(error))
    assert len(messages) > 60
    assert max(map(len, messages)) < 1000
