"""A map repeated along the batch inside a net: exact, or an error, never maps taken for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.mcu import ModelError
from tests.mcu import many_nets
from tests.net_builder import NetBuilder

Net = NetBuilder


def _mean(net: Net, x: int, *axes: int) -> int:
    shape = [n for i, n in enumerate(net.shape(x)) if i not in axes]
    out = net.tensor(tuple(shape), net.quantisation(x)[0] * 0.7, 17)
    return net.operator("MEAN", [x, net.constant(axes)], out, schema.ReducerOptionsT())


def _batched(net: Net, make: Callable[[Net, int], int], x: int) -> int:
    """An operator of one map; its output then has the batch of its input."""
    one = net.tensor((1, *net.shape(x)[1:]), *net.quantisation(x))
    out = make(net, one)
    operator = net.graph.operators[-1]
    operator.inputs = [x if i == one else i for i in operator.inputs]
    tensor = net.graph.tensors[out]
    tensor.shape = [net.shape(x)[0], *list(tensor.shape)[1:]]
    return out


CASES: dict[str, Callable[[Net, int], int]] = {
    "mean of maps": lambda net, x: _mean(net, x, 1, 2),
    "mean of rows": lambda net, x: _mean(net, x, 1),
    "mean of all": lambda net, x: _mean(net, x, 0, 1, 2),
    "softmax": lambda net, x: net.softmax(x),
    "add": lambda net, x: net.add(x, x),
    "tanh": lambda net, x: net.elementwise("TANH", x, 1 / 128, 0),
    "convolution": lambda net, x: _batched(net, lambda n, i: n.conv(i, 3), x),
    "ternary": lambda net, x: _batched(net, lambda n, i: n.conv(i, 3, zeros=0.5), x),
    "depthwise": lambda net, x: _batched(net, lambda n, i: n.conv(i, 5, depthwise=True), x),
    "whole": lambda net, x: _batched(net, lambda n, i: n.conv(i, 3, (4, 3), same=False), x),
    "pool": lambda net, x: _batched(net, lambda n, i: n.pool(i, (2, 2), (2, 2), maximum=False), x),
}


@pytest.mark.parametrize("name", CASES)
def test_exact_or_refused(tmp_path: Path, name: str) -> None:
    net = NetBuilder((1, 4, 3, 5), seed=3)
    tiled = net.tensor((3, 4, 3, 5), *net.quantisation(net.input))
    x = net.operator("TILE", [net.input, net.constant([3, 1, 1, 1])], tiled, schema.TileOptionsT())
    model = net.finish(CASES[name](net, x))
    values = many_nets.inputs(model, 4, seed=1)
    try:
        (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    except ModelError as error:
        assert name not in ("mean of maps", "mean of rows", "mean of all", "softmax", "add", "tanh")
        print(error)
        return
    want = many_nets.reference(model, values)
    assert np.unique(want).size > 3
    np.testing.assert_array_equal(got, want)
