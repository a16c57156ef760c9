"""Fake quantisations, which give an operator its output range; and what does nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ..calls import Call, kind_of
from ..net import Net
from ..pending import NoRuleError, Value, quantisation, rule


def array(variable: Any) -> np.ndarray:
    """Of a variable or a backend's tensor."""
    return np.asarray(keras.ops.convert_to_numpy(variable))


def knows_ranges(operations: Iterable[Any]) -> bool:
    """Whether any batch has been seen: a range of one that is not empty."""
    learnt = (x for x in operations if kind_of(x) == "FakeQuant" and x.kind != "fixed")
    return any(float(array(x.smallest)) < float(array(x.largest)) for x in learnt)


@rule("FakeQuant")
def _fake_quant(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    low, high = float(array(layer.smallest)), float(array(layer.largest))
    if not (low < high or net.dry or net.trained):
        raise ValueError(
            f"The range of '{call.name}' must be known. Received: a model that has seen no batch "
            "of training. Train it first, or call model(batch, training=True)."
        )
    scale, zero_point = quantisation(low, high)
    return net.with_range(given, scale, zero_point, call.key)


@rule(
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "Identity", "RandomFlip", "RandomCrop"),
    *("RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast", "RandomBrightness"),
    *("RandomShear", "RandomHue", "RandomSaturation", "RandomGrayscale", "RandomColorJitter"),
    *("RandomErasing", "RandomInvert", "RandomSharpness", "RandomPosterization"),
    *("RandomGaussianBlur", "RandomColorDegeneration", "RandomPerspective", "Copy"),
    *("InTraining", "FiniteSlope"),
)
def _nothing(net: Net, call: Call, given: Value, *_: Any) -> Value:
    if net.shape(given) != call.shape:
        raise NoRuleError(f"'{call.name}' must not change the shape at inference.")
    return given


@rule("Cast")
def _cast(net: Net, call: Call, given: Value, *_: Any) -> Value:
    index = net.settled(given)
    tensor = net.tensor(index)
    is_real = call.dtypes[0].startswith(("float", "bfloat"))
    if tensor.dtype == call.dtypes[0] or (is_real and tensor.dtype in ("int8", "float32")):
        return index
    if is_real:
        return net.real(index)
    made = net.graph.add(call.key, tensor.shape, call.dtypes[0])
    return net.graph.call("CAST", (net.real(index),), made)


@rule("Masking")
def _masking(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """Steps that hold the value everywhere become zeros: zeros stay what they are."""
    if call.operation.mask_value != 0:
        raise NoRuleError(f"'{call.name}': only a mask_value of 0 has a rule.")
    return given
