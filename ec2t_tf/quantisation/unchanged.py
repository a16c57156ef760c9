"""Whether a copy of a model computes what the model does, layer by layer, on random inputs; and
whether the model computes each example by itself.

Copies are made from configs, which say nothing of what was set on a layer after it was made. A file
is given one example at a time; that an operation mixes them cannot be told from its axes, since a
reshape may have put the batch anywhere.
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
from ec2t_tf.quantisation import masks
from ec2t_tf.quantisation.graph import Call, Graph, Value
from ec2t_tf.quantisation.kinds import ignores_training
from ec2t_tf.quantisation.opened import closed_by
from ec2t_tf.treatments import UnsupportedLayerError

# Of the largest value that a layer makes: far more than rounding, less than int8 shows.
TOLERANCE = 0.01
BATCH = 2
# Of the largest value of an output: what examples of one batch may differ by from the same alone.
ALONE, ALONE_IN_HALF = 0.001, 0.05


def require_unchanged(graph: Graph, inputs: Any, made: Sequence[Any]) -> None:
    """Raises what `apply` says if a copy computes something else, or examples depend on others.

    A model that cannot be run on random numbers, or makes others each time, is not looked at.

    Args:
      graph: of the model.
      inputs: symbolic, of the copy.
      made: what the copy makes of them in the place of each call of the graph.

    Raises:
      UnsupportedLayerError: naming the first layer that does so.
    """
    copy = keras.Model(inputs, [keras.tree.flatten(values) for values in made])
    masked = masks.in_graph(graph)  # where other numbers stand for what is left out
    layers = [call.operation for call in graph.calls if call.is_layer] + copy.layers
    layers = [inner for layer in layers for inner in layer._flatten_layers()]
    for numbers in (_of_both_signs, _positive):
        feed = keras.tree.map_structure(numbers, graph.inputs)
        try:
            with _undisturbed(layers):
                outputs, expected = _values(graph, feed)
                found = copy(feed, training=False)
        except Exception:  # tokens that are not in a table, say
            continue
        calls = zip(graph.calls, expected, found, strict=True)
        changed = next(
            (
                call
                for call, one, other in calls
                if call.number not in masked and not _is_near(one, other)
            ),
            None,
        )
        half = any("16" in str(getattr(layer, "compute_dtype", "")) for layer in layers)
        least = ALONE_IN_HALF if half else ALONE
        alone = _alone(graph, feed, layers)
        is_mixed = alone is not None and mixes(outputs, alone[0], least)
        if changed is None and not is_mixed:
            return
        with _undisturbed(layers):
            _, again = _values(graph, feed)
        if any(not _is_near(one, other) for one, other in zip(expected, again, strict=True)):
            return  # random at inference
        if changed is not None:
            raise differs(changed)
        assert alone is not None
        calls = zip(graph.calls, expected, alone[1], strict=True)
        mixing = next(
            (call for call, one, other in calls if mixes(one, other, least)), graph.calls[-1]
        )
        raise depends(mixing.name, type(mixing.operation).__name__)


def _alone(graph: Graph, feed: Any, layers: Sequence[Any]) -> Any:
    """The same of the first example; None where one is no batch, as for a squeeze of all axes."""
    try:
        with _undisturbed(layers):
            return _values(graph, keras.tree.map_structure(lambda x: x[:1], feed))
    except Exception:  # the user's layers may do anything
        return None


def differs(call: Call) -> UnsupportedLayerError:
    """What `apply` says of a layer whose copy is not what it is."""
    kind = type(call.operation)
    received = f"Received: '{call.name}' ({kind.__name__})"
    if not is_of_keras(kind.__call__):
        return UnsupportedLayerError(
            f"apply requires layers that compute in call. {received} with a __call__ of its own. "
            "Move what it computes into call, or in front of the layer."
        )
    why = closed_by(call.operation, call.args, call.kwargs) if is_of_keras(kind) else []
    if why:
        return UnsupportedLayerError(
            f"apply requires layers that a file can hold, int8 or float. {received} has no rule "
            f"that writes it, as it is here with {' and '.join(why)}."
        )
    return UnsupportedLayerError(
        f"apply requires layers that compute what their config says. {received}, which computes "
        "something else than a layer made from its config: an attribute was set after it was made, "
        "or its get_config leaves something out. Give it to __init__ and get_config, or write a "
        "layer with a call of its own."
    )


def depends(name: str, kind: str) -> UnsupportedLayerError:
    """What `apply` says of a model whose examples depend on each other."""
    return UnsupportedLayerError(
        "apply requires a model that computes each example by itself, because a file is given one "
        f"at a time. Received: '{name}' ({kind}), which makes something else of an example with "
        "others beside it in the batch. Leave the first axis alone: it is the batch."
    )


def mixes(together: Any, alone: Any, tolerance: float = ALONE) -> bool:
    """Whether the first of two examples comes out otherwise than by itself.

    Args:
      together: arrays, the batch along any axis.
      alone: the same of the first example.
      tolerance: of the largest value.
    """
    for two, one in zip(keras.tree.flatten(together), keras.tree.flatten(alone), strict=True):
        x, y = (ops.convert_to_numpy(v) for v in (two, one))
        axes = [i for i, (n, m) in enumerate(zip(x.shape, y.shape, strict=False)) if n != m]
        if x.dtype.kind not in "fV" or x.ndim != y.ndim or len(axes) != 1:
            continue
        x = x.take(np.arange(y.shape[axes[0]]), axes[0]).astype(np.float64)
        finite = np.abs(x[np.isfinite(x)])
        least = tolerance * float(finite.max(initial=0.0)) + 1e-6
        if not np.allclose(x, y.astype(np.float64), 0, least, equal_nan=True):
            return True
    return False


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


def _values(graph: Graph, feed: Any) -> tuple[Any, list[list[Any]]]:
    """The outputs, and what each call makes, in order."""
    made: list[list[Any]] = []

    def compute(call: Call, args: tuple, kwargs: dict) -> Any:
        # Some of Keras' layers for images would train what follows them in the same call.
        takes_it = call.is_layer and is_of_keras(type(call.operation).__call__)
        inference = {"training": False} if takes_it else {}
        options = {**inference, **kwargs}
        if ignores_training(call.operation):
            options |= inference
        outputs = call.operation(*args, **options)
        made.append(keras.tree.flatten(outputs))
        return outputs

    return graph.run(feed, compute), made


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
        is_finite = np.isfinite(x)  # a logarithm of less than 0 is none: random numbers are
        x, y = x[is_finite].astype(np.float64), y[is_finite].astype(np.float64)
        if not np.allclose(x, y, 0, TOLERANCE * np.abs(x).max(initial=0.0) + 1e-6):
            return False
    return True
