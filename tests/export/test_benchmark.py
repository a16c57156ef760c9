"""What a benchmark says of figures; the figures themselves are nobody's to assert."""

from __future__ import annotations

from ec2t_tf.export.benchmark import Benchmark, Row

LONG = "functional/a_block_with_a_long_name/another_block_with_a_long_name/conv_17_of_23"
STOCK = Row("int8, stock interpreter (XNNPACK)", 1000.0, 1.0)


def of(ours: float, layers: list[Row], time: float = 1000.0, ternary: int = 1) -> Benchmark:
    whole = [Row(STOCK.name, time, 1.0), Row("packed, ec2t_tf", time * ours, ours)]
    return Benchmark(whole, layers, 1, ternary)


def test_a_gain_needs_no_words() -> None:
    found = of(0.5, [Row(LONG, 300.0, 0.4, 0.8)])
    assert found.reason == ""
    assert LONG in str(found)
    assert "80.0%" in str(found)


def test_no_ternary_layer() -> None:
    assert "no layer of the file is ternary" in of(0.8, [], ternary=0).reason


def test_no_layer_is_faster() -> None:
    reason = of(1.2, [Row("dense", 30.0, 1.3, 0.5), Row("conv", 30.0, 1.1, 0.6)]).reason
    assert "conv, takes 1.10 of its time at 60% zeros" in reason
    assert "whole net" not in reason


def test_the_rest_takes_the_time() -> None:
    reason = of(0.98, [Row("conv", 50.0, 0.5, 0.8)]).reason
    assert "the ternary layers take 10% of the time" in reason


def test_a_small_net() -> None:
    assert "the whole net takes 12 us" in of(1.3, [Row("a", 9.0, 1.5, 0.8)], time=12.0).reason


def test_between_layers() -> None:
    assert "changes of layout between them" in of(1.0, [Row("a", 450.0, 0.5, 0.8)]).reason
