"""From a model to its graph, whatever it has learnt: calibrated first, if need be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ec2t_tf import doors
from ec2t_tf.export.graph import Graph
from ec2t_tf.quantisation.convert import quantise
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.graph import read, require_sizes
from ec2t_tf.quantisation.kinds import RECURRENT, kind_of
from ec2t_tf.quantisation.masks import Masked, require_near
from ec2t_tf.quantisation.model import TernaryModel
from ec2t_tf.quantisation.opened import closed_by
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.quantisation.split import split

from .lowering import lower
from .pending import NoRuleError

RepresentativeData = Iterable[Any] | Callable[[], Iterable[Any]]
TOGETHER = 1 << 21  # bytes of input; what the layers make of them is some hundred times as much


def graph_of(
    model: Any,
    *,
    representative_data: RepresentativeData | None = None,
    io_dtype: str = "float32",
) -> Graph:
    """The integer net of a model that `apply` returned, trained; or of a plain model.

    Args:
      model: of Keras 3 or tf_keras.
      representative_data: about 100 typical inputs, of which a plain model needs the ranges of its
        activations. Each is an array (one input each, with or without the batch axis), or a list
        of arrays for a model with several inputs.

    Raises:
      ValueError: a plain model without data, or one with a treated model inside.
      NoRuleError: naming a layer that no rule can write.
    """
    _require_finite_variables(model)
    model = _native(model)
    inside = [x for x in model._flatten_layers(include_self=False) if isinstance(x, TernaryModel)]
    if inside:
        raise ValueError(
            "The model that ec2t_tf.apply returned is required. Received: "
            f"'{model.name}', which has it inside as '{inside[0].name}'. Apply to the whole float "
            "model, or export the inner one by itself."
        )
    if not any(isinstance(layer, FakeQuant) for layer in model.layers):
        if representative_data is None:
            raise ValueError(
                "A model without quantize-aware training needs representative_data, about 100 "
                "typical inputs, to measure the ranges of its activations. Received: "
                f"'{model.name}' and None. Pass the data, or export the model that ec2t_tf.apply "
                "returned."
            )
        model = calibrated(model, representative_data)
    return lower(model, io_dtype=io_dtype)


def _require_finite_variables(model: Any) -> None:
    """NaN has no code; one NaN pixel in training is enough."""
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype(np.float64)).all():
            raise ValueError(
                "A model of finite weights, ranges and statistics is required. Received: "
                f"{np.isnan(values.astype(np.float64)).sum()} NaN and "
                f"{np.isinf(values.astype(np.float64)).sum()} infinite of {values.size} values in "
                f"'{variable.name}'. Train from a checkpoint before it, without the inputs that "
                "hold NaN."
            )


def calibrated(model: keras.Model, data: RepresentativeData) -> keras.Model:
    """The int8 model of a float one, its ranges those of the data. `model` is not changed."""
    from ec2t_tf.quantisation.apply import require_no_masked_inference

    require_sizes(model)
    require_no_masked_inference(read(model))
    copy, _ = split(model)
    require_no_masked_inference(read(copy))
    require_near(read(copy))
    closed = [
        call.name
        for call in read(copy).calls
        if kind_of(call.operation) in RECURRENT
        and closed_by(call.operation, call.args, call.kwargs)
    ]
    made = quantise(copy, {}, untouched=closed)
    ranges = [x for x in made.layers if isinstance(x, FakeQuant | Recurrent | Masked)]
    shapes = [tuple(x.shape[1:]) for x in made.inputs]
    for layer in ranges:
        layer.observing = True
    seen = False
    for arrays in batches(_examples(data, model.name, shapes), _at_once(made)):
        made(keras.tree.pack_sequence_as(made.input, arrays), training=False)
        seen = True
    for layer in ranges:
        layer.observing = False
    if not seen:
        raise ValueError(
            "representative_data must have at least one input. Received: none for "
            f"'{model.name}'. Pass about 100 typical inputs."
        )
    return made


def _examples(
    data: RepresentativeData, name: str, shapes: list[tuple[int, ...]]
) -> Iterator[list[np.ndarray]]:
    """float32 [count, ...] for each input, from each entry of `data`.

    Raises:
      ValueError: an entry of other arrays than the model `name` has inputs, or not finite.
    """
    for example in data() if callable(data) else data:
        arrays = example if isinstance(example, list | tuple) else [example]
        if len(arrays) != len(shapes):
            raise ValueError(
                f"Each entry of representative_data must have {len(shapes)} arrays, one for each "
                f"input of '{name}'. Received: {len(arrays)}. For a batch of each input pass "
                "[(first, second, ...)]."
            )
        if not all(np.isfinite(np.asarray(array, np.float32)).all() for array in arrays):
            raise ValueError("representative_data must be finite. Received: NaN or infinity in it.")
        yield [
            np.asarray(array, np.float32).reshape(-1, *shape)
            for array, shape in zip(arrays, shapes, strict=True)
        ]


def _at_once(model: keras.Model) -> int:
    """How many single inputs go through `model` together: calls of small nets are mostly Python."""
    if any(x.shape[0] is not None for x in model.inputs):
        return 1
    each = sum(4 * math.prod(x.shape[1:]) for x in model.inputs)
    return max(1, min(32, TOGETHER // max(1, each)))


def batches(examples: Iterable[list[np.ndarray]], most: int) -> Iterator[list[np.ndarray]]:
    """Single inputs joined, up to `most`; an entry that is a batch stays as it is."""
    waiting: list[list[np.ndarray]] = []
    for arrays in examples:
        single = all(len(array) == 1 for array in arrays)
        if single:
            waiting.append(arrays)
        if waiting and (not single or len(waiting) == most):
            yield [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
            waiting = []
        if not single:
            yield arrays
    if waiting:
        yield [np.concatenate(parts) for parts in zip(*waiting, strict=True)]


def _native(model: Any) -> keras.Model:
    if isinstance(model, keras.Model):
        return model
    if doors.of(model) is None:
        raise TypeError(
            f"A model of Keras 3 or tf_keras is required. Received: {type(model).__name__}."
        )
    from ec2t_tf.tfmot.native import native

    return native(model)


def unwritable(model: Any) -> NoRuleError | None:
    """What keeps a model that `apply` makes from being written, trained or not; None: nothing."""
    try:
        lower(_native(model), dry=True)
    except NoRuleError as error:
        return error
    return None


def exact(
    model: Any,
    *,
    rounding: str = "reference",
    representative_data: RepresentativeData | None = None,
) -> keras.Model:
    """A trained model in exact integers, as a Keras model: what its file computes, bit for bit.

    It can be called, evaluated and compiled as any other, on a GPU too; it cannot be trained.

    Args:
      model: as for `to_tflite`; or a graph.
      rounding: "reference" is TensorFlow Lite's BUILTIN_REF, "xnnpack" its default on x86-64,
        "builtin" its optimised kernels, "micro" TensorFlow Lite Micro.

    Raises:
      NotExactError: an operator is not known bit for bit in this rounding.
    """
    from ec2t_tf.export.integer import keras_model

    if isinstance(model, Graph):
        return keras_model(model, rounding=rounding)
    model = _native(model)
    graph = graph_of(model, representative_data=representative_data)
    exact = keras_model(graph, rounding=rounding)
    if isinstance(model, keras.Sequential):  # has no `input` before it was called
        return exact
    if any(isinstance(ends, dict) for ends in (model.input, model.output)):
        return _as_called(exact, model)
    return exact


def _as_called(exact: keras.Model, model: keras.Model) -> keras.Model:
    """`exact` with the structure and the names of the inputs and outputs of `model`."""
    inputs = keras.tree.map_structure(
        lambda entry: keras.Input(entry.shape[1:], dtype="float32", name=entry.name), model.input
    )
    given = keras.tree.flatten(inputs)
    outputs = keras.tree.flatten(exact(given[0] if len(given) == 1 else given))
    return keras.Model(inputs, keras.tree.pack_sequence_as(model.output, outputs))
