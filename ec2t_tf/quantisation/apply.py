"""`apply` for a Keras 3 model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf.built_in import is_of_keras
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import ApplyReport, Decision, Policy, Treatment
from ec2t_tf.quantisation.convert import quantise
from ec2t_tf.quantisation.decide import decide
from ec2t_tf.quantisation.equalise import equalise
from ec2t_tf.quantisation.graph import (
    Call,
    Graph,
    Value,
    has_graph,
    read,
    require_any_batch,
    require_sizes,
)
from ec2t_tf.quantisation.kinds import class_name
from ec2t_tf.quantisation.masks import require_near
from ec2t_tf.quantisation.model import TernaryModel
from ec2t_tf.quantisation.opened import closed_by
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.split import split
from ec2t_tf.treatments import (
    UnsupportedLayerError,
    methods_of,
    prunes_int8,
    require_none_refused,
    require_treatable,
)

# Layers of which a mask of constants is a part of the net.
OF_CONSTANTS = (
    *("MultiHeadAttention", "GroupedQueryAttention", "Attention", "AdditiveAttention", "Softmax"),
)


def quantised(
    model: keras.Model, method: TernaryMethod, policy: Policy, *, strict: bool
) -> tuple[TernaryModel, ApplyReport]:
    """The model that trains, and what happened to each layer; see `ec2t_tf.apply`."""
    check(model)
    require_sizes(model)
    for value in [] if isinstance(model, keras.Sequential) else model.inputs:
        require_any_batch(value.name, value.shape, value.dtype)
    require_no_masked_inference(read(model))
    copy, origin = split(model)
    require_no_masked_inference(read(copy))
    require_near(read(copy))
    report = decide(read(copy), policy, origin, prune_int8=prunes_int8(method))
    treated = methods_of(report, method)
    require_none_refused(report, strict=strict)
    equalise(copy, [*report.of(Treatment.TERNARY), *report.of(Treatment.PRUNE)])
    while True:
        made = quantise(
            copy,
            treated,
            untouched=report.of(Treatment.FLOAT),
            int8_inputs=[d.layer for d in report.decisions if d.only],
        )
        error = ec2t_tf.export.unwritable(made)
        if error is None:
            require_treatable(report)
            made.output_names = names_of_outputs(model)
            return made, report
        kinds = {one.name: _kind_of_layer(one) for one in copy.operations}
        report = left_float(report, error, kinds)
        treated = methods_of(report, method)
        require_none_refused(report, strict=strict)


def names_of_outputs(model: keras.Model) -> list[str]:
    """By which `compile` knows the outputs of a model: the names of the user's last layers."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(model.output_names)


def left_float(report: ApplyReport, error: Any, kinds: Mapping[str, str]) -> ApplyReport:
    """The report with one more layer float, which no int8 operator can compute as it is.

    Args:
      kinds: by name, all layers and operations of the model.

    Raises:
      UnsupportedLayerError: no float operator can either.
    """
    if error.name in report.of(Treatment.FLOAT) or error.name not in kinds:
        raise UnsupportedLayerError(
            f"apply requires layers that a file can hold, int8 or float. Received: {error}"
        ) from error
    kind = kinds[error.name]
    decision = Decision(error.name, kind, Treatment.FLOAT, f"stays float: {error}", True)
    others = tuple(d for d in report.decisions if d.layer != error.name)
    return dataclasses.replace(report, decisions=(*others, decision))


def require_no_masked_inference(graph: Graph, *, of_constants: bool = True) -> None:
    """A file has no masks. Most layers compute the same without one; what asks for one does not.

    Masks flow as in Keras: from what makes one through what supports them.

    Args:
      of_constants: attention and softmaxes may be given masks that are numbers.
    """
    masked: set[Any] = set()
    for call in graph.calls:
        layer: Any = call.operation
        makes = isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
        takes = any(value in masked for value in call.inputs)
        if call.is_layer and (takes or _is_given_mask(call, of_constants)) and _uses_masks(layer):
            raise UnsupportedLayerError(
                "apply requires layers that compute the same without a mask, because a file has "
                f"none. Received: '{call.name}' ({_with_lacks(call)}), which leaves out the "
                "steps that a mask marks. Take the mask out (mask_zero=False, no Masking layer); "
                "instead of an average, pool by the largest value."
            )
        if makes or (takes and call.is_layer and layer.supports_masking):
            masked.update(call.results)


