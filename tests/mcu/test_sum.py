"""SUM against tflite-micro: the reference of LiteRT wraps around where it should saturate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests import nets
from tests.mcu import many_nets

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")


@pytest.mark.parametrize("axes", [[0, 1, 2], [1], [2], [1, 2]])
def test_equals_micro(tmp_path: Path, axes: list[int]) -> None:
    models, values, want = [], [], []
    for seed, (scale, zero_point) in enumerate([(0.05, -3), (0.013, 0), (0.3, -128), (1.1, 40)]):
        net = nets.NetBuilder((1, 9, 8, 7), seed=seed)
        sizes = [n for i, n in enumerate((1, 9, 8, 7)) if i not in axes]
        out = net.tensor(tuple(sizes), scale, zero_point)
        options = schema.ReducerOptionsT()
        model = net.finish(net.operator("SUM", [net.input, net.constant(axes)], out, options))
        micro = runtime.Interpreter.from_bytes(model)
        given = nets.inputs(model, 8, seed=seed)
        outputs = []
        for value in given:
            micro.set_input(value[None], 0)
            micro.invoke()
            outputs.append(micro.get_output(0).reshape(-1))
        models.append(model)
        values.append(given)
        want.append(np.stack(outputs))
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    assert not many_nets.differences(list(range(len(models))), got, want)
