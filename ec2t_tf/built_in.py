"""Layers of the user's classes that compute what a class of Keras does, only made otherwise.

`class Conv3x3(Conv2D)` with nothing but an `__init__` that fixes a few settings is a Conv2D.
"""

from __future__ import annotations

from typing import Any

KERAS = ("keras", "tf_keras")
# What may be new in such a class: nothing of it computes.
MAKING = ("__init__", "get_config", "from_config", "compute_output_shape", "count_params")
FLAGS = ("elementwise", "moves_values_only")  # by which a class says itself what it computes
NO_LAYERS = ("Layer", "Model", "Operation")


def built_in_class(kind: type) -> type:
    """The class of Keras that computes what `kind` does; `kind` itself where there is none."""
    users = []
    for one in kind.__mro__:
        if one.__module__.split(".")[0] in KERAS:
            break
        users.append(one)
    else:
        return kind
    if not users or "Model" in (base.__name__ for base in one.__mro__):
        return kind
    names = {name for user in users for name in vars(user)} - set(MAKING)
    changes = any(hasattr(one, name) for name in names if not _is_of_python(name))
    says = any(getattr(kind, flag, False) for flag in FLAGS)
    return kind if changes or says or one.__name__ in NO_LAYERS else one


def as_built_in(layer: Any) -> Any:
    """A layer of Keras' class with all that a layer of a user's class has, variables too; the layer
    itself where that class computes something of its own."""
    kind = built_in_class(type(layer))
    if kind is type(layer):
        return layer
    made: Any = object.__new__(kind)
    vars(made).update(vars(layer))
    return made


def _is_of_python(name: str) -> bool:
    return name.startswith("__") and name not in ("__call__", "__new__")
