"""What C needs of an operator: one text in the errors, in `limits` and in `ec2t supported`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ec2t_tf.export import supported
from ec2t_tf.export.mcu import ModelError, limits, to_c
from ec2t_tf.export.mcu import supported as operators
from tests.net_builder import NetBuilder

Build = Callable[[NetBuilder, int], int]
# Kind: shape of the input, a net of one size, the largest size that is taken.
CASES: dict[str, tuple[tuple[int, ...], Callable[[int], Build], int]] = {
    "CONV_2D": ((1, 300, 1, 1), lambda n: lambda net, x: net.conv(x, 2, stride=(n, 1)), 255),
    "DEPTHWISE_CONV_2D": (
        (1, 300, 1, 1),
        lambda n: lambda net, x: net.conv(x, 1, stride=(n, 1), depthwise=True),
        255,
    ),
    "MAX_POOL_2D": (
        (1, 300, 1, 1),
        lambda n: lambda net, x: net.pool(x, (n, 1), (1, 1), maximum=True),
        255,
    ),
    "AVERAGE_POOL_2D": (
        (1, 300, 1, 1),
        lambda n: lambda net, x: net.pool(x, (1, 1), (n, 1), maximum=False),
        255,
    ),
    "SOFTMAX": ((1, 1), lambda n: lambda net, x: net.softmax(net.dense(x, n)), 4095),
    "LOG_SOFTMAX": ((1, 1), lambda n: lambda net, x: net.log_softmax(net.dense(x, n)), 4095),
    "FULLY_CONNECTED": ((1, 1), lambda n: lambda net, x: net.dense(x, n), 65535),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_limit_is_taken_and_one_more_is_not(tmp_path: Path, kind: str) -> None:
    shape, build, most = CASES[kind]

    def model(size: int) -> bytes:
        net = NetBuilder(shape, seed=1)
        return net.finish(build(size)(net, net.input))

    to_c(model(most), tmp_path)
    with pytest.raises(ModelError, match=re.escape(f"{kind} needs {limits()[kind]}. Received: ")):
        to_c(model(most + 1), tmp_path)


def test_an_activation_too_wide(tmp_path: Path) -> None:
    net = NetBuilder((1, 0x10000, 1, 1), seed=1)
    model = net.finish(net.pool(net.input, (1, 1), (2, 2), maximum=True))
    with pytest.raises(ModelError, match=re.escape(f"must be {limits()['']}. Received: ")):
        to_c(model, tmp_path)


def test_are_of_operators_and_printed() -> None:
    assert {kind for kind in limits() if kind} <= set(operators())
    legend = supported.legend()
    assert all(needs in legend for needs in limits().values())
