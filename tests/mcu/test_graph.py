"""The reader of .tflite files: what it reads, and that damaged files end in ModelError."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import ModelError, to_c
from tests import nets


def test_reads_shapes_scales_and_options() -> None:
    net = tflite.read(nets.ds_cnn())
    first = net.operators[0]
    assert first.kind == "CONV_2D"
    assert first.options["stride"] == (2, 2)
    assert net.tensors[first.inputs[1]].shape == (64, 10, 4, 1)
    assert net.tensors[first.inputs[1]].scale.shape == (64,)
    assert net.tensors[net.inputs[0]].shape == (1, 49, 10, 1)


def test_names_what_is_not_a_model() -> None:
    with pytest.raises(ModelError, match="'TFL3'"):
        tflite.read(b"not a model at all")


def test_names_an_operator_it_does_not_know(tmp_path) -> None:
    net = nets.NetBuilder((1, 4, 4, 2), seed=1)
    a = net.input
    out = net.tensor((1, 4, 4, 2), 0.1, 0)
    model = net.finish(net.operator("COS", [a], out))
    with pytest.raises(ModelError, match=r"operator COS \(number 0\) is not supported"):
        to_c(model, tmp_path)


@pytest.mark.parametrize("option", [{"core": "m1"}, {"optimize": "zip"}, {"name": "2 nets"}])
def test_refuses_options_it_does_not_know(tmp_path, option: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Received"):
        to_c(nets.lenet5(), tmp_path, **option)


@pytest.mark.parametrize("seed", range(300))
def test_damaged_files_never_escape_as_other_errors(tmp_path, seed: int) -> None:
    """Replay one case with -k 'other_errors[<seed>]'."""
    random = np.random.default_rng(seed)
    data = bytearray(_SMALL)
    if seed % 3 == 0:
        data = data[: random.integers(8, len(data))]
    else:
        for _ in range(random.integers(1, 6)):
            place = int(random.integers(8, len(data)))
            data[place] = int(random.integers(0, 256))
    with contextlib.suppress(ModelError):
        to_c(bytes(data), tmp_path, core="m4")


def _small() -> bytes:
    net = nets.NetBuilder((1, 6, 6, 2), seed=3)
    x = net.conv(net.input, 4)
    x = net.add(x, net.conv(x, 4))
    x = net.pool(x, (2, 2), (2, 2), maximum=False)
    return net.finish(net.dense(net.reshape(x, (1, 36)), 3, zeros=None))


_SMALL = _small()
