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
    functions = {k: v for k, v in vars(layer).items() if _is_function(v) or _is_users(k, v)}
    twin = layer
    if functions or without:
        twin = object.__new__(type(layer))  # the user's layer stays as it is
        vars(twin).update(vars(layer))
        if without:
            vars(twin)[without] = _Left()
        for key in functions:
            if key.endswith("activation"):
                vars(twin)[key] = known
            elif key.endswith(_PARTS):
                vars(twin)[key] = None
    config = twin.get_config()
    for key in config:
        if key in functions:
            config[key] = functions[key]
        elif key.endswith("activation") and _is_users_function(getattr(layer, key, None)):
            config[key] = getattr(layer, key)  # of a loop's cell
    return config


def _is_function(value: Any) -> bool:
    """Whether it is called as a function, with no config of its own."""
    return callable(value) and not isinstance(value, type) and not hasattr(value, "get_config")


def _is_users_function(value: Any) -> bool:
    room = str(getattr(value, "__module__", "")).split(".")[0]
    return _is_function(value) and room not in ("keras", "tf_keras", "tensorflow")


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
