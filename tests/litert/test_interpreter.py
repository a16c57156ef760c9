"""`Interpreter` and the delegate's options, wrong use and damaged files."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import load_delegate

from ec2t_tf.export import formats
from ec2t_tf.export.file_formats.layers import find_layers
from ec2t_tf.export.file_formats.packed import COMPACT_CODE, layer_of
from ec2t_tf.export.graph.edit import single_operator
from ec2t_tf.export.litert import Interpreter, library
from ec2t_tf.export.tflite import read, write
from tests.tflite.fixtures import RESOLVERS, outputs_of, packed, random_inputs, run


def test_takes_a_path(int8_nets, tmp_path):
    file = tmp_path / "lenet5.tflite"
    file.write_bytes(packed(int8_nets["lenet5"]))
    inputs = random_inputs(int8_nets["lenet5"], 2)
    expected = run(int8_nets["lenet5"], inputs)
    for path in (file, str(file)):
        np.testing.assert_array_equal(outputs_of(Interpreter(path), inputs), expected)


def test_needs_a_path_or_bytes(int8_nets):
    with pytest.raises(ValueError, match=r"a path or the bytes"):
        Interpreter()
    with pytest.raises(ValueError, match=r"a path or the bytes"):
        Interpreter("file", model_content=int8_nets["lenet5"])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Interpreter(tmp_path / "none.tflite")


def test_missing_library(int8_nets, monkeypatch, tmp_path):
    monkeypatch.setenv(library.VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(FileNotFoundError, match="install a C compiler"):
        Interpreter(model_content=int8_nets["lenet5"])


@pytest.mark.parametrize(
    "options", [{"requant": "float"}, {"num_threads": "-1"}, {"colour": "blue"}]
)
def test_unknown_options_are_refused(native_library, options):
    with pytest.raises(ValueError, match="the options of the EC2T delegate are"):
        load_delegate(str(native_library), options)


def test_plain_layers_can_be_left(int8_nets, capfd):
    Interpreter(model_content=int8_nets["lenet5"], claim_int8=False, verbose=True)
    assert "0 of 8 nodes claimed" in capfd.readouterr().err


@pytest.mark.parametrize("level", [None, "0"])
def test_it_says_nothing_unless_asked(level, tmp_path, int8_nets):
    """LiteRT's line about XNNPACK, of which a process has one, is for those who want its lines."""
    (tmp_path / "net.tflite").write_bytes(int8_nets["lenet5"])
    code = "from ec2t_tf.export import Interpreter; Interpreter('net.tflite').allocate_tensors()"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    line = [sys.executable, "-c", code]
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ("delegate" in done.stderr) == (level is not None)
    assert done.stderr == "" or level


def with_blob(file, blob):
    """A packed file with its first blob replaced."""
    graph = read(file)
    operator = next(o for o in graph.operators if "EC2T" in o.kind)
    tensor = graph.tensors[operator.inputs[1]]
    tensor.data = np.frombuffer(blob, np.uint8)
    tensor.shape = tensor.data.shape
    return write(graph)


def first_blob(file):
    graph = read(file)
    operator = next(o for o in graph.operators if "EC2T" in o.kind)
    return graph.tensors[operator.inputs[1]].data.tobytes()


def test_damaged_blobs_are_errors_not_crashes(int8_nets):
    file = packed(int8_nets["lenet5"], optimize="speed")
    blob = first_blob(file)
    rng = np.random.default_rng(8)
    broken = [blob[:-4], blob + bytes(4), b"", b"EC2T", bytes(len(blob))]
    for _ in range(40):
        flipped = bytearray(blob)
        flipped[rng.integers(len(blob))] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    for damaged in broken:
        with pytest.raises(RuntimeError, match=r"EC2T: .*cannot run|must be a constant"):
            Interpreter(model_content=with_blob(file, damaged)).allocate_tensors()


def test_damaged_compact_blobs_are_errors_not_crashes(int8_nets):
    graph = read(packed(int8_nets["lenet5"]))
    operator = next(one for one in graph.operators if one.kind == COMPACT_CODE)
    blob = operator.custom
    rng = np.random.default_rng(8)
    broken = [blob[:-4], blob + bytes(4), b"", b"EC2T", bytes(len(blob))]
    for _ in range(20):
        flipped = bytearray(blob)
        flipped[rng.integers(len(blob))] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    other = layer_of(graph, [one for one in graph.operators if one.kind == COMPACT_CODE][-1])
    for damaged in [*broken, formats.pack_compact(other)]:
        operator.custom = damaged
        with pytest.raises(RuntimeError, match=r"EC2T: .*cannot run"):
            Interpreter(model_content=write(graph)).allocate_tensors()


def test_a_blob_of_another_layer_is_an_error(int8_nets):
    file = packed(int8_nets["lenet5"], optimize="speed")
    other = formats.unpack(first_blob(packed(int8_nets["resnet8"], optimize="speed")))
    with pytest.raises(RuntimeError, match="for 16 to 16 channels, its tensors have others"):
        Interpreter(model_content=with_blob(file, formats.pack(other)))
    own = formats.unpack(first_blob(file))
    other = dataclasses.replace(own, input_zero_point=own.input_zero_point ^ 1)
    with pytest.raises(RuntimeError, match="quantisation of its input"):
        Interpreter(model_content=with_blob(file, formats.pack(other)))


def test_truncated_and_flipped_files(int8_nets):
    """What the Python side lets through, the runtime survives."""
    file = packed(int8_nets["lenet5"])
    rng = np.random.default_rng(9)
    outcomes = []
    for length in rng.integers(0, len(file), 10):
        with pytest.raises((ValueError, RuntimeError)):
            Interpreter(model_content=file[:length])
    for _ in range(60):
        flipped = bytearray(file)
        flipped[rng.integers(len(file) - 3000, len(file))] ^= 1 << rng.integers(8)
        try:
            Interpreter(model_content=bytes(flipped)).allocate_tensors()
            outcomes.append("")
        except (ValueError, RuntimeError) as error:
            outcomes.append(str(error))
    assert any(outcomes)


@pytest.mark.parametrize("net", ["depthwise", "lenet5"])
def test_layers_given_back_run_without_xnnpack(int8_nets, net, capfd):
    """Each kind of layer alone, dense, in our reference kernel when nobody else takes it."""
    graph = read(int8_nets[net])
    layers = {layer.kind: layer for layer in find_layers(graph)[0]}
    for layer in layers.values():
        alone = write(single_operator(graph, layer.number))
        inputs = random_inputs(alone, 3)
        interpreter = Interpreter(
            model_content=packed(alone),
            verbose=True,
            experimental_op_resolver_type=RESOLVERS["builtin"],
        )
        np.testing.assert_array_equal(outputs_of(interpreter, inputs), run(alone, inputs))
        said = capfd.readouterr().err
        assert ("dense is faster here" in said) != ("1 of 1 nodes claimed" in said)
