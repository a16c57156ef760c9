"""Streams: state is kept between calls, one stream a sample, until reset."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.integer import Interpreter

from .operators import CASES, inputs_of


@pytest.mark.parametrize("name", ["UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF"])
def test_streams_go_on_and_begin_anew(name: str, rng: np.random.Generator) -> None:
    graph = CASES[name](rng)
    first, second = inputs_of(graph, rng, 3)[0], inputs_of(graph, rng, 3)[0]
    net = Interpreter(graph)
    assert net.keeps_state
    whole = [net(first), net(second)]
    for sample in range(3):  # each stream alone
        net.reset()
        for part, x in zip(whole, (first, second), strict=True):
            np.testing.assert_array_equal(net(x[sample : sample + 1])[0], part[sample])
    net.reset()
    np.testing.assert_array_equal(net(first), whole[0])
    with pytest.raises(ValueError, match=r"reset\(\) must come first"):
        net(first[:2])
