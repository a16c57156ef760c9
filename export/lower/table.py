"""Which layers a file can hold, and how: read off the rules themselves."""

from __future__ import annotations

from typing import NamedTuple

import keras

from ec2t_tf.quantisation import kinds
from ec2t_tf.quantisation.compositions import WITHOUT_RULE
from ec2t_tf.quantisation.opened import OPENED

from .pending import RULES
from .rules.kernels import KERNELS

# Opened by `apply` into other layers, without kernels that could be ternary.
_WITHOUT_KERNELS = (
    *("Attention", "AdditiveAttention", "Dot", "Softmax"),
    *(name for name in OPENED if name.startswith("Adaptive")),
)
# By the name of its class, a layer that Keras has under another.
_PUBLIC = {"GroupedQueryAttention": "GroupQueryAttention"}
_ORDER = ("ternary", "int8", "float")


class Supported(NamedTuple):
    """A layer of Keras or an operation of `keras.ops`, and the least bits that it can have:
    "ternary" (in its kernels), "int8" or "float"."""

    name: str
    how: str
    is_layer: bool


def supported() -> list[Supported]:
    """All that `to_tflite` writes of a Keras 3 model, by name."""
    found = {}
    for name in (*RULES, *kinds.RECURRENT, *OPENED, *WITHOUT_RULE):
        name = _PUBLIC.get(name, name)
        layer = getattr(keras.layers, name, None)
        if "." in name or (layer is None and hasattr(keras.activations, name)):
            continue
        found[name] = Supported(name, _how(name), layer is not None)
    ours = [
        *kinds.GIVEN,
        "FakeQuant",
        "ForEach",
        "InTraining",
        "FiniteSlope",
        "CellState",
        "Masked",
    ]
    ours += ["Quantised", "TrainedKernel", "QuantisedLSTM", "QuantisedGRU"]
    ours += ["QuantisedSimpleRNN", "SteppedLSTM"]
    return [found[name] for name in sorted(found) if name not in ours]


def _how(name: str) -> str:
    kernels = (*kinds.KERNELS, *kinds.SEPARABLE)
    is_opened = name in (*OPENED, *_PUBLIC.values()) and name not in _WITHOUT_KERNELS
    if is_opened or name in kinds.RECURRENT or name == "Embedding":
        return "ternary"
    if name in kernels and (name in KERNELS or name in kinds.SEPARABLE):
        return "ternary"
    others = ("Lambda", *_WITHOUT_KERNELS, *WITHOUT_RULE)
    in_int8 = kinds.has_rule(kinds._LAYER_OF.get(name, name)) or name in others
    return "int8" if in_int8 else "float"


def as_text() -> str:
    """A line for each way, layers first."""
    lines = ["| | layers | operations of `keras.ops` |", "|---|---|---|"]
    for how in _ORDER:
        names = [
            ", ".join(one.name for one in supported() if one.how == how and one.is_layer is kind)
            for kind in (True, False)
        ]
        lines.append(f"| {how} | {names[0]} | {names[1]} |")
    return "\n".join(lines)
