"""`apply` for a tf_keras model, with tfmot's wrappers inside."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tf_keras

import ec2t_tf
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import ApplyReport, Decision, Policy, Treatment
from ec2t_tf.quantisation.apply import left_float, require_no_masked_inference
from ec2t_tf.quantisation.decide import decide
from ec2t_tf.quantisation.graph import require_any_batch, require_sizes_of
from ec2t_tf.quantisation.masks import require_near
from ec2t_tf.tfmot import rewrite, scheme, wrapper
from ec2t_tf.tfmot.equalise import equal_weights
from ec2t_tf.tfmot.in_keras_3 import to_keras_3
from ec2t_tf.tfmot.native import plan_of
from ec2t_tf.tfmot.one_by_one import require_one_by_one
from ec2t_tf.tfmot.quantize_config import connect, initialise
from ec2t_tf.tfmot.summary import has_kernel
from ec2t_tf.tfmot.unchanged import require_unchanged
from ec2t_tf.treatments import (
    UnsupportedLayerError,
    methods_of,
    prunes_int8,
    require_none_refused,
    require_treatable,
)

# Wrappers of tfmot's other techniques, and what takes them off.
STRIPPED_BY = {
    "PruneLowMagnitude": "tfmot.sparsity.keras.strip_pruning",
    "ClusterWeights": "tfmot.clustering.keras.strip_clustering",
}


def quantised(
    model: tf_keras.Model, method: TernaryMethod, policy: Policy, *, strict: bool
) -> tuple[tf_keras.Model, ApplyReport]:
    """The model that trains, and what happened to each layer; see `ec2t_tf.apply`."""
    check(model)
    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        require_sizes_of(name, tensor.shape, tensor.dtype.name)
        if not isinstance(model, tf_keras.Sequential):
            require_any_batch(name, tensor.shape, tensor.dtype.name)
    require_one_by_one(model)
    rewritten = rewrite.rewrite(model)
    plan = plan_of(rewritten.model)
    require_no_masked_inference(plan.graph, of_constants=False)
    require_near(plan.graph)
    origin = {name: rewritten.origin.get(there) for name, there in plan.names.items()}
    report = decide(
        plan.graph,
        policy,
        {name: layer for name, layer in origin.items() if layer is not None},
        prune_int8=prunes_int8(method),
    )
    report = dataclasses.replace(
        report,
        rewritten=rewritten.notes,
        decisions=tuple(_as_it_stays_closed(one, plan, rewritten) for one in report.decisions),
    )
    kinds = {call.name: type(call.operation).__name__ for call in plan.graph.calls}
    while True:
        treated = methods_of(report, method)
        require_none_refused(report, strict=strict)
        ternary = {plan.names[name]: one for name, one in treated.items()}
        trained = scheme.quantise(
            rewritten.model,
            ternary,
            untouched=[plan.names[name] for name in report.of(Treatment.FLOAT)],
            plan=plan,
            values=equal_weights(rewritten.model, ternary),
            int8_inputs=[plan.names[d.layer] for d in report.decisions if d.only],
        )
        error = ec2t_tf.export.unwritable(trained)
        if error is None:
            require_treatable(report)
            require_unchanged(rewritten.model, scheme.plain_model(trained))
            break
        try:
            report = left_float(report, error, kinds)
        except UnsupportedLayerError as unsupported:
            name = plan.names.get(error.name, error.name)
            if name in rewritten.closed:
                raise UnsupportedLayerError(
                    "apply requires layers of yours that are written in layers and functions with "
                    f"rules. Received: '{name}' ({kinds[error.name]}), {rewritten.closed[name]}. "
                    "Replace it, give its class elementwise = True or moves_values_only = True if "
                    "that is so, or register a rule for it with ec2t_tf.export.lower.rule."
                ) from error
            raise UnsupportedLayerError(
                f"{unsupported}{_advice(model, method, policy, strict)}"
            ) from error
    decisions = [
        dataclasses.replace(
            one,
            layer=plan.names[one.layer],
            folded_into=plan.names.get(one.folded_into, one.folded_into),
        )
        for one in report.decisions
    ]
    report = dataclasses.replace(report, decisions=tuple(decisions))
    connect(trained)
    initialise(trained)
    return trained, report


def _advice(model: tf_keras.Model, method: TernaryMethod, policy: Policy, strict: bool) -> str:
    """Where it is so, that Keras 3 takes what is refused here."""
    try:
        twin = to_keras_3(model)
        ec2t_tf.apply(twin, method, policy=policy, strict=strict, verbose=0)
    except Exception:  # of any of the user's layers
        return ""
    return " Keras 3 takes it: ec2t_tf.apply(ec2t_tf.tfmot.to_keras_3(model))."


def _as_it_stays_closed(one: Decision, plan: Any, rewritten: Any) -> Decision:
    """A layer of the user's that has no rule, with why it is not what its call is written in."""
    why = rewritten.closed.get(plan.names[one.layer], "")
    if not why or not one.refused:
        return one
    return dataclasses.replace(one, reason=f"no int8 rule for a layer {why}; it stays float")


def check(model: tf_keras.Model) -> None:
    """Raise what `apply` says it raises about the model itself."""
    if not isinstance(model, tf_keras.Model):
        raise TypeError(
            "apply requires a Sequential or functional model of Keras 3 or tf_keras. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    if not isinstance(model, tf_keras.Sequential) and not model._is_graph_network:
        raise TypeError(
            "apply requires a Sequential or Functional tf_keras model, because it rewires the "
            f"graph of layers. Received the subclassed model {type(model).__name__}. Rebuild it "
            "with tf_keras.Model(inputs, outputs)."
        )
    if not model.built or not model.inputs:
        raise ValueError(
            f"apply requires a built model. Received: '{model.name}', which is not. Call "
            "model.build(input_shape) or start it with an Input layer."
        )
    for layer in model.layers:
        if type(layer).__name__ in STRIPPED_BY:
            advice = STRIPPED_BY[type(layer).__name__]
            raise ValueError(
                f"apply requires plain layers. Received: '{layer.name}' in a "
                f"{type(layer).__name__} wrapper. Pass {advice}(model): its weights keep "
                "the values they have."
            )
    if wrapper.is_quantised(model):
        raise ValueError(
            f"apply requires a float model. Received: '{model.name}', which apply or tfmot has "
            "treated already."
        )
    if not any(has_kernel(layer) for layer in model.layers):
        raise ValueError(
            "apply requires a model with weights. "
            f"Received: '{model.name}', in which no layer has any."
        )
    for layer in model.layers:
        for weight in layer.weights:
            if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
                raise ValueError(
                    "apply requires finite weights. Received NaN or infinity in "
                    f"'{weight.name}' of layer '{layer.name}'. Train again from a good checkpoint."
                )
