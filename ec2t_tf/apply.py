"""`apply`: a float model in, a model for ternary quantize-aware training out."""

from __future__ import annotations

import dataclasses

import numpy as np
import tf_keras

from ec2t_tf import keras_compat, methods, rewrite, scheme
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.methods.ec2t import PRUNING_CENTROID_SCALE, PRUNING_ENTROPY_GAIN
from ec2t_tf.policy import Policy, Treatment, has_kernel
from ec2t_tf.quantize_config import connect, initialise


class UnsupportedLayerError(ValueError):
    """`strict=True` and a layer could not be treated; the message names it."""


def apply(
    model: tf_keras.Model,
    method: str | TernaryMethod = "ec2t",
    *,
    policy: Policy | None = None,
    strict: bool = False,
    custom_layers: keras_compat.CustomLayers | None = None,
) -> tf_keras.Model:
    """A copy of `model` that trains into a sparse ternary network.

    Nothing else is needed: `compile` and `fit` as usual, with any optimiser. During training the
    float weights stay inside as latent weights; every forward pass computes with ternary weights
    and int8 activations.

    Args:
      model: built Sequential or functional model of Keras 3 or tf_keras, trained or not. It is not
        changed. A Keras 3 model is rebuilt in tf_keras first (`keras_compat.to_tf_keras`); layers
        that tfmot or the converter get wrong are replaced by equivalent ones (`rewrite`).
      method: name of a ternary method or a `TernaryMethod` object, e.g. `methods.EC2T(...)`.
      policy: which layer gets which treatment; None for the defaults (see `Policy`).
      strict: raise where a layer cannot be treated as wanted, instead of leaving it out.
      custom_layers: `{Keras3Layer: TfKerasLayer}`, the twins of the user's own Keras 3 layers.

    Returns:
      A new uncompiled tf_keras model. `model.ec2t_report` is the `ApplyReport` that was printed.

    Raises:
      TypeError: not a Sequential or functional model.
      ValueError: the model is not built, has no layer that can be ternary, holds NaN or infinite
        weights, or was treated before; or the method is unknown.
      UnsupportedLayerError: `strict` and a layer cannot be treated.
    """
    method = methods.get(method)
    if keras_compat.is_keras_3(model):
        model = keras_compat.to_tf_keras(model, custom_layers=custom_layers)
    check(model)
    rewritten = rewrite.rewrite(model)
    late = _late_pruning(method)
    policy = policy or Policy()
    report = policy.decide(rewritten.model, rewritten.origin, prune_int8=late is not None)
    report = dataclasses.replace(report, rewritten=rewritten.notes)
    treated = dict.fromkeys(report.of(Treatment.TERNARY), method)
    by_rule = {d.layer for d in report.decisions if d.by_rule}
    for name in report.of(Treatment.PRUNE):
        treated[name] = late if late and name not in by_rule else _pruning(method)
    if strict and report.refused:
        reasons = "; ".join(f"'{d.layer}': {d.reason}" for d in report.refused)
        raise UnsupportedLayerError(
            f"With strict=True every layer must be treatable. Received a model with {reasons}. "
            "Replace these layers, or pass strict=False to leave them out."
        )
    if not treated:
        raise ValueError(
            "apply requires at least one layer that can be ternary (Conv2D or Dense, neither the "
            f"first nor the last layer with weights). Received a model with none:\n{report}"
        )
    quantised = scheme.quantise(rewritten.model, treated, untouched=report.of(Treatment.FLOAT))
    connect(quantised)
    initialise(quantised)
    quantised.ec2t_report = report
    print(report)
    return quantised


def _pruning(method: TernaryMethod) -> methods.ECP:
    """Entropy-constrained pruning with the options of `method`, as far as it has them."""
    if not isinstance(method, methods.EC2T):
        return methods.ECP()
    options = method.get_config()
    del options["prune_int8_from"]
    return methods.ECP(**options)


def _late_pruning(method: TernaryMethod) -> methods.ECP | None:
    """What `prune_int8_from` does to the layers that would stay int8; None where it is not set."""
    if not isinstance(method, methods.EC2T) or method.prune_int8_from is None:
        return None
    return methods.ECP(
        centroid_scale=PRUNING_CENTROID_SCALE,
        entropy_gain=PRUNING_ENTROPY_GAIN,
        prune_from=method.prune_int8_from,
        frozen_from=method.frozen_from,
        total_steps=method.total_steps,
    )


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
    if scheme.is_quantised(model):
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
