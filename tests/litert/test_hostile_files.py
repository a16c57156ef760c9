"""Files that mean harm: refused, or computed as the stock interpreter computes them; never a crash.

The C delegate holds this by itself (`load_delegate` knows no Python checks) and so does
`Interpreter`. All files of a test run in one process of their own.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as StockInterpreter

from ec2t_tf.export import formats
from ec2t_tf.export.graph import Graph, Operator
from ec2t_tf.export.litert import Interpreter
from ec2t_tf.export.tflite import read, write
from tests.tflite.fixtures import outputs_of, packed, random_inputs, run

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
KINDS = (*PLAIN, *(f"packed {kind}" for kind in PLAIN), "ADD", "MAX_POOL_2D")
WINDOW = {"padding": "same", "stride": (1, 1), "dilation": (1, 1), "activation": "none"}
MOST = (1 << 31) - 1


def activation(graph: Graph, name: str, shape: tuple[int, ...]) -> int:
    return graph.add(name, shape, "int8", scale=0.1, zero_point=3)


def net(kind: str, *, size: int = 6) -> Graph:
    """input 0 -> the operator -> the last tensor; shapes stay, but for FULLY_CONNECTED."""
    if kind.startswith("packed "):
        return read(packed(write(net(kind.removeprefix("packed "), size=size))))
    rng = np.random.default_rng(len(kind))
    graph = Graph()
    flat = kind == "FULLY_CONNECTED"
    source = activation(graph, "x", (1, 8) if flat else (1, size, size, 8))
    inputs = [source]
    options = dict(WINDOW)
    if kind in PLAIN:
        shape = {"CONV_2D": (8, 3, 3, 8), "DEPTHWISE_CONV_2D": (1, 3, 3, 8)}.get(kind, (8, 8))
        weights = rng.choice([0, 127, -90], p=[0.6, 0.2, 0.2], size=shape).astype(np.int8)
        axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
        scales, zeros = np.full(8, 0.01, np.float32), np.zeros(8, np.int64)
        inputs.append(
            graph.add("w", shape, "int8", scale=scales, zero_point=zeros, axis=axis, data=weights)
        )
        bias = np.arange(8, dtype=np.int32)
        inputs.append(graph.add("b", (8,), "int32", scale=scales / 10, zero_point=zeros, data=bias))
    if flat:
        options = {"activation": "none", "weights_format": 0, "keep_num_dims": False}
    elif kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = 1
    elif kind == "ADD":
        inputs.append(activation(graph, "x2", (1, size, size, 8)))
        options = {"activation": "none"}
    elif kind == "MAX_POOL_2D":
        del options["dilation"]
        options["size"] = (2, 2)
    target = activation(graph, "y", graph.tensors[source].shape)
    graph.call(kind, inputs, target, **options)
    graph.inputs = (0, inputs[1]) if kind == "ADD" else (0,)
    graph.outputs = (target,)
    return graph


Outcomes = dict[str, dict[str, dict[str, str]]]


def attempts(folder: Path, files: dict[str, bytes], who: str = "ours") -> Outcomes:
    """What every file comes to in every way of `attempt`."""
    folder = folder / who
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "tests.litert.attempt", str(folder), who],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died at {lines[-1:]}: {done.stderr[-2000:]}"
    outcomes: Outcomes = {}
    for (name, way), outcome in zip(lines[::2], lines[1::2], strict=True):
        outcomes.setdefault(name, {})[way] = outcome
    assert set(outcomes) == set(files)
    return outcomes


def name_of(*words: object) -> str:
    return " ".join(str(word).replace("/", "_") for word in words)


@pytest.fixture(autouse=True)
def _installed(native_library, monkeypatch):
    """The child's delegate is the one just built."""


def test_the_nets_themselves_run(tmp_path):
    files = {name_of(kind): write(net(kind)) for kind in KINDS}
    stock = attempts(tmp_path, {name_of(k): write(net(k)) for k in (*PLAIN, "ADD")}, "stock")
    for name, ways in attempts(tmp_path, files).items():
        expected = stock.get(name.removeprefix("packed "), ways | {"stock": ways["delegate"]})
        for way, outcome in ways.items():
            assert "outputs" in outcome, (name, way, outcome)
            assert outcome == expected["stock"], (name, way)


