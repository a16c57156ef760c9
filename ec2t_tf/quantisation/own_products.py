"""Products of a value and a matrix, written in operations of keras.ops, as layers of Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from ec2t_tf.quantisation.graph import Call
from ec2t_tf.quantisation.kinds import class_name

PRODUCTS = ("Matmul", "Dot", "Tensordot", "Einsum")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Product(NamedTuple):
    """A class of Keras and its settings.

    Attributes:
      kind: Dense or EinsumDense.
      settings: without a bias and a name.
      bias: settings of a bias of the last axis; None if that is none of the kernel's.
    """

    kind: str
    settings: dict[str, Any]
    bias: dict[str, Any] | None


def product_of(call: Call, kernel: Any) -> Product | None:
    """The layer that computes a product by a kernel, its second value; None if none does."""
    x, (result,) = call.inputs[0], call.results
    equation = _equation(call.operation, len(x.shape), len(kernel.shape))
    entry, inner, made = equation
    shared = set(entry) & set(inner)
    units = [c for c in inner if c not in shared]
    kept = [c for c in entry if c not in shared]
    is_product = (
        shared
        and units
        and made[:1] == entry[:1]
        and entry[0] not in shared
        and len({*entry}) == len(entry)
        and len({*inner}) == len(inner)
        and sorted(made) == sorted([*kept, *units])
    )
    if not is_product or None in result.shape[1:]:
        return None
    if inner[0] == entry[-1] and len(inner) == 2 and made == entry[:-1] + inner[1:]:
        return Product("Dense", {"units": int(kernel.shape[-1])}, {})
    settings = {
        "equation": f"{entry},{inner}->{made}",
        "output_shape": tuple(result.shape[1:]),
    }
    bias = {"bias_axes": made[-1]} if made[-1] in units else None
    return Product("EinsumDense", settings, bias)


def _equation(operation: Any, left: int, right: int) -> tuple[str, str, str]:
    """Letters of the axes of a value, of a kernel and of what comes of them; "" if unknown."""
    kind = class_name(operation)
    if kind == "Einsum":
        return _written(operation.subscripts.replace(" ", ""), left)
    if kind == "Tensordot":
        pairs = _pairs(operation.axes, left, right)
    elif right != 2 or left < 2:  # the axes in front of a matrix are a batch, or its own
        return "", "", ""
    else:
        pairs = [(left - 1, 0)]
    entry = _LETTERS[:left]
    inner = list(_LETTERS[left : left + right])
    for i, j in pairs:
        inner[j] = entry[i]
    gone = [entry[i] for i, _ in pairs]
    made = [c for c in (*entry, *inner) if c not in gone]
    return entry, "".join(inner), "".join(made)


def _written(subscripts: str, left: int) -> tuple[str, str, str]:
    given, arrow, made = subscripts.partition("->")
    entry, comma, inner = given.partition(",")
    if not arrow or not comma or "," in inner or "..." in inner:
        return "", "", ""
    if "..." in entry:
        spare = [c for c in _LETTERS if c not in subscripts][: left - len(entry) + 3]
        entry, made = (part.replace("...", "".join(spare)) for part in (entry, made))
    return entry, inner, made


def _pairs(axes: Any, left: int, right: int) -> list[tuple[int, int]]:
    if isinstance(axes, int):
        return [(left - axes + i, i) for i in range(axes)]
    first, second = (
        list(one) if isinstance(one, Sequence) else [one]
        for one in keras.tree.map_structure(int, axes)
    )
    return [(i % left, j % right) for i, j in zip(first, second, strict=True)]
