"""Estimates beside QEMU's counts, for nets that the table of costs was not made of."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tests.bench import mcu_estimates, qemu

FAST = {"m4": ["ds_cnn, 80 % zeros", "resnet8, int8"], "m0": ["ds_cnn, 80 % zeros"]}


def _check(core: str, names: list[str]) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    every = mcu_estimates.ours()
    rows = mcu_estimates.errors({name: every[name]() for name in names}, core)
    for name, _, cycles, off, cycles_off in rows:
        assert abs(off) <= 0.05, f"{name}: instructions {off:+.1%}"
        assert np.isnan(cycles_off) == (core not in qemu.TIMINGS), name
        if cycles:
            assert abs(cycles_off) <= 0.05, f"{name}: cycles {cycles_off:+.1%}"


@pytest.mark.parametrize("core", FAST)
def test_estimates_are_within_five_percent(core: str) -> None:
    _check(core, FAST[core])


@pytest.mark.slow
@pytest.mark.parametrize("core", [*qemu.CORES, "rv32", "rv32_unaligned"])
def test_all_estimates_are_within_five_percent(core: str) -> None:
    _check(core, [f"{name}, 80 % zeros" for name in nets.NETS] + list(mcu_estimates.INT8_NETS))
