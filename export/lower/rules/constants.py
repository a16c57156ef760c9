"""Weights of the user's layers, and numbers, as values of the net."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import Pending, Value, rule
from .ranges import array


@rule("Weight", "Constant", "Computed")
def _given(net: Net, call: Call, *_: Any) -> Value:
    """int8 codes on the scale that its fake quantisation has learnt."""
    layer = call.operation
    values = array(layer.values if call.kind == "Constant" else layer.value)
    if values.dtype.kind != "f":
        return net.constant(call.key, values)
    real = np.asarray(values, np.float32)
    return Pending(
        call.key,
        "",
        (),
        call.shape,
        in_int8=lambda scale, zero: net.codes(call.key, real, scale, zero),
        in_float=lambda: net.constant(call.key, real, "float32"),
    )
