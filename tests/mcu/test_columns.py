"""Maps of one column become maps of one row, and no output changes."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from ec2t_tf import export
from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.columns import without_columns
from tests import nets
from tests.bench import mcu, qemu
from tests.mcu import many_nets


def _random_net(seed: int) -> bytes:
    """A 1-D net: kernels wider than their map, strides, dilation, residuals, what is not turned."""
    random = np.random.default_rng(seed)

    def number(least: int, most: int) -> int:
        return int(random.integers(least, most + 1))

    width = 1 if random.random() < 0.7 else number(2, 4)
    net = nets.NetBuilder((1, number(2, 24), width, number(1, 6)), seed=seed)
    x = net.input
    if width > 1:
        x = net.conv(x, number(1, 9), (1, width), same=False)
    for _ in range(number(2, 5)):
        rows, channels = net.shape(x)[1], net.shape(x)[3]
        kind = number(0, 8)
        zeros = random.choice([None, None, 0.5, 0.9])
        if kind <= 3:
            depthwise = bool(random.random() < 0.5)
            same = bool(random.random() < 0.7)
            kernel = number(1, min(rows, 6)), number(1, 4) if same else 1
            stride = (number(1, 3), number(1, 2))
            dilation = number(1, 2) if stride == (1, 1) and same else 1
            outputs = channels * number(1, 2) if depthwise else number(1, 20)
            x = net.conv(
                *(x, outputs, kernel, stride),
                zeros=zeros,
                same=same,
                depthwise=depthwise,
                dilation=dilation,
            )
        elif kind == 4:
            y = net.conv(x, channels, (3, 1), zeros=zeros, depthwise=True)
            x = net.add(x, y)
        elif kind == 5:
            x = net.pool(
                x, (min(rows, 2), number(1, 2)), (2, 1), maximum=number(0, 1) == 1, same=True
            )
        elif kind == 6:
            x = net.concatenate([x, x], number(1, 3) if channels < 20 else 1)
            if net.shape(x)[2] > 1:
                x = net.conv(x, 4, (1, net.shape(x)[2]), same=False)
        elif kind == 7:
            x = net.elementwise("HARD_SWISH", x, 2 * net.quantisation(x)[0], -20)
        else:
            x = net.pad(x, [[0, 0], [number(0, 2), number(0, 2)], [0, 0], [0, 0]])
    if random.random() < 0.5:
        x = net.dense(net.mean(x), 5)
    elif random.random() < 0.5:
        x = net.dense(net.reshape(x, (1, int(np.prod(net.shape(x))))), 5)
    return net.finish(x)


def test_random_nets_stay_the_same(tmp_path: Path) -> None:
    seeds = range(60)
    print(f"seeds {seeds}")
    models = [_random_net(seed) for seed in seeds]
    values = [nets.inputs(m, 3, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [nets.reference(m, v).reshape(3, -1) for m, v in zip(models, values, strict=True)]
    changed = [without_columns(net) is not net for net in map(tflite.read, models)]
    assert sum(changed) > len(seeds) / 3
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    assert not many_nets.differences(list(seeds), got, want)


def test_what_needs_a_column_gets_one() -> None:
    net = nets.NetBuilder((1, 9, 3, 2), seed=1)
    x = net.conv(net.input, 4, (1, 3), same=False)
    x = net.conv(x, 4, (3, 3))
    x = net.conv(x, 4, (5, 1), depthwise=True)
    x = net.concatenate([x, x], 2)
    given = tflite.read(net.finish(net.conv(x, 3, (1, 2), same=False)))
    turned = without_columns(given)
    assert [op.kind for op in turned.operators] == [
        "CONV_2D",
        "RESHAPE",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "RESHAPE",
        "CONCATENATION",
        "CONV_2D",
    ]
    assert turned.tensors[turned.operators[2].inputs[1]].shape == (4, 1, 3, 4)
    assert turned.tensors[given.operators[1].outputs[0]].shape == (1, 1, 9, 4)


def test_nets_of_maps_with_columns_are_left_alone() -> None:
    net = tflite.read(nets.ds_cnn())
    assert without_columns(net) is net


def test_the_header_says_the_shapes_of_the_file(tmp_path: Path) -> None:
    net = nets.NetBuilder((1, 9, 1, 4), seed=1)
    to_c(net.finish(net.conv(net.input, 6, (3, 1))), tmp_path)
    header = (tmp_path / "model.h").read_text()
    assert "input: shape [1, 9, 1, 4]" in header
    assert "output: shape [1, 9, 1, 6]" in header


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize("core", ["m3", "m4", "m55"])
def test_a_column_takes_about_what_a_row_takes(tmp_path: Path, core: str) -> None:
    """A 1-D net of the three kinds of layers, and the same turned by 90 degrees."""
    counts = []
    for turn in (False, True):
        net = nets.NetBuilder((1, 1, 32, 8) if turn else (1, 32, 1, 8), seed=1)
        kernel = (1, 5) if turn else (5, 1)
        x = net.conv(net.input, 16, kernel, zeros=None)
        x = net.conv(x, 16, kernel, zeros=None, depthwise=True)
        x = net.conv(x, 16, kernel, zeros=0.8)
        counts.append(mcu.whole(net.finish(x), core, tmp_path / str(turn))["instructions"])
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


def test_normalisations_between_columns(tmp_path: Path) -> None:
    """One of them was turned in its int8 ends and not inside, and then no normalisation for C."""
    source = keras.Input((12, 1, 4))
    x = layers.Conv2D(6, (3, 1), padding="same")(source)
    for norm in (layers.LayerNormalization((1, 3)), layers.LayerNormalization((1, 2, 3))):
        x = layers.Conv2D(6, (3, 1), padding="same", activation="relu")(norm(x))
    model = keras.Model(source, layers.Dense(3)(layers.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(20, 12, 1, 4)).astype(np.float32)
    file = export.to_tflite(model, tmp_path / "m.tflite", representative_data=data)
    found = export.verify_c(file)
    assert found.passes(), found
