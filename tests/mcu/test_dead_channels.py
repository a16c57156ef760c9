"""Channels that are one number: taken out of the graph, and no output changes."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export import tflite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.mcu.arithmetic import Multiplier, requantised
from ec2t_tf.export.mcu.dead_channels import constant_outputs, without_dead_channels
from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets, random_graphs


def deadened(model: bytes, seed: int, share: float = 0.6) -> bytes:
    """The same net, some channels of whose convolutions got biases that drown every input."""
    random = np.random.default_rng(seed)
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    net = parsed.subgraphs[0]
    for op, read in zip(net.operators, tflite.read(model).operators, strict=True):
        if read.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        buffer = parsed.buffers[net.tensors[op.inputs[2]].buffer]
        biases = np.array(buffer.data, np.uint8).view(np.int32).copy()
        drown = random.random(biases.size) < share
        biases[drown] = random.choice([-(1 << 28), 1 << 28], int(drown.sum()), p=[0.7, 0.3])
        buffer.data = biases.view(np.uint8)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _channels(model: bytes | Graph) -> int:
    net = tflite.read(model) if isinstance(model, bytes) else model
    return sum((1, *net.tensors[i].shape)[-1] for op in net.operators for i in op.outputs)


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_random_graphs_stay_the_same(tmp_path: Path) -> None:
    """Twenty graphs that get smaller, against LiteRT's reference on the nets as they were."""
    models: dict[int, bytes] = {}
    for seed in range(2000, 5000):
        model = deadened(random_graphs.Draw(seed).model, seed)
        if _channels(without_dead_channels(tflite.read(model))) < _channels(model):
            models[seed] = model
        if len(models) == 20:
            break
    print(f"seeds {list(models)}")
    assert len(models) == 20
    values = [many_nets.inputs(m, 3, seed=s) for s, m in models.items()]
    want = [many_nets.reference(m, v) for m, v in zip(models.values(), values, strict=True)]
    got = many_nets.on_host(list(models.values()), values, tmp_path, sanitize=True)
    assert not many_nets.differences(list(models), got, want)


def _through(kind: str) -> bytes:
    """Dead channels of a 12-channel map on their way through one operator."""
    net = nets.NetBuilder((1, 8, 6, 3), seed=11)
    x = net.conv(net.input, 12)
    if kind == "depthwise":
        x = net.conv(x, 24, depthwise=True)
    elif kind == "pool":
        x = net.pool(x, (2, 2), (2, 2), maximum=False)
    elif kind == "pad":
        x = net.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]])
    elif kind == "concatenation":
        x = net.concatenate([net.pool(x, (1, 1), (1, 1), maximum=True), x], 3)
    elif kind == "rows":
        x = net.concatenate([x, x], 1)
    elif kind == "add":
        x = net.add(x, x)
    elif kind == "mean":
        return net.finish(net.dense(net.mean(x), 5, zeros=None))
    elif kind == "dense":
        x = net.pool(x, (8, 6), (8, 6), maximum=False)
        return net.finish(net.dense(net.reshape(x, (1, 12)), 5))
    return net.finish(net.conv(x, 5, (1, 1), zeros=None, relu=False))


@pytest.mark.parametrize(
    "kind",
    ["", "depthwise", "pool", "pad", "concatenation", "rows", "add", "mean", "dense"],
)
def test_they_go_with_what_reads_them(tmp_path: Path, kind: str) -> None:
    model = deadened(_through(kind), 3)
    net = without_dead_channels(tflite.read(model))
    before = tflite.read(model).tensors[net.operators[0].outputs[0]].shape[-1]
    left = net.tensors[net.operators[0].outputs[0]].shape[-1]
    assert 0 < left < before == 12
    values = nets.inputs(model, 4)
    want = [many_nets.reference(model, values)]
    got = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    np.testing.assert_array_equal(got[0], want[0])


def test_a_net_without_them_is_left_alone() -> None:
    net = tflite.read(nets.resnet8())
    assert without_dead_channels(net) is net


def test_a_shared_kernel_keeps_what_its_other_reader_needs(tmp_path: Path) -> None:
    """Two convolutions of one weight tensor; only one of them reads dead channels."""
    net = nets.NetBuilder((1, 6, 6, 4), seed=2)
    a = net.conv(net.input, 4, zeros=None)
    b = net.conv(a, 5, (1, 1), zeros=None)
    other = net.graph.operators[-1]
    out = net.tensor(tuple(net.shape(b)), *net.quantisation(b))
    first = net.operator("CONV_2D", [net.input, *other.inputs[1:]], out, other.builtinOptions)
    model = deadened(net.finish(net.add(b, first)), 4, share=0.5)
    assert without_dead_channels(tflite.read(model)).tensors[a].shape[-1] < 4
    values = nets.inputs(model, 4)
    got = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    np.testing.assert_array_equal(got[0], many_nets.reference(model, values))


@pytest.mark.parametrize("seed", range(4))
def test_constant_outputs_against_every_input(seed: int) -> None:
    """Two taps: all 65,536 inputs."""
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    weights = random.integers(-3, 4, (40, 2)).astype(np.int8)
    biases = random.integers(-2000, 2000, 40).tolist()
    multipliers = [
        Multiplier(int(random.integers(1 << 30, 1 << 31)), int(random.integers(-12, 3)))
        for _ in range(40)
    ]
    found = constant_outputs(weights, biases, multipliers, -5, (-20, 90))
    first, second = (v.reshape(-1) for v in np.meshgrid(*[np.arange(-128, 128)] * 2))
    for channel, row in enumerate(weights.astype(int)):
        sums = np.unique(row[0] * first + row[1] * second + biases[channel]).tolist()
        outputs = {requantised(v, multipliers[channel]) - 5 for v in sums}
        outputs = {min(max(v, -20), 90) for v in outputs}
        assert (found.get(channel) in outputs and len(outputs) == 1) or (
            channel not in found and len(outputs) > 1
        )
    assert 0 < len(found) < 40


@pytest.mark.parametrize("core", ["host", "m4", "m55"])
def test_the_least_bias_there_is(tmp_path: Path, core: str) -> None:
    """What some converters give channels without weights: inside a net, and at its end."""
    if core != "host" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    net = nets.NetBuilder((1, 5, 4, 3), seed=1)
    x = net.conv(net.input, 8, activation="RELU")
    graph = tflite.read(net.finish(net.conv(x, 6, (1, 1), zeros=None, activation="NONE")))
    for op in graph.operators:
        weights, bias = (graph.tensors[i] for i in op.inputs[1:])
        assert weights.data is not None
        assert bias.data is not None
        weights.data, bias.data = weights.data.copy(), bias.data.copy()
        weights.scale, bias.scale = weights.scale.copy(), bias.scale.copy()
        weights.data[1:4], bias.data[1:4] = 0, np.iinfo(np.int32).min
        weights.scale[1:4] *= np.float32(1e-5)
        bias.scale[1:4] *= np.float32(1e-5)
    model = tflite.write(graph)
    values = many_nets.inputs(model, 4, seed=1)
    want = many_nets.reference(model, values)
    if core == "host":
        (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    else:
        (got,) = many_nets.on_core(core, [model], [values], tmp_path)
    np.testing.assert_array_equal(got, want)