def second_writer(kind: str) -> Graph:
    """Another of its kind, and smaller, writes the output too; someone reads it then."""
    graph = net(kind)
    (first,) = graph.operators
    if kind.endswith("FULLY_CONNECTED"):
        small = activation(graph, "small", (1, 8))
    else:
        small = activation(graph, "small", (1, 2, 2, 8))
    graph.inputs = (*graph.inputs, small)
    inputs = [small if i in graph.inputs else i for i in first.inputs]
    target = first.outputs[0]
    graph.call(first.kind, inputs, target, **first.options)
    graph.operators[-1].custom = first.custom
    for name in ("read", "out"):
        shape = graph.tensors[target].shape
        last = activation(graph, name, shape)
        graph.call("MAX_POOL_2D" if len(shape) == 4 else "RELU", (target,), last, **POOL)
        target = last
    graph.outputs = (target,)
    return graph


POOL = {"padding": "same", "stride": (1, 1), "size": (1, 1), "activation": "none"}


def read_early(kind: str) -> Graph:
    """Its output is read by an operator that comes before it."""
    graph = net(kind)
    target = graph.operators[0].outputs[0]
    early = activation(graph, "early", graph.tensors[target].shape)
    graph.call("ADD", (target, target), early, activation="none")
    graph.operators.reverse()
    graph.outputs = (target, early)
    return graph


def writes_its_input(kind: str) -> Graph:
    graph = net(kind)
    operator = graph.operators[0]
    operator.outputs = (operator.inputs[0],)
    graph.outputs = (0,)
    return graph


def writes_a_constant(kind: str) -> Graph:
    graph = net(kind)
    shape = graph.tensors[graph.outputs[0]].shape
    constant = graph.add("c", shape, "int8", scale=0.1, zero_point=3, data=np.ones(shape, np.int8))
    graph.operators[0].outputs = graph.outputs = (constant,)
    return graph


def writes_an_input_of_the_net(kind: str) -> Graph:
    graph = net(kind)
    other = activation(graph, "other", graph.tensors[graph.outputs[0]].shape)
    graph.inputs = (*graph.inputs, other)
    graph.operators[0].outputs = graph.outputs = (other,)
    return graph


DISORDER: dict[str, Callable[[str], Graph]] = {
    "second writer": second_writer,
    "read early": read_early,
    "writes its input": writes_its_input,
    "writes a constant": writes_a_constant,
}


def test_tensors_are_written_once_and_before_they_are_read(tmp_path):
    files = {
        name_of(kind, fault): write(make(kind))
        for kind in KINDS
        for fault, make in DISORDER.items()
    }
    for name, ways in attempts(tmp_path, files).items():
        for way, outcome in ways.items():
            assert "tensor" in outcome.get("refused", "").lower(), (name, way, outcome)


def test_inputs_of_the_net_are_not_written(tmp_path):
    """A delegate is not told what they are: there the file does no harm."""
    files = {name_of(kind): write(writes_an_input_of_the_net(kind)) for kind in KINDS}
    for name, ways in attempts(tmp_path, files).items():
        for way in ("Interpreter", "Interpreter, all nodes"):
            assert "an input of the net" in ways[way].get("refused", ""), (name, way, ways[way])


NUMBERS = (0, -1, 4096, 1 << 24, MOST, -MOST - 1)
ZERO_POINTS = (128, -129, 1 << 20, MOST, -MOST - 1)
SCALES = (0.0, -0.1, np.nan, np.inf, 1e-45, 1e-9, 3e5, 3e38)


