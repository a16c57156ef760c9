"""Functions of TensorFlow that layers of tf_keras compute, for which tfmot's wrapper rounds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from tf_keras import layers

from ec2t_tf.quantisation.tensorflow_functions import UNIT_EPSILON, are_known, of_places

_POOLS = {
    **dict.fromkeys(("max_pool", "max_pool1d", "max_pool2d"), "MaxPooling"),
    **dict.fromkeys(("avg_pool", "avg_pool1d", "avg_pool2d"), "AveragePooling"),
}


class AsLayer(NamedTuple):
    """The layer instead of a call.

    Attributes:
      kind: its class.
      options: that it is made with.
      value: that it is called with.
    """

    kind: type
    options: dict[str, Any]
    value: Any


def as_layer(node: Any) -> AsLayer | None:
    """The layer that computes a call of a function; None where there is none."""
    function = getattr(node.layer, "symbol", "").split(".")[-1]
    if function == "l2_normalize":
        return _unit(_given(node, "x", "axis", "epsilon"))
    if function in _POOLS:
        given = _given(node, "input", "ksize", "strides", "padding", "data_format")
        return _pooling(_POOLS[function], given)
    return None


def _given(node: Any, *names: str) -> dict[str, Any]:
    return dict(zip(names, node.call_args, strict=False)) | node.call_kwargs


def _unit(given: dict[str, Any]) -> AsLayer | None:
    """But along the batch, or with an epsilon that is seen."""
    axis, rank = given.get("axis"), len(given["x"].shape)
    axes = [axis] if isinstance(axis, int) else list(axis or [])
    small = (given.get("epsilon") or 0.0) <= UNIT_EPSILON
    if not axes or not small or not all(one % rank for one in axes):
        return None
    return AsLayer(layers.UnitNormalization, {"axis": axis}, given["x"])


def _pooling(kind: str, given: dict[str, Any]) -> AsLayer | None:
    padding: Any = given.get("padding")
    places = len(given["input"].shape) - 2
    if places not in (1, 2) or not are_known(padding, given.get("data_format")):
        return None
    size, steps = (of_places(given[key], places) for key in ("ksize", "strides"))
    options = {"pool_size": size, "strides": steps, "padding": padding.lower()}
    if places == 1:
        options |= {key: int(np.ravel(options[key])[0]) for key in ("pool_size", "strides")}
    return AsLayer(getattr(layers, f"{kind}{places}D"), options, given["input"])
