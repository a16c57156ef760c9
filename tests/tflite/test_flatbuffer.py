"""Reading and writing .tflite files, damaged and hostile ones included."""

import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.tflite import flatbuffer
from tests.tflite.fixtures import random_inputs, run


def test_round_trip_keeps_results(int8_nets):
    original = int8_nets["lenet5"]
    again = flatbuffer.save(flatbuffer.load(original))
    inputs = random_inputs(original, 4)
    np.testing.assert_array_equal(run(original, inputs), run(again, inputs))


def test_aligned_buffers_start_at_multiples_of_sixteen(int8_nets):
    saved = flatbuffer.save(flatbuffer.load(int8_nets["resnet8"]), aligned=True)
    root = schema.Model.GetRootAs(saved, 0)
    buffers = [root.Buffers(i) for i in range(root.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if not b.DataIsNone()]
    assert len(starts) > 10
    assert {start % 16 for start in starts} == {0}


def test_prune_drops_what_nothing_uses(int8_nets):
    model = flatbuffer.load(int8_nets["lenet5"])
    before = len(model.subgraphs[0].tensors), len(model.buffers)
    flatbuffer.add_buffer(model, b"unused")
    tensors = model.subgraphs[0].tensors
    flatbuffer.add_tensor(model, model.subgraphs[0], tensors[0], shape=(1,), name="unused")
    flatbuffer.opcode_index(model, schema.BuiltinOperator.DENSIFY)
    codes = len(model.operatorCodes)
    flatbuffer.prune(model)
    after = len(model.subgraphs[0].tensors), len(model.buffers)
    assert after <= before
    assert len(model.operatorCodes) == codes - 1
    run(flatbuffer.save(model), random_inputs(int8_nets["lenet5"], 1))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 60])
def test_other_files_are_refused(data):
    with pytest.raises(ValueError, match=r"a \.tflite file is required"):
        flatbuffer.load(data)


def outcome(data):
    """`None` for a file that loads, else the message of the `ValueError`; no other error."""
    try:
        flatbuffer.load(data)
    except ValueError as error:
        return str(error)
    return None


def test_damaged_files_load_or_raise_value_error(int8_nets):
    original = int8_nets["lenet5"]
    rng = np.random.default_rng(6)
    cut = [outcome(original[:length]) for length in rng.integers(8, len(original), 40)]
    flipped = []
    for _ in range(150):
        damaged = bytearray(original)
        # The tables are at the end, the weights in front of them: hit both.
        low = rng.choice((0, len(original) - 8000))
        for position in rng.integers(low, len(original), rng.integers(1, 8)):
            damaged[position] ^= 1 << rng.integers(8)
        flipped.append(outcome(bytes(damaged)))
    refused = [message for message in cut + flipped if message]
    assert len(refused) > 60
    assert all("required" in message or "damaged" in message for message in refused)


def test_a_table_repeated_without_end_is_refused():
    """One subgraph table referred to 20,000 times, with 20,000 references to one operator."""
    builder = flatbuffers.Builder(0)
    schema.OperatorStart(builder)
    operator = schema.OperatorEnd(builder)
    repeats = 20_000
    schema.SubGraphStartOperatorsVector(builder, repeats)
    for _ in range(repeats):
        builder.PrependUOffsetTRelative(operator)
    operators = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, repeats)
    for _ in range(repeats):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    started = time.process_time()
    with pytest.raises(ValueError, match="more entries than its bytes"):
        flatbuffer.load(bytes(builder.Output()))
    assert time.process_time() - started < 20  # followed naively it would be 400 million tables
