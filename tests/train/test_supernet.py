"""Compound scaling: the specification's rounding, and searches that resume."""

from __future__ import annotations

import keras
import pytest

from ec2t_tf import supernet
from ec2t_tf.supernet import compound_scale, round_blocks, round_channels


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(1, 8), (12, 16), (16, 16), (19.9, 24), (20, 24), (30.3, 32), (60.6, 64), (121.1, 120)],
)
def test_channels_round_to_the_nearest_multiple_of_8(channels, rounded):
    assert round_channels(channels) == rounded


def test_channels_lose_at_most_a_tenth():
    for tenths in range(80, 2000):
        channels = tenths / 10
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert abs(rounded - channels) <= 4 or channels < 40


def test_blocks_round_up():
    assert round_blocks(22.73) == 23
    assert round_blocks(7 * 1.1**0) == 7
    assert round_blocks(10 * (0.1 + 0.2)) == 3  # 3.0000000000000004
    assert round_blocks(0.2) == 1


def build(*, depth: float, width: float) -> keras.Model:
    layers = [keras.Input((4,))]
    layers += [keras.layers.Dense(round_channels(8 * width)) for _ in range(round_blocks(depth))]
    return keras.Sequential(layers)


def test_compound_scale_takes_powers():
    model = compound_scale(build, depth=2.0, width=2.0, phi=2.0)
    assert [layer.units for layer in model.layers] == [32] * 4
    assert len(compound_scale(build, depth=2.0, width=2.0, phi=0).layers) == 1


@pytest.mark.parametrize("bad", [{"depth": 0}, {"width": -1.0}, {"phi": -1}, {"phi": float("nan")}])
def test_compound_scale_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        compound_scale(build, **{"depth": 1.0, "width": 1.0, "phi": 1.0, **bad})


class Evaluate:
    """Stands for training: accuracy grows with the parameters. Dies after `lives` nets."""

    def __init__(self, lives: int = 100):
        self.lives = lives
        self.seen: list[int] = []

    def __call__(self, model: keras.Model) -> float:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        self.seen.append(model.count_params())
        return 1 - 1 / model.count_params()


GRID = ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0))


def test_a_killed_search_resumes_to_the_same_result(tmp_path):
    uninterrupted = supernet.search_depth_width(
        build, Evaluate(), grid=GRID, rows=tmp_path / "whole.csv"
    )
    with pytest.raises(KeyboardInterrupt):
        supernet.search_depth_width(build, Evaluate(lives=2), grid=GRID, rows=tmp_path / "cut.csv")
    rest = Evaluate()
    resumed = supernet.search_depth_width(build, rest, grid=GRID, rows=tmp_path / "cut.csv")
    assert resumed == uninterrupted
    assert len(rest.seen) == 1
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (resumed.best.depth, resumed.best.width) == (2.0, 1.0)
    assert resumed.best.parameters == 112
    assert resumed.best.macs == 96


def test_phi_stops_at_the_target(tmp_path):
    evaluate = Evaluate()
    result = supernet.search_phi(
        build,
        evaluate,
        depth=2.0,
        width=1.0,
        phis=(3, 1, 2),
        target_accuracy=1 - 1 / 200,
        rows=tmp_path / "rows.csv",
    )
    assert [trial.phi for trial in result.trials] == [1.0, 2.0]
    assert result.reached
    assert result.best.phi == 2.0
    assert "99.61 % *" in result.table()
    result.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_an_unreached_target_is_said(tmp_path):
    result = supernet.search_phi(
        build,
        Evaluate(),
        depth=2.0,
        width=1.0,
        phis=(1, 2),
        target_accuracy=1.0,
        rows=tmp_path / "rows.csv",
    )
    assert not result.reached
    assert result.best.phi == 2.0


def test_per_cent_is_refused(tmp_path):
    with pytest.raises(ValueError, match="per cent"):
        supernet.search_depth_width(build, lambda _: 97.0, rows=tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="per cent"):
        supernet.search_phi(
            build, lambda _: 1, depth=1, width=1, target_accuracy=97, rows=tmp_path / "rows.csv"
        )