def twisted(kind: str) -> dict[str, bytes]:
    files = {}

    def keep(graph: Graph, *words: object) -> None:
        files[name_of(kind, *words)] = write(graph)

    for option in ("stride", "dilation", "size"):
        if option in net(kind).operators[0].options:
            for number in NUMBERS:
                for place in (0, 1):
                    graph = net(kind)
                    pair = [1, 1]
                    pair[place] = number
                    graph.operators[0].options[option] = tuple(pair)
                    keep(graph, option, *pair)
    ends = (*net(kind).inputs, *net(kind).outputs)
    for index in ends:
        for zero_point in ZERO_POINTS:
            graph = net(kind)
            graph.tensors[index].zero_point = np.array([zero_point])
            keep(graph, "zero point", index, zero_point)
        for scale in SCALES:
            graph = net(kind)
            graph.tensors[index].scale = np.array([scale], np.float32)
            keep(graph, "scale", index, scale)
    weights = net(kind).operators[0].inputs[1] if kind in PLAIN else None
    if weights is not None:
        for scale in SCALES:
            graph = net(kind)
            graph.tensors[weights].scale = graph.tensors[weights].scale.copy()
            graph.tensors[weights].scale[3] = scale
            keep(graph, "weight scale", scale)
    graph = net(kind)
    for index in graph.inputs:
        graph.tensors[index].shape = (1, *(1 for _ in graph.tensors[index].shape[1:]))
        keep(graph, "shape of input", index)
    graph = net(kind)
    graph.tensors[graph.outputs[0]].shape = (1, 5)
    keep(graph, "shape of output")
    return files


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_hurts(tmp_path, kind):
    """Strides, dilations, windows, zero points, scales and shapes that no net has."""
    files = twisted(kind)
    assert len(files) > 20
    start = time.monotonic()
    outcomes = attempts(tmp_path, files)
    assert time.monotonic() - start < 100  # nor does it take gigabytes and minutes
    assert sum("refused" in ways["delegate"] for ways in outcomes.values()) > 5
    # Now and then the stock interpreter ends the process: not with what ours refuse.
    run = {
        name for name, ways in outcomes.items() if any("outputs" in way for way in ways.values())
    }
    plain = {name: files[name] for name in run if not name.startswith("packed")}
    for name, (stock,) in (
        (name, ways.values()) for name, ways in attempts(tmp_path, plain, "stock").items()
    ):
        results = {way["outputs"] for way in outcomes[name].values() if "outputs" in way}
        # XNNPACK's limits are its own.
        assert len(results) == 1, (name, outcomes[name])
        assert results == {stock.get("outputs")} or "XNNPACK" in stock["refused"], (name, stock)


def test_a_convolution_without_a_bias_ends_no_process(tmp_path):
    """LiteRT's DEPTHWISE_CONV_2D in int8 reads a bias that is not there."""
    files = {}
    for kind in PLAIN:
        for codes in ("ternary", "dense"):
            graph = net(kind)
            (operator,) = graph.operators
            weights = graph.tensors[operator.inputs[1]]
            if codes == "dense":
                weights.data = np.arange(weights.data.size, dtype=np.int8).reshape(weights.shape)
            for rest in ((), (-1,)):
                operator.inputs = (*operator.inputs[:2], *rest)
                files[name_of(kind, codes, len(rest))] = write(graph)
    flat = {name: file for name, file in files.items() if name.startswith("FULLY_CONNECTED")}
    stock = attempts(tmp_path, flat, "stock")
    for name, ways in attempts(tmp_path, files).items():
        for way, outcome in ways.items():
            if name in flat:
                assert outcome == stock[name]["stock"], (name, way)
                assert "outputs" in outcome, (name, way, outcome)
            else:
                assert "bias" in outcome.get("refused", ""), (name, way, outcome)


