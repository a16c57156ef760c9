"""Maps of several examples inside a net, as a TimeDistributed has them: exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.lower import graph_of
from ec2t_tf.export.tflite import write
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


def _chain(net: Net, x: int) -> int:
    """A residual block: what stays apart between its maps too."""
    y = _batched(net, lambda n, i: n.conv(i, 5), x)
    y = net.add(x, net.elementwise("TANH", y, 1 / 128, 0))
    return _batched(net, lambda n, i: n.pool(i, (2, 2), (1, 1), maximum=False), y)


def _flat(net: Net, x: int) -> int:
    """[examples, values]."""
    sizes = net.shape(x)[0], int(np.prod(net.shape(x)[1:]))
    flat = net.tensor(sizes, *net.quantisation(x))
    return net.operator("RESHAPE", [x, net.constant(sizes)], flat, schema.ReshapeOptionsT())


def _rows(net: Net, x: int) -> int:
    """Flattened, each example a step of a sequence."""
    flat = _flat(net, x)
    sizes = (1, *net.shape(flat))
    out = net.tensor(sizes, *net.quantisation(x))
    return net.operator("RESHAPE", [flat, net.constant(sizes)], out, schema.ReshapeOptionsT())


def _numbers(net: Net, x: int, *shape: int) -> int:
    """Added to constants of that shape."""
    data = net.random.integers(-99, 99, shape or net.shape(x)).astype(np.int8)
    return net.add(x, net.tensor(data.shape, 0.03, 5, data), relu=False)


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
    "chain": lambda net, x: _mean(net, _chain(net, x), 1, 2),
    "chain of two uses": lambda net, x: net.add(_chain(net, x), _chain(net, x)),
    "rows": lambda net, x: _rows(net, _chain(net, x)),
    "numbers of each map": lambda net, x: _numbers(net, _chain(net, x)),
    "numbers of each row": lambda net, x: _numbers(net, _flat(net, _chain(net, x))),
    "numbers for all rows": lambda net, x: _numbers(
        net, flat := _flat(net, _chain(net, x)), 1, net.shape(flat)[1]
    ),
}


@pytest.mark.few(14)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("differ", [True, False])
def test_exact(tmp_path: Path, name: str, differ: bool) -> None:
    """Of examples that differ, and of one that is repeated."""
    net = NetBuilder((1, 12 if differ else 4, 3, 5), seed=3)
    several = net.tensor((3, 4, 3, 5), *net.quantisation(net.input))
    if differ:
        sizes = net.constant([3, 4, 3, 5])
        x = net.operator("RESHAPE", [net.input, sizes], several, schema.ReshapeOptionsT())
    else:
        times = net.constant([3, 1, 1, 1])
        x = net.operator("TILE", [net.input, times], several, schema.TileOptionsT())
    model = net.finish(CASES[name](net, x))
    values = many_nets.inputs(model, 4, seed=1)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    want = many_nets.reference(model, values)
    assert np.unique(want).size > 3
    np.testing.assert_array_equal(got, want)


def test_a_state_for_fewer_sequences_is_refused(tmp_path: Path) -> None:
    source = keras.Input((4, 6, 3))
    x = keras.layers.TimeDistributed(keras.layers.LSTM(4))(source)
    model = keras.Model(source, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    made = ec2t_tf.apply(model, policy=ec2t_tf.Policy([ec2t_tf.Rule("int8")]), verbose=0)
    made(np.zeros((1, 4, 6, 3), np.float32), training=True)
    graph = graph_of(made)
    export.to_c(write(graph), tmp_path / "whole")
    (loop,) = (op for op in graph.operators if op.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    state = loop.inputs[18]
    graph.tensors[state] = dataclasses.replace(graph.tensors[state], shape=(1, 4))
    with pytest.raises(ValueError, match=r"LSTM of \(4, 6, 3\)"):
        export.to_c(write(graph), tmp_path / "damaged")
