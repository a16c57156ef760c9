"""The benches behind docs/when.md: the page holds their figures, widths are read off rightly."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.graph.ternary import is_ternary, kernel_of
from ec2t_tf.export.tflite import read
from tests.bench import when, when_costs


def test_the_page_has_the_figures() -> None:
    page = (when_costs.DOCS / "when.md").read_text()
    assert page == when_costs.filled(page, when_costs.load())
    assert page == when.filled(page, when.load())


def test_right_windows_are_read_back() -> None:
    rows = {"a": {"1": {"right": "a0", "examples": 3}, "2": {"right": "80", "examples": 1}}}
    np.testing.assert_array_equal(when.right_of(rows, "a", "1"), [1, 0, 1])
    np.testing.assert_array_equal(when.right_of(rows, "a", "2"), [1])


@pytest.mark.parametrize("name", when_costs.NETS)
def test_the_nets_are_ternary_where_apply_makes_them(name: str) -> None:
    net = read(when_costs.NETS[name](0.5, 0.8))
    kernels = [(op.kind, kernel_of(net, op)) for op in net.operators]
    ternary = [(kind, is_ternary(found[2])) for kind, found in kernels if found is not None]
    expected = [kind != "DEPTHWISE_CONV_2D" for kind, _ in ternary]
    expected[0] = expected[-1] = False
    assert [one for _, one in ternary] == expected


def test_the_width_of_as_many_bytes() -> None:
    net = {"int8": {"0.5": {"packed": 100}, "1.0": {"packed": 300}, "1.5": {"packed": 700}}}
    assert when_costs.width_of(net, "packed", 200) == 0.75
    assert when_costs.width_of(net, "packed", 700) == 1.5
    assert when_costs.width_of(net, "packed", 99) is None
    assert when_costs.width_of(net, "packed", 701) is None
