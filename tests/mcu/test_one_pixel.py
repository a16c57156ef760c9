"""Maps of one row and one column in front of everything that looks beyond the border."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.mcu import many_nets
from tests.nets import NetBuilder

Layer = Callable[[NetBuilder, int], int]


def _flat(net: NetBuilder, x: int) -> int:
    h, w, c = net.shape(x)[1:]
    return net.reshape(x, (1, h * w * c))


PRODUCERS: dict[str, Layer] = {
    "mean": lambda net, x: net.mean(x, keep=True),
    "average pool": lambda net, x: net.pool(x, (5, 4), (5, 4), maximum=False),
    "max pool": lambda net, x: net.pool(x, (5, 4), (5, 4), maximum=True),
    "whole-image convolution": lambda net, x: net.conv(x, 7, (5, 4), same=False),
    "int8 whole-image convolution": lambda net, x: net.conv(x, 7, (5, 4), zeros=None, same=False),
    "dense": lambda net, x: net.reshape(net.dense(_flat(net, x), 6), (1, 1, 1, 6)),
    "softmax": lambda net, x: net.softmax(net.mean(x, keep=True)),
    "logistic": lambda net, x: net.elementwise("LOGISTIC", net.mean(x, keep=True), 1 / 256, -128),
    "dense, logistic": lambda net, x: net.reshape(
        net.elementwise("LOGISTIC", net.dense(_flat(net, x), 6), 1 / 256, -128), (1, 1, 1, 6)
    ),
    "add": lambda net, x: net.add(net.mean(x, keep=True), net.mean(x, keep=True)),
    "concatenation": lambda net, x: net.concatenate(
        [net.mean(x, keep=True), net.mean(x, keep=True)], 3
    ),
    "strided convolution": lambda net, x: net.conv(x, 6, (3, 3), (5, 4)),
}
CONSUMERS: dict[str, Layer] = {
    "convolution": lambda net, x: net.conv(x, 8, (3, 3)),
    "int8 convolution": lambda net, x: net.conv(x, 8, (3, 3), zeros=None),
    "to the right": lambda net, x: net.conv(x, 8, (1, 2), zeros=None),
    "below": lambda net, x: net.conv(x, 8, (2, 1)),
    "wide convolution": lambda net, x: net.conv(x, 5, (4, 5), zeros=0.2),
    "dilated": lambda net, x: net.conv(x, 8, (3, 3), dilation=3),
    "depthwise": lambda net, x: net.conv(x, net.shape(x)[3], (3, 3), depthwise=True),
    "both": lambda net, x: net.add(net.conv(x, net.shape(x)[3]), x),
    "softmax beside": lambda net, x: net.concatenate(
        [
            net.softmax(x),
            net.elementwise("QUANTIZE", net.conv(x, 3), 1 / 256, -128),
        ],
        3,
    ),
    "dense beside": lambda net, x: net.add(
        net.dense(net.reshape(x, (1, net.shape(x)[3])), 4),
        net.dense(net.reshape(net.conv(x, 4, (3, 3)), (1, 4)), 4),
    ),
    "pool": lambda net, x: net.pool(x, (3, 3), (1, 1), maximum=True, same=True),
    "mean beside": lambda net, x: net.concatenate(
        [
            net.mean(x, keep=True),
            net.elementwise("QUANTIZE", net.conv(x, 3), *net.quantisation(net.mean(x))),
        ],
        3,
    ),
}


def test_every_producer_before_every_consumer(tmp_path: Path) -> None:
    """A net a consumer: behind every producer, each of which has the border of this one alone."""
    models = []
    for seed, take in enumerate(CONSUMERS.values()):
        net = NetBuilder((1, 5, 4, 3), seed=seed)
        outputs = []
        for make in PRODUCERS.values():
            x = net.conv(net.input, 6, (1, 1))
            outputs.append(take(net, make(net, x)))
        models.append(net.finish(*outputs))
    values = [many_nets.inputs(model, 4, seed=1) for model in models]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    assert not many_nets.differences(list(CONSUMERS), got, want)
