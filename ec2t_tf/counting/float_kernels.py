"""The weights of any layer of Keras 3 or tf_keras, and where an inference applies each.

It asks layers for nothing but names, shapes and weights, and so knows no Keras.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ec2t_tf.counting.places import Shape, places

# Their weights scale single values; nothing is multiplied by a matrix.
_NO_KERNEL = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "PReLU")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A weight of two axes or more.

    Attributes:
      part: which of the layer's; "" where it has one.
      shape: of the weight.
      places: sizes of the map on which it is applied, see `places`; None where nobody can tell.
      biases: how many belong to it.
    """

    part: str
    shape: tuple[int, ...]
    places: Shape | None
    biases: int


def kernels(layer: Any, inputs: Sequence[Shape], output: Shape | None) -> list[Kernel]:
    """All kernels of a layer and of those inside it, in the order of its weights.

    Args:
      inputs: shapes of what it is called on, with the batch; empty where that is not known.
      output: shape of what it returns; None where that is not known.
    """
    found = []
    for leaf in _leaves(layer):
        for kernel in own_kernels(leaf):
            part = _part(layer, leaf, kernel.part)
            applied = _places(layer, leaf, len(kernel.shape), inputs, output)
            found.append(dataclasses.replace(kernel, part=part, places=applied))
    return [dataclasses.replace(found[0], part="")] if len(found) == 1 else found


def own_kernels(layer: Any) -> list[Kernel]:
    """Those of the layer itself; where they are applied is left open."""
    if any(type(layer).__name__.endswith(name) for name in _NO_KERNEL):
        return []
    weights = [(_name(w), tuple(int(n) for n in w.shape)) for w in _weights(layer)]
    matrices = [one for one in weights if len(one[1]) > 1 and one[0] != "bias"]
    biases = sum(math.prod(shape) for name, shape in weights if (name, shape) not in matrices)
    # They are counted once: with the first kernel of a loop, with the last of a separable layer.
    last = next((place for place, one in enumerate(matrices) if one[0] == "kernel"), -1)
    last = last if last >= 0 else len(matrices) - 1
    return [
        Kernel(name if len(matrices) > 1 else "", shape, None, biases if place == last else 0)
        for place, (name, shape) in enumerate(matrices)
    ]


def _leaves(layer: Any) -> Iterator[Any]:
    """The layers inside that own weights, itself among them."""
    seen = set()
    for leaf in layer._flatten_layers():
        if id(leaf) not in seen and _weights(leaf):
            seen.add(id(leaf))
            yield leaf


def _weights(layer: Any) -> list[Any]:
    """Weights of the layer itself, not of those inside; statistics and seeds are none."""
    for name in ("_trainable_variables", "_trainable_weights"):
        if hasattr(layer, name):
            own = list(getattr(layer, name))
            frozen = "_non" + name
            return own + [w for w in getattr(layer, frozen) if len(w.shape) > 1]
    return []


def _name(weight: Any) -> str:
    return weight.name.partition(":")[0].rpartition("/")[2]


def _part(layer: Any, leaf: Any, name: str) -> str:
    """`query`, `forward_lstm/recurrent_kernel`: what tells a kernel from the layer's others."""
    if leaf is layer:
        return name
    owner = leaf.name
    for inner in layer._flatten_layers(include_self=False):
        if getattr(inner, "cell", None) is leaf:
            owner = inner.name
    if type(leaf).__name__.endswith("Cell"):
        return name if owner == leaf.name else f"{owner}/{name}"
    return owner


def _places(
    layer: Any, leaf: Any, rank: int, inputs: Sequence[Shape], output: Shape | None
) -> Shape | None:
    """Where a kernel of `leaf`, inside `layer`, is applied; None where nobody can tell.

    Args:
      rank: axes of the kernel.
    """
    if not inputs or output is None:
        return None
    outer, kind = type(layer).__name__, type(leaf).__name__
    if kind == "Embedding":
        return (0,)  # rows are looked up
    if outer in ("MultiHeadAttention", "GroupedQueryAttention"):
        # Called on query, value and perhaps key.
        called = {"query": 0, "attention_output": 0, "value": 1, "key": -1}.get(leaf.name, 0)
        return (inputs[called] if called < len(inputs) else inputs[0])[1:-1]
    if kind.endswith("Cell"):
        maps = output[1 - rank : -1] if kind == "ConvLSTMCell" else ()
        return (*inputs[0][1:2], *maps)
    if outer == "TimeDistributed" and leaf is not layer:
        inner = [(shape[0], *shape[2:]) for shape in inputs], (output[0], *output[2:])
        each = _places(leaf, leaf, rank, *inner)
        return None if each is None else (*inputs[0][1:2], *each)
    if leaf is layer and (kind in ("Dense", "EinsumDense") or "Conv" in kind):
        return places(leaf, inputs[0], output)
    return None
