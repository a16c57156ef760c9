"""Options of operators: the schema's tables <-> our words."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
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


# Operators whose table is not named after them.
_SHARED_TABLES = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
        "ReducerOptions",
    ),
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "BidirectionalSequenceLSTMOptions",
    "BIDIRECTIONAL_SEQUENCE_RNN": "BidirectionalSequenceRNNOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "RNN": "RNNOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), "RandomOptions"),
    "LSTM": "LSTMOptions",
    "SVDF": "SVDFOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "EMBEDDING_LOOKUP_SPARSE": "EmbeddingLookupSparseOptions",
}


@functools.cache
def table_of(kind: str) -> str | None:
    """The options table of a builtin operator, or None if it has none (LOGISTIC, TANH)."""
    name = _SHARED_TABLES.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
    spelt = {candidate.lower(): candidate for candidate in vars(schema.BuiltinOptions)}
    for candidate in (name, name + "Options"):
        if candidate.lower() in spelt:
            return spelt[candidate.lower()]
    return None


def _plain(value: Any) -> Any:
    """A field's value without the schema's types: text, tuples of numbers."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value


def _snake(field: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", field).lower()


def read_options(table: Any) -> dict[str, Any]:
    """The options of a `schema.…OptionsT` in words."""
    if table is None:
        return {}
    fields = {name: _plain(value) for name, value in vars(table).items()}
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


@functools.cache
def usual_options(kind: str) -> dict[str, Any]:
    """The options of a builtin operator whose table is empty; not to be changed."""
    name = table_of(kind)
    return {} if name is None else read_options(getattr(schema, name + "T")())


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
            one = words[one] if isinstance(one, str) and name in _WORDS else one
            setattr(table, name, one.encode() if isinstance(one, str) else one)
    return table