def _is_given_mask(call: Call, of_constants: bool) -> bool:
    by_place = zip(inspect.signature(call.operation.call).parameters, call.args, strict=False)
    given = (*by_place, *call.kwargs.items())
    masks = [v for key, v in given if key == "mask" or key.endswith("_mask")]
    masks = [x for x in keras.tree.flatten(masks) if x is not None and not isinstance(x, bool)]
    if any(isinstance(x, Value) for x in masks):
        return True
    # Numbers: a class of the user's is called with them, and read as what it then calls.
    known = OF_CONSTANTS if of_constants else ()
    reads = is_of_keras(type(call.operation)) and class_name(call.operation) not in known
    is_softmax = class_name(call.operation) == "Softmax"  # which has a rule without a mask
    return bool(masks) and (reads or (is_softmax and bool(_lacks(call))))


def _lacks(call: Call) -> list[str]:
    return closed_by(call.operation, call.args, call.kwargs) if call.is_layer else []


def _with_lacks(call: Call) -> str:
    kind, lacks = type(call.operation).__name__, _lacks(call)
    return f"{kind} with {' and '.join(lacks)}" if lacks and kind == "Softmax" else kind


def _uses_masks(layer: Any) -> bool:
    """Whether what a layer computes at inference depends on a mask that Keras hands it."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return False  # in training only
    if isinstance(layer, keras.layers.TimeDistributed):
        return _uses_masks(layer.layer)
    if isinstance(layer, keras.Model) and has_graph(layer):
        return False  # opened
    if isinstance(layer, keras.layers.Multiply):
        return True  # what a mask marks is 1 in a product
    function = layer.function if isinstance(layer, keras.layers.Lambda) else layer.call
    names = inspect.signature(function).parameters
    return any(name == "mask" or name.endswith("_mask") for name in names)


def _kind_of_layer(operation: keras.Operation) -> str:
    return type(operation).__name__ if isinstance(operation, keras.layers.Layer) else ""


def check(model: keras.Model) -> None:
    """Raise what `apply` says it raises about the model itself."""
    name = type(model).__name__
    is_functional = isinstance(model, keras.Sequential) or _is_functional(model)
    if not is_functional:
        raise TypeError(
            "apply requires a Sequential or functional model, because it rewires the graph of "
            f"layers. Received: the subclassed model {name}. Rebuild it with "
            "keras.Model(inputs, outputs), where outputs = model.call(inputs)."
        )
    if not model.built or not model.inputs:
        raise ValueError(
            f"apply requires a built model. Received: '{model.name}', which is not. Call "
            "model.build(input_shape) or start it with an Input layer."
        )
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, Quantised):
            raise ValueError(
                f"apply requires a float model. Received: '{model.name}', in which apply has "
                f"treated '{layer.name}' already. Apply to the float model, or to "
                "ec2t_tf.strip(model)."
            )
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            raise ValueError(
                f"apply requires a float model. Received: '{model.name}', in which "
                f"model.quantize('{mode}') has quantised '{layer.name}'. Apply to the model before "
                "that, and train."
            )
        policy = getattr(layer.dtype_policy, "variable_dtype", "float32")
        if policy in ("float16", "bfloat16", "float64"):
            raise ValueError(
                "apply requires float32 weights, which small steps can add up in. Received: "
                f"'{layer.name}' with the policy '{layer.dtype_policy.name}'. Build the model with "
                "keras.config.set_dtype_policy('float32') or 'mixed_bfloat16'."
            )
    if not model.weights:
        raise ValueError(
            "apply requires a model with weights. "
            f"Received: '{model.name}', in which no layer has any."
        )
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
            raise ValueError(
                f"apply requires finite weights. Received: NaN or infinity in '{weight.path}'. "
                "Train again from a good checkpoint."
            )


def _is_functional(model: keras.Model) -> bool:
    """Whether the model knows its graph; a subclassed one has only a `call`."""
    try:
        return bool(model.inputs) and model.output is not None
    except (AttributeError, ValueError):
        return False
