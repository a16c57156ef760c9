"""SOFTMAX and LOG_SOFTMAX are the fixed point of LiteRT's reference: all pairs and triples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ec2t_tf.export.mcu import ModelError, to_c
from tests import nets
from tests.mcu import many_nets

# Scale of the input and beta.
SCALES = [(0.1605089, 1.0), (0.02, 1.0), (1.0, 1.0), (0.3, 0.5), (2.7, 3.0), (0.004, 1.0)]


def _model(shape: tuple[int, ...], scale: float, beta: float) -> bytes:
    net = nets.NetBuilder(shape, seed=0)
    net.graph.tensors[net.input].quantization.scale = [scale]
    out = net.softmax(net.input)
    net.graph.operators[-1].builtinOptions.beta = beta
    return net.finish(out)


def _logarithm(shape: tuple[int, ...], scale: float) -> bytes:
    net = nets.NetBuilder(shape, seed=0)
    net.graph.tensors[net.input].quantization.scale = [scale]
    return net.finish(net.log_softmax(net.input))


def _models(shape: tuple[int, ...]) -> list[bytes]:
    return [
        *(_model(shape, *s) for s in SCALES),
        *(_logarithm(shape, scale) for scale in (0.1605089, 1.0, 0.004)),
    ]


def _compare(models: list[bytes], values: npt.NDArray[np.int8], folder: Path) -> None:
    want = [nets.reference(model, values) for model in models]
    got = many_nets.on_host(models, [values] * len(models), folder, sanitize=False)
    for number, (g, w) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_array_equal(g.reshape(w.shape), w, err_msg=f"model {number}")


def test_every_pair(tmp_path: Path) -> None:
    codes = np.arange(-128, 128)
    values = np.stack(np.meshgrid(codes, codes), axis=-1).astype(np.int8)[None]
    _compare(_models((1, 256, 256, 2)), values, tmp_path)


def test_every_triple(tmp_path: Path) -> None:
    """Every pair of differences from the greatest, which decide."""
    codes = np.arange(-128, 128)
    a, b = np.meshgrid(codes, codes)
    values = np.stack([b, np.full_like(a, 127), a], axis=-1).astype(np.int8)[None]
    _compare(_models((1, 256, 256, 3)), values, tmp_path)


def test_the_value_of_the_reference(tmp_path: Path) -> None:
    model = _model((1, 3), 0.1605089, 1.0)
    values = np.array([[127, 109, 65]], np.int8)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert got.tolist() == [[115, -115, -128]]
    np.testing.assert_array_equal(got, nets.reference(model, values))


def test_many_classes(tmp_path: Path) -> None:
    """No room for more than 4095 powers in the sum."""
    models = [_model((1, 500), 0.05, 1.0), *(_logarithm((1, n), 0.05) for n in (1, 10, 500))]
    values = [nets.inputs(model, 20, seed=3) for model in models]
    for v in values:
        v[2:] = v[2:] // 3
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    for model, v, g in zip(models, values, got, strict=True):
        np.testing.assert_array_equal(g, nets.reference(model, v))
    with pytest.raises(ModelError, match="dimensions of at most 4,095"):
        to_c(_model((1, 4096), 0.05, 1.0), tmp_path)
