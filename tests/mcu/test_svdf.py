"""SVDF, whose state is kept from call to call, on the host and on cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import ModelError, to_c
from tests.bench import qemu
from tests.integer.operators import CASES
from tests.mcu import many_nets

SEEDS = range(40)


@pytest.mark.parametrize("core", ["host", "m0", "m55", "rv32"])
def test_equals_the_reference_call_after_call(tmp_path: Path, core: str) -> None:
    if core != "host" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    models = [tflite.write(CASES["SVDF"](np.random.default_rng(seed))) for seed in SEEDS]
    values = [many_nets.inputs(m, 12, seed=s) for m, s in zip(models, SEEDS, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    assert np.mean([w.std() for w in want]) > 20
    if core == "host":
        got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    else:
        got = many_nets.on_core(core, models, values, tmp_path)
    assert not many_nets.differences(list(SEEDS), got, want)


def test_a_state_of_8_bits_is_refused(tmp_path: Path) -> None:
    graph = CASES["SVDF"](np.random.default_rng(0))
    op = graph.operators[0]
    graph.tensors[op.inputs[4]].dtype = "int8"
    with pytest.raises(ModelError, match="SVDF needs batch 1, time weights and a state of int16"):
        to_c(tflite.write(graph), tmp_path)
