"""Whether a copy of a model computes what the model does, layer by layer, on random inputs.

Copies are made from configs, which say nothing of what was set on a layer after it was made.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.built_in import is_of_keras
from ec2t_tf.quantisation.graph import Call, Graph, Value
from ec2t_tf.treatments import UnsupportedLayerError

# Of the largest value that a layer makes: far more than rounding, less than int8 shows.
TOLERANCE = 0.01
BATCH = 2


def require_unchanged(graph: Graph, inputs: Any, made: Sequence[Any]) -> None:
    """Raises what `apply` says if a copy computes something else.

    A model that cannot be run on random numbers, or makes others each time, is not looked at.

    Args:
      graph: of the model.
      inputs: symbolic, of the copy.
      made: what the copy makes of them in the place of each call of the graph.

    Raises:
      UnsupportedLayerError: naming the first layer that does.
    """
    if any(call.kwargs.get("training") for call in graph.calls):
        return
    copy = keras.Model(inputs, [keras.tree.flatten(values) for values in made])
    layers = [call.operation for call in graph.calls if call.is_layer] + copy.layers
    layers = [inner for layer in layers for inner in layer._flatten_layers()]
    for numbers in (_of_both_signs, _positive):
        feed = keras.tree.map_structure(numbers, graph.inputs)
        try:
            with _undisturbed(layers):
                expected, found = _values(graph, feed), copy(feed, training=False)
        except Exception:  # tokens that are not in a table, say
            continue
        calls = zip(graph.calls, expected, found, strict=True)
        changed = next((call for call, one, other in calls if not _is_near(one, other)), None)
        if changed is None:
            return
        with _undisturbed(layers):
            again = _values(graph, feed)
        if all(_is_near(one, other) for one, other in zip(expected, again, strict=True)):
            raise differs(changed)
        return


def differs(call: Call) -> UnsupportedLayerError:
    """What `apply` says of a layer whose copy is not what it is."""
    kind = type(call.operation)
    received = f"Received: '{call.name}' ({kind.__name__})"
    if not is_of_keras(kind.__call__):
        return UnsupportedLayerError(
            f"apply requires layers that compute in call. {received} with a __call__ of its own. "
            "Move what it computes into call, or in front of the layer."
        )
    return UnsupportedLayerError(
        f"apply requires layers that compute what their config says. {received}, which computes "
        "something else than a layer made from its config: an attribute was set after it was made, "
        "or its get_config leaves something out. Give it to __init__ and get_config, or write a "
        "layer with a call of its own."
    )


@contextlib.contextmanager
def _undisturbed(layers: Sequence[Any]) -> Iterator[None]:
    """Nobody's state changes inside, and losses stay those of the last call."""
    kept = [(layer, list(layer._losses)) for layer in layers]
    try:
        with keras.StatelessScope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user has seen them
            yield
    finally:
        for layer, losses in kept:
            layer._losses[:] = losses


def _values(graph: Graph, feed: Any) -> list[list[Any]]:
    """What each call makes, in order."""
    made: list[list[Any]] = []

    def compute(call: Call, args: tuple, kwargs: dict) -> Any:
        outputs = call.operation(*args, **kwargs)
        made.append(keras.tree.flatten(outputs))
        return outputs

    graph.run(feed, compute)
    return made


def _of_both_signs(value: Value) -> Any:
    return _numbers(value, np.random.default_rng(value.index).normal)


def _positive(value: Value) -> Any:
    return _numbers(value, np.random.default_rng(value.index).uniform)


def _numbers(value: Value, draw: Callable[..., Any]) -> Any:
    shape = [BATCH, *(n or 1 for n in value.shape[1:])]
    if not value.is_float:
        return np.random.default_rng(value.index).integers(0, 2, shape).astype(value.dtype)
    return ops.convert_to_tensor(draw(size=shape).astype(np.float32), dtype=value.dtype)


def _is_near(wanted: Sequence[Any], found: Sequence[Any]) -> bool:
    for one, other in zip(wanted, keras.tree.flatten(found), strict=True):
        x, y = (ops.convert_to_numpy(v) for v in (one, other))
        if x.shape != y.shape:
            return False
        if x.dtype.kind not in "fV":
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        finite = x[np.isfinite(x)]
        reach = float(np.abs(finite).max()) if finite.size else 0.0
        if not np.allclose(x, y, 0, TOLERANCE * reach + 1e-6, equal_nan=True):
            return False
    return True