@pytest.mark.parametrize(("outputs", "inputs"), [(1 << 20, 256), (4096, 1024)])
def test_few_bytes_do_not_claim_many_weights(tmp_path, outputs, inputs):
    """Blobs of 84 bytes; the tensors around them agree with what they claim."""
    files = {}
    for encoding in formats.Encoding:
        if encoding is formats.Encoding.INT8:
            continue
        layer = formats.Layer(
            formats.Operator.CONV_2D,
            np.zeros((2, 1, 1, 1), np.int8),
            formats.Scales(0.1, 0.1, np.float32([0.01])),
            input_zero_point=3,
            output_zero_point=3,
        )
        blob = bytearray(formats.pack(layer, encoding=encoding))
        blob[16:24] = struct.pack("<II", outputs, inputs)
        blob[12:16] = struct.pack("<I", zlib.crc32(blob[16:]))
        graph = Graph()
        source = activation(graph, "x", (1, 1, 1, inputs))
        constant = graph.add("blob", (len(blob),), "uint8", data=np.frombuffer(blob, np.uint8))
        target = activation(graph, "y", (1, 1, 1, outputs))
        graph.operators = [Operator("EC2T.Conv2D", (source, constant), (target,), custom=b"")]
        graph.inputs, graph.outputs = (source,), (target,)
        files[encoding.name] = write(graph)
    start = time.monotonic()
    for name, ways in attempts(tmp_path, files).items():
        for way, outcome in ways.items():
            assert "blob" in outcome.get("refused", ""), (name, way, outcome)
    assert time.monotonic() - start < 120


def test_a_blob_is_for_the_channels_of_its_tensors(tmp_path):
    files = {}
    for kind in PLAIN:
        for place in (0, -1):
            graph = net(f"packed {kind}")
            index = (graph.inputs + graph.outputs)[place]
            graph.tensors[index].shape = (*graph.tensors[index].shape[:-1], 9)
            files[name_of(kind, place)] = write(graph)
    for name, ways in attempts(tmp_path, files).items():
        for way, outcome in ways.items():
            assert "channels" in outcome.get("refused", ""), (name, way, outcome)


def test_a_long_chain_is_prepared_in_proportion_to_its_length(tmp_path):
    """3,000 sums and poolings: the choice of nodes and the arena look at each a few times."""
    graph = net("ADD")
    last = graph.outputs[0]
    for number in range(3000):
        shape = graph.tensors[last].shape
        target = activation(graph, f"t{number}", shape)
        if number % 2:
            graph.call("ADD", (last, last if number % 4 == 1 else 0), target, activation="none")
        else:
            graph.call("MAX_POOL_2D", (last,), target, **POOL)
        last = target
    graph.outputs = (last,)
    start = time.process_time()
    interpreter = Interpreter(model_content=write(graph), claim_int8=True)
    interpreter.allocate_tensors()
    assert time.process_time() - start < 20
    always = Interpreter(model_content=write(graph), claim_int8="always")
    always.allocate_tensors()
    stock = StockInterpreter(model_content=write(graph), num_threads=1)
    stock.allocate_tensors()
    codes = np.random.default_rng(2).integers(-128, 128, (1, 6, 6, 8), dtype=np.int8)
    results = []
    for each in (interpreter, always, stock):
        for detail in each.get_input_details():
            each.set_tensor(detail["index"], codes)
        each.invoke()
        results.append(each.get_tensor(each.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])


@pytest.mark.parametrize("options", [{}, {"reference": True}])
def test_packed_layers_take_images_for_vectors(options):
    """FULLY_CONNECTED reads NHWC images as rows, whatever order our kernels keep them in."""
    convolution = net("CONV_2D", size=4)
    rng = np.random.default_rng(3)
    source = convolution.outputs[0]
    weights = rng.choice([0, 127, -90], p=[0.6, 0.2, 0.2], size=(5, 128)).astype(np.int8)
    scales, zeros = np.full(5, 0.01, np.float32), np.zeros(5, np.int64)
    kernel = convolution.add(
        "w2", weights.shape, "int8", scale=scales, zero_point=zeros, data=weights
    )
    target = activation(convolution, "z", (1, 5))
    flat = {"activation": "none", "weights_format": 0, "keep_num_dims": False}
    convolution.call("FULLY_CONNECTED", (source, kernel, -1), target, **flat)
    convolution.outputs = (target,)
    content = write(convolution)
    ours = Interpreter(model_content=packed(content), claim_int8="always", **options)
    inputs = random_inputs(content, 5)
    np.testing.assert_array_equal(outputs_of(ours, inputs), run(content, inputs))
