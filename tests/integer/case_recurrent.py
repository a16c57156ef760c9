"""Random nets of one operator with a state."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph import Graph

from .nets import Net, case


def _state(net: Net, shape: tuple[int, ...], dtype: str, scale: float, zero: int = 0) -> int:
    index = net.tensor(shape, dtype, scale=scale, zero=zero)
    net.graph.tensors[index].variable = True
    return index


def _weights(net: Net, shape: tuple[int, ...], dtype: str = "int8", scale: float = 1.0) -> int:
    index = net.codes(shape, dtype, scale=scale, zero=0)
    data = net.graph.tensors[index].data
    assert data is not None
    np.maximum(data, -np.iinfo(dtype).max, out=data)
    return index


@case("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    steps, width, units = net.size(1, 20), net.size(1, 30), net.size(1, 20)
    inputs = [-1] * 24  # TensorFlow Lite Micro wants all 24
    inputs[0] = net.entry((steps, width), scale=net.scale(-7, 0))
    for gate in range(4):
        for place, count in ((1, width), (5, units)):
            scale = net.scale(-10, -7) * (8 / count) ** 0.5
            inputs[place + gate] = _weights(net, (units, count), scale=scale)
        unit = net.scale_of(inputs[0]) * net.scale_of(inputs[1 + gate])
        bias = np.rint(rng.normal(size=units) / unit).astype(np.int32)
        inputs[12 + gate] = net.graph.add(
            "bias", (units,), "int32", scale=unit, zero_point=0, data=bias
        )
    scale, zero = net.scale(-9, -6.9), int(rng.integers(-30, 30))
    inputs[18] = _state(net, (1, units), "int8", scale, zero)
    inputs[19] = _state(net, (1, units), "int16", 2.0 ** (net.size(0, 5) - 15))
    output = net.tensor((1, steps, units), scale=scale, zero=zero)
    clip = float(rng.choice([0.0, 1.0, 10.0]))
    graph = net.done(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, output, activation="tanh", cell_clip=clip
    )
    inner = [net.tensor((0,), "int16", scale=2.0**-12) for _ in range(4)]
    inner.append(net.tensor((0,), scale=scale, zero=zero))
    graph.operators[0].intermediates = tuple(inner)
    return graph


@case("SVDF")
def svdf(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    width, units, rank, steps = net.size(1, 30), net.size(1, 10), net.size(1, 3), net.size(1, 10)
    entry = net.entry((width,), scale=net.scale(-7, 0))
    features = _weights(net, (units * rank, width), scale=net.scale(-9, -7))
    times = _weights(net, (units * rank, steps), "int16", net.scale(-15, -14))
    state_scale = net.scale_of(entry) * net.scale_of(features) * width**0.5 * net.scale(-3, 0)
    unit = state_scale * net.scale_of(times)
    bias = net.graph.add(
        "bias",
        (units,),
        "int32",
        scale=unit,
        zero_point=0,
        data=rng.integers(-100000, 100000, units).astype(np.int32),
    )
    state = _state(net, (1, units * rank * steps), "int16", state_scale)
    net.graph.tensors[state].shape = (1, steps * units * rank)
    output = net.tensor((1, units), scale=unit * 2.0**21 * steps**0.5)
    given = (entry, features, times, bias, state)
    return net.done("SVDF", given, output, rank=rank, activation="relu")
