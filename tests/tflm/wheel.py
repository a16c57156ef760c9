"""The tflite-micro wheel's interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest


def outputs(
    model: bytes, values: npt.NDArray[np.int8], *, operators: Sequence[str] = ()
) -> npt.NDArray[np.int8]:
    """Outputs of TFLM, one image at a time; `operators` name registration functions."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    interpreter = runtime.Interpreter.from_bytes(model, custom_op_registerers=list(operators))
    results = []
    for value in values:
        interpreter.set_input(value[None], 0)
        interpreter.invoke()
        results.append(interpreter.get_output(0)[0])
    return np.stack(results)
