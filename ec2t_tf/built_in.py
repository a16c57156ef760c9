"""Layers of the user's classes that compute what a class of Keras does, only made otherwise.

`class Conv3x3(Conv2D)` with nothing but an `__init__` that fixes a few settings is a Conv2D.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ec2t_tf.treatments import UnsupportedLayerError

KERAS = ("keras", "tf_keras")
# What may be new in such a class: nothing of it computes.
MAKING = ("__init__", "get_config", "from_config", "compute_output_shape", "count_params")
FLAGS = ("elementwise", "moves_values_only")  # by which a class says itself what it computes
NO_LAYERS = ("Layer", "Model", "Operation")
# Of Python's own methods those by which a class computes, or hands out attributes of its own.
_HOOKS = ("__call__", "__new__", "__getattribute__", "__getattr__", "__setattr__")
# The layer of tf_keras that sets its own `call`: of a function of TensorFlow.
_OWN_CALL = "TFOpLambda"


def built_in_class(kind: type) -> type:
    """The class of Keras that computes what `kind` does; `kind` itself where there is none.

    What layers of it got in `__init__` may say otherwise: see `built_in_class_of`.
    """
    one = next((base for base in kind.__mro__ if is_of_keras(base)), None)
    if one is None or one is kind or "Model" in (base.__name__ for base in one.__mro__):
        return kind
    says = any(getattr(kind, flag, False) for flag in FLAGS)
    return kind if _changed(kind, one) or says or one.__name__ in NO_LAYERS else one


def built_in_class_of(layer: Any) -> type:
    """The class of Keras that computes what a layer does; its own where there is none: its class,
    or a method or a cell that its `__init__` put in the place of Keras', computes otherwise."""
    kind = type(layer)
    one = built_in_class(kind)
    if one is kind and not is_of_keras(kind):
        one = _normalisation(layer) or kind
    return kind if one is not kind and _replaced(layer, one) else one


def as_built_in(layer: Any) -> Any:
    """A layer of Keras' class with all that a layer of a user's class has, variables too; the layer
    itself where it computes something of its own.

    Raises:
      UnsupportedLayerError: a layer of Keras' class computes something else, because a method or
        the cell was replaced after it was made.
    """
    own, kind = type(layer), built_in_class_of(layer)
    if kind is own:
        changed = _replaced(layer, kind) if is_of_keras(kind) else []
        if changed:
            raise UnsupportedLayerError(
                "apply requires layers that compute what their class does. Received: "
                f"'{layer.name}', a {kind.__name__} whose {' and '.join(changed)} "
                f"{'was' if len(changed) == 1 else 'were'} replaced. Write a class with a call of "
                "its own."
            )
        return layer
    made: Any = object.__new__(kind)
    vars(made).update(vars(layer))
    return made


def _normalisation(layer: Any) -> type | None:
    """Keras' BatchNormalization, where a class of the user's has a `call` that computes what Keras'
    does, training or not: many hand on what Keras does by itself, that a frozen one does not train.
    """
    kind = type(layer)
    one: Any = next((base for base in kind.__mro__ if is_of_keras(base)), None)
    if one is None or one.__name__ != "BatchNormalization" or not layer.built:
        return None
    if _changed(kind, one) != {"call"}:
        return None
    kept = layer.get_weights()
    shape = [3] * layer.input_spec.ndim
    shape[layer.axis if isinstance(layer.axis, int) else layer.axis[0]] = kept[0].size
    library = sys.modules[one.__module__.split(".")[0]]
    to_tensor, to_numpy = (
        (library.ops.convert_to_tensor, library.ops.convert_to_numpy)
        if hasattr(library, "ops")
        else (library.backend.constant, np.asarray)
    )
    x = to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    try:
        for training in (False, True):
            found = []
            for call in (kind.call, one.call):
                made = to_numpy(call(layer, x, training=training))
                found.append([made, *layer.get_weights()])
                layer.set_weights(kept)
            if not all(np.array_equal(*pair) for pair in zip(*found, strict=True)):
                return None
    except Exception:  # it may do anything
        return None
    finally:
        layer.set_weights(kept)
    return one


def _replaced(layer: Any, kind: type) -> list[str]:
    """What a layer has in the place of methods, or of the cell, of a class of Keras."""
    if any(base.__name__ == _OWN_CALL for base in kind.__mro__):
        return []
    names = [
        name
        for name, value in vars(layer).items()
        if callable(value) and callable(getattr(kind, name, None)) and not is_of_keras(value)
    ]
    cell = getattr(layer, "cell", None)
    if kind.__name__ != "RNN" and cell is not None and not is_of_keras(built_in_class_of(cell)):
        names.append("cell")
    return names


def is_of_keras(value: Any) -> bool:
    """Whether a class, a function or an object's class was written in Keras."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.split(".")[0] in KERAS


def _changed(kind: type, one: type) -> set[str]:
    """What a class of the user's has that may change what Keras' class computes; mixins too, which
    may come behind Keras' class."""
    new = [item for base in kind.__mro__ if base not in one.__mro__ for item in vars(base).items()]
    return {name for name, value in new if name not in MAKING and _changes(one, name, value)}


def _changes(one: type, name: str, value: Any) -> bool:
    """Whether what a class has of its own may change what Keras' class computes."""
    if name.startswith("__"):
        return name in _HOOKS
    # A property that can be set takes the place of what Keras' `__init__` sets.
    settable = hasattr(type(value), "__set__") and getattr(value, "fset", value) is not None
    return settable or hasattr(one, name)
