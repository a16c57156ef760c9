"""Benches that train one run after another in one process."""

from __future__ import annotations

from pathlib import Path

from absl.testing import flagsaver

from ec2t_tf import methods
from tests.bench import in_process


@flagsaver.flagsaver
def test_a_flag_of_one_run_is_none_of_the_next(tmp_path: Path) -> None:
    words = ["--dataset=watch", "--target_sparsity=0.9"]
    pieces = ["--layer_shares=kept", "--hysteresis=0.2", "--frozen_from=0.8"]
    changed = in_process.settings_of([*words, *pieces], tmp_path).method
    after = in_process.settings_of(words, tmp_path).method
    assert isinstance(changed, methods.EC2T)
    assert isinstance(after, methods.EC2T)
    assert (changed.layer_shares, changed.hysteresis) == ("kept", 0.2)
    assert after.get_config() == methods.EC2T(target_sparsity=0.9).get_config()
