"""`apply` for a tf_keras model, with tfmot's wrappers inside."""

from __future__ import annotations

import dataclasses

import numpy as np
import tf_keras

from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import ApplyReport, Policy, Treatment
from ec2t_tf.tfmot import rewrite, scheme, wrapper
from ec2t_tf.tfmot.decide import decide, has_kernel
from ec2t_tf.tfmot.quantize_config import connect, initialise
from ec2t_tf.treatments import methods_of, prunes_int8, require_treatable

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
    rewritten = rewrite.rewrite(model)
    report = decide(policy, rewritten.model, rewritten.origin, prune_int8=prunes_int8(method))
    report = dataclasses.replace(report, rewritten=rewritten.notes)
    treated = methods_of(report, method)
    require_treatable(report, strict=strict)
    trained = scheme.quantise(rewritten.model, treated, untouched=report.of(Treatment.FLOAT))
    connect(trained)
    initialise(trained)
    return trained, report


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
