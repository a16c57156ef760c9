"""Int8 layers of every shape on the cores with kernels of their own, against LiteRT's reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import OPTIMIZE, dot_conv, paired_rows, to_c
from ec2t_tf.export.mcu.arithmetic import Multiplier
from ec2t_tf.export.mcu.int8_conv import Int8Conv
from ec2t_tf.export.mcu.plan import Layout
from tests import nets
from tests.bench import mcu, qemu
from tests.mcu import many_nets
from tests.mcu.test_dead_channels import deadened

pytestmark = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
CORES = ["m0", "m4", "m55", *(pytest.param(c, marks=pytest.mark.slow) for c in ("m3", "m33"))]
SWAR_CORES = ["m0", "m3"]  # no horizontal stride over 2

Shape = tuple[tuple[int, int, int], int, tuple[int, int], tuple[int, int]]
# Input, output channels, kernel, strides.
CONVOLUTIONS: list[Shape] = [
    ((11, 9, 1), 6, (10, 4), (2, 2)),
    ((8, 9, 3), 5, (3, 3), (1, 1)),
    ((5, 5, 6), 1, (1, 1), (1, 1)),
    ((13, 1, 6), 8, (5, 1), (1, 1)),
    ((13, 1, 3), 7, (3, 3), (2, 1)),
    ((1, 13, 3), 4, (3, 5), (1, 2)),
    ((7, 9, 3), 6, (2, 7), (3, 3)),
    ((1, 1, 2), 2, (1, 1), (1, 1)),
    ((3, 3, 1), 2, (3, 3), (1, 1)),
    ((5, 6, 5), 4, (3, 5), (1, 2)),
    ((11, 3, 2), 9, (3, 6), (2, 1)),
    ((4, 4, 40), 7, (3, 3), (1, 1)),
    ((6, 6, 16), 16, (5, 5), (1, 1)),
    # On M55 windows in several chunks, one with channels that pad it; patches of several strips.
    ((4, 5, 180), 3, (3, 3), (1, 1)),
    ((3, 9, 94), 2, (2, 2), (1, 2)),
    ((3, 4, 550), 4, (1, 1), (1, 1)),
    ((5, 6, 12), 6, (4, 3), (1, 1)),
    ((9, 17, 2), 3, (2, 3), (1, 20)),
    ((2, 3, 70), 5, (3, 3), (1, 1)),
]
DEPTHWISE: list[Shape] = [
    ((12, 12, 4), 4, (3, 3), (1, 1)),
    ((25, 5, 3), 3, (3, 3), (1, 1)),
    ((7, 5, 3), 6, (3, 3), (2, 1)),
    ((9, 11, 4), 4, (3, 3), (2, 2)),
    ((9, 1, 4), 4, (3, 3), (1, 2)),
    ((1, 13, 2), 2, (3, 3), (1, 1)),
    ((10, 8, 3), 3, (5, 5), (1, 1)),
    ((10, 9, 3), 3, (7, 7), (2, 2)),
    ((9, 4, 3), 3, (3, 1), (1, 1)),
    ((21, 1, 5), 5, (9, 1), (1, 1)),
    ((6, 7, 1), 5, (3, 3), (1, 1)),
    # Wide rows on M4: five and seven taps, and what is padded to them.
    ((9, 11, 3), 3, (7, 7), (1, 1)),
    ((12, 3, 2), 4, (5, 5), (2, 1)),
    ((1, 14, 3), 3, (1, 5), (1, 1)),
    ((8, 9, 4), 4, (2, 4), (2, 1)),
    ((9, 8, 2), 4, (3, 6), (1, 1)),
    ((3, 20, 2), 2, (11, 7), (1, 1)),
]


def _same(core: str, models: list[bytes], folder: Path) -> None:
    values = [many_nets.inputs(m, 3, seed=i) for i, m in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_core(core, models, values, folder)
    assert not many_nets.differences(list(range(len(models))), got, want)


def _layer(shape: Shape, seed: int, *, depthwise: bool, change: Callable | None = None) -> bytes:
    size, channels, kernel, stride = shape
    net = nets.NetBuilder((1, *size), seed=seed)
    x = net.conv(
        *(net.input, channels, kernel, stride),
        zeros=None,
        depthwise=depthwise,
        same=seed % 3 > 0 or kernel[0] > size[0] or kernel[1] > size[1],
        activation=["NONE", "RELU", "RELU6", "RELU_N1_TO_1"][seed % 4],
    )
    if change is not None:
        change(net, x)
    if seed % 2:  # something that wants a border
        x = net.conv(x, net.shape(x)[3], (3, 3), depthwise=True)
    return net.finish(x)


@pytest.mark.parametrize("core", CORES)
def test_shapes(tmp_path: Path, core: str) -> None:
    shapes = [s for s in CONVOLUTIONS * 2 if core not in SWAR_CORES or s[3][1] <= 2]
    models = [_layer(s, i, depthwise=False) for i, s in enumerate(shapes)]
    models += [_layer(s, i, depthwise=True) for i, s in enumerate(DEPTHWISE * 2)]
    _same(core, models, tmp_path)


@pytest.mark.parametrize(
    ("size", "channels", "kernel"),
    [((16, 16, 32), 32, (3, 3)), ((49, 10, 1), 64, (10, 4)), ((25, 5, 64), 64, (1, 1))],
)
def test_the_cost_of_dot_products_is_what_they_take(
    tmp_path: Path, size: tuple[int, int, int], channels: int, kernel: tuple[int, int]
) -> None:
    """Within a tenth: ternary layers are dense where the estimate says so."""
    net = nets.NetBuilder((1, *size), seed=1)
    stride = (2, 2) if kernel == (10, 4) else (1, 1)
    x = net.conv(net.input, channels, kernel, stride, zeros=None)
    rows, columns = net.shape(x)[1:3]
    plan = dot_conv.plan(
        Int8Conv(
            np.ones((channels, size[2], *kernel), np.int8),
            [0] * channels,
            [Multiplier(1 << 30, -9)] * channels,
            stride,
            (1, 1),
            0,
            Layout(size[2], size[0], size[1], 0),
            Layout(channels, rows, columns, 0),
            0,
            (-128, 127),
        )
    )
    assert plan is not None
    taken = mcu.layer(net.finish(x), "m55", tmp_path, optimize="speed")
    assert plan.cost == pytest.approx(taken, rel=0.1)


def test_ternary_layers_are_dense_where_that_is_cheaper(tmp_path: Path) -> None:
    for zeros, dense in ((0.3, True), (0.5, True), (0.9, False)):
        net = nets.NetBuilder((1, 16, 16, 32), seed=1)
        model = net.finish(net.conv(net.input, 32, zeros=zeros))
        for optimize in OPTIMIZE:
            note = to_c(model, tmp_path, core="m55", optimize=optimize).layers[0].note
            assert ("dot products" in note) == (dense and optimize != "size"), (zeros, optimize)


MASKED: list[Shape] = [
    ((12, 12, 32), 12, (3, 3), (1, 1)),
    ((11, 9, 32), 10, (3, 3), (1, 1)),
    ((13, 17, 16), 22, (3, 3), (2, 2)),
    ((9, 14, 24), 2, (5, 2), (1, 1)),
    ((10, 16, 192), 4, (3, 3), (1, 1)),  # pixels in chunks
    ((25, 8, 32), 18, (1, 1), (1, 1)),
    ((12, 10, 32), 9, (3, 3), (1, 1)),  # an odd number of channels: lists
]


def test_masks_of_the_smallest_build(tmp_path: Path) -> None:
    """Ternary layers of M55 that are decoded a few channels at a time."""
    models = [
        _masked(shape, i, zeros, change)
        for zeros in (0.3, 0.5)
        for i, shape in enumerate(MASKED)
        for change in (None, _factor(0.6))
    ]
    notes = [
        to_c(model, tmp_path / "notes", core="m55", optimize="size").layers[0].note
        for model in models
    ]
    assert sum("masks" in note for note in notes) >= 12
    assert not any("masks" in note for note in notes[-2:])
    for first in range(0, len(models), 10):
        few = models[first : first + 10]
        values = [many_nets.inputs(m, 3, seed=i) for i, m in enumerate(few)]
        want = [many_nets.reference(m, v) for m, v in zip(few, values, strict=True)]
        got = many_nets.on_core("m55", few, values, tmp_path / str(first), optimize="size")
        assert not many_nets.differences(list(range(len(few))), got, want)


def _masked(shape: Shape, seed: int, zeros: float, change: Callable | None) -> bytes:
    size, channels, kernel, stride = shape
    net = nets.NetBuilder((1, *size), seed=seed)
    activation = ["NONE", "RELU", "RELU6"][seed % 3]
    x = net.conv(net.input, channels, kernel, stride, zeros=zeros, activation=activation)
    if change is not None:
        change(net, x)
    if seed % 2:  # something that wants a border
        x = net.conv(x, net.shape(x)[3], (3, 3), depthwise=True)
    return net.finish(x)


def _factor(factor: float) -> Callable[[nets.NetBuilder, int], None]:
    """Makes the multipliers of the last layer about `factor`, from channel to channel different."""

    def change(net: nets.NetBuilder, x: int) -> None:
        op = net.graph.operators[-1]
        filters = net.graph.tensors[op.inputs[1]]
        spread = net.random.uniform(0.3, 1.5, len(filters.quantization.scale))
        scale_in, scale_out = net.quantisation(op.inputs[0])[0], net.quantisation(x)[0]
        scales = (factor * spread * scale_out / scale_in).astype(np.float32)
        filters.quantization.scale = scales.tolist()
        net.graph.tensors[op.inputs[2]].quantization.scale = (scales * scale_in).tolist()
        weights = net.model.buffers[filters.buffer]
        weights.data = np.sign(np.array(weights.data, np.uint8).view(np.int8)).view(np.uint8)

    return change


@pytest.mark.parametrize("core", CORES)
def test_multipliers_around_and_above_a_half(tmp_path: Path, core: str) -> None:
    models = []
    for i, factor in enumerate([0.3, 0.5, 1.0, 5.0, 40.0]):
        change = _factor(factor)
        models.append(_layer(CONVOLUTIONS[1], i, depthwise=False, change=change))
        models.append(_layer(CONVOLUTIONS[4], i, depthwise=False, change=change))
        models.append(_layer(DEPTHWISE[0], i, depthwise=True, change=change))
        models.append(_layer(DEPTHWISE[3], i, depthwise=True, change=change))
        models.append(_layer(DEPTHWISE[6], i, depthwise=True, change=change))
        models.append(_layer(DEPTHWISE[11], i, depthwise=True, change=change))
    _same(core, models, tmp_path)


def _least(net: nets.NetBuilder, _: int) -> None:
    """Some weights of -128, which TensorFlow Lite's converter never writes."""
    buffer = net.model.buffers[net.graph.tensors[net.graph.operators[-1].inputs[1]].buffer]
    values = np.array(buffer.data, np.uint8).view(np.int8)
    buffer.data = np.where(values < -110, -128, values).astype(np.int8).view(np.uint8)


