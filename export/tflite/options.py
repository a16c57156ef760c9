"""Options of operators: the schema's tables <-> our words."""

from __future__ import annotations

import re
from typing import Any

from ai_edge_litert import schema_py_generated as schema


def _names(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


KINDS = _names(schema.BuiltinOperator)
DTYPES = {value: name.lower() for value, name in _names(schema.TensorType).items()}
TABLES = _names(schema.BuiltinOptions)
_WORDS = {
    "fusedActivationFunction": {
        value: name.lower() for value, name in _names(schema.ActivationFunctionType).items()
    },
    "padding": {value: name.lower() for value, name in _names(schema.Padding).items()},
}
# Fields that become one option, (height, width), or take another name.
_MERGED = {
    "stride": ("strideH", "strideW"),
    "dilation": ("dilationHFactor", "dilationWFactor"),
    "size": ("filterHeight", "filterWidth"),
    "masks": ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"),
    "adjoint": ("adjX", "adjY"),
}
_RENAMED = {"activation": "fusedActivationFunction"}
_GIVEN = {field for fields in _MERGED.values() for field in fields} | set(_RENAMED.values())


def _snake(field: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", field).lower()


def read_options(table: Any) -> dict[str, Any]:
    """The options of a `schema.…OptionsT` in words."""
    if table is None:
        return {}
    fields = vars(table)
    options: dict[str, Any] = {}
    for option, names in _MERGED.items():
        if all(name in fields for name in names):
            options[option] = tuple(fields[name] for name in names)
    for option, name in _RENAMED.items():
        if name in fields:
            options[option] = _WORDS[name].get(fields[name], fields[name])
    for name, value in fields.items():
        if name not in _GIVEN:
            options[_snake(name)] = (
                _WORDS.get(name, {}).get(value, value) if name in _WORDS else value
            )
    return options


def write_options(options: dict[str, Any], table: Any) -> Any:
    """Fills a `schema.…OptionsT` from words and returns it.

    Raises:
      ValueError: an option has no field in the table.
    """
    fields = {_snake(name): name for name in vars(table)}
    for option, value in options.items():
        names = _MERGED.get(option) or (_RENAMED.get(option) or fields.get(option, ""),)
        values = value if option in _MERGED else (value,)
        for name, one in zip(names, values, strict=True):
            if not hasattr(table, name):
                raise ValueError(
                    f"options of {type(table).__name__} must be among {sorted(fields)}. "
                    f"Received: {option}={value!r}."
                )
            words = {word: number for number, word in _WORDS.get(name, {}).items()}
            setattr(table, name, words[one] if isinstance(one, str) and name in _WORDS else one)
    return table
