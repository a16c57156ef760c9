"""What a copy of a layer of either Keras is made of: its config, with its functions themselves, and
its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PARTS = ("_initializer", "_regularizer", "_constraint")


class _Left:
    """Stands in a config for a layer that is copied by itself."""

    def get_config(self) -> dict[str, Any]:
        return {}


def config_of(layer: Any, known: Any, *, without: str = "") -> dict[str, Any]:
    """A layer's config with its functions themselves, of which a config has names, or bytes.

    Args:
      layer: of Keras 3 or tf_keras.
      known: a function that Keras has a name for.
      without: an attribute that is a layer, of which the config says nothing.
    """
    functions = _functions(layer)
    cell = vars(layer).get("cell")
    # A loop has them of its cell, by properties. Those of Keras go by their names.
    of_cell = {} if cell is None else _functions(cell)
    of_cell = {k: v for k, v in of_cell.items() if hasattr(type(layer), k) and not _is_known(v)}
    twin = layer
    if functions or of_cell or without:
        twin = _twin(layer, functions, known)  # the user's layer stays as it is
        if of_cell:
            vars(twin)["cell"] = _twin(cell, of_cell, known)
        if without:
            vars(twin)[without] = _Left()
    config = twin.get_config()
    functions = of_cell | functions
    return {**config, **{key: functions[key] for key in config if key in functions}}


def _functions(layer: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(layer).items() if _is_function(v) or _is_users(k, v)}


def _twin(layer: Any, functions: dict[str, Any], known: Any) -> Any:
    """Of the same attributes, but for functions: what Keras has a name for, or none."""
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer))
    for key in functions:
        if key.endswith("activation"):
            vars(twin)[key] = known
        elif key.endswith(_PARTS):
            vars(twin)[key] = None
    return twin


def _is_function(value: Any) -> bool:
    """Whether it is called as a function, with no config of its own."""
    return callable(value) and not isinstance(value, type) and not hasattr(value, "get_config")


def _is_known(value: Any) -> bool:
    room = str(getattr(value, "__module__", "")).split(".")[0]
    return room in ("keras", "tf_keras", "tensorflow")


def _is_users(key: str, value: Any) -> bool:
    """A regulariser, constraint or initialiser of a class that Keras need not be able to make."""
    room = type(value).__module__.split(".")[0]
    return key.endswith(_PARTS) and callable(value) and room not in ("keras", "tf_keras")


def give_weights(layer: Any, weights: Sequence[Any]) -> None:
    """Sets a copy's weights, and what it derives from them."""
    layer.set_weights(weights)
    derive(layer)


def derive(layer: Any) -> None:
    """What a layer, or one inside of it, keeps of its weights beside them: the factors of an
    adapted Normalization.
    """
    for one in layer._flatten_layers():
        if hasattr(one, "finalize_state"):
            one.finalize_state()