@pytest.mark.parametrize("core", CORES)
def test_wide_sums_and_the_least_weight(tmp_path: Path, core: str) -> None:
    shapes = [s for s in CONVOLUTIONS[:9] if core not in SWAR_CORES or s[3][1] <= 2]
    models = [_layer(s, i, depthwise=False, change=_least) for i, s in enumerate(shapes)]
    models += [_layer(s, i, depthwise=True, change=_least) for i, s in enumerate(DEPTHWISE)]
    net = nets.NetBuilder((1, 4, 4, 130), seed=5)  # 1,170 taps
    models.append(net.finish(net.conv(net.input, 5, zeros=None)))
    _same(core, models, tmp_path)


@pytest.mark.parametrize("core", CORES)
def test_dead_channels_of_a_net_of_int8_layers(tmp_path: Path, core: str) -> None:
    model = deadened(nets.mobilenet(zeros=None), 7, share=0.3)
    report = to_c(model, tmp_path / "c", core=core)
    assert report.flash < 0.9 * to_c(nets.mobilenet(zeros=None), tmp_path / "c", core=core).flash
    assert tflite.read(model).operators
    _same(core, [model], tmp_path)


@pytest.mark.parametrize("core", ["m4", pytest.param("m33", marks=pytest.mark.slow), "m55"])
def test_fully_connected_rows(tmp_path: Path, core: str) -> None:
    """Rows in eights (M55: fours), twos and one, inputs that are no multiple of 8; whole-image
    convolutions; sums of more than 24 bits and weights of -128, which may go another way."""
    models = []
    for i, (inputs, outputs) in enumerate([(8, 8), (37, 11), (64, 10), (3, 1), (90, 2), (5, 25)]):
        net = nets.NetBuilder((1, inputs), seed=i)
        x = net.dense(net.input, outputs, zeros=None, relu=i % 2 == 0)
        models.append(net.finish(net.dense(x, 4, zeros=0.6)))
    net = nets.NetBuilder((1, 5, 3, 7), seed=3)
    x = net.conv(net.input, 7, (3, 3), zeros=None)
    models.append(net.finish(net.conv(x, 21, (5, 3), zeros=None, same=False)))
    net = nets.NetBuilder((1, 2000), seed=4)
    models.append(net.finish(net.dense(net.input, 3, zeros=None)))
    assert not paired_rows.fits(np.full((2, 2000), 127, np.int8))
    net = nets.NetBuilder((1, 40), seed=5)
    x = net.dense(net.input, 6, zeros=None)
    _least(net, x)
    models.append(net.finish(x))
    _same(core, models, tmp_path)
