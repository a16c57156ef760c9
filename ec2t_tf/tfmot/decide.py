"""Which layer of a tf_keras model gets which treatment, by a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tf_keras
from tf_keras import layers

from ec2t_tf.policy import ApplyReport, Decision, Policy, Rule, Treatment
from ec2t_tf.tfmot import registry
from ec2t_tf.tfmot.quantize_config import TERNARY_KERNELS


def decide(
    policy: Policy,
    model: tf_keras.Model,
    origin: Mapping[str, layers.Layer] | None = None,
    *,
    prune_int8: bool = False,
) -> ApplyReport:
    """Treatments of all layers of a built model that have weights or no rule in tfmot.

    Args:
      model: what is going to be trained.
      origin: layer name -> the layer of the user's model that it computes (a part of).
      prune_int8: layers with a kernel that the defaults keep int8 are pruned as well.
    """
    origin = origin or {}
    careful = Treatment.PRUNE if prune_int8 else Treatment.INT8
    kernels = [
        layer
        for layer in model.layers
        if has_kernel(layer) and has_kernel(origin.get(layer.name, layer))
    ]
    ends = {kernels[-1].name: "last", kernels[0].name: "first"} if kernels else {}
    used: set[Rule] = set()
    decisions: list[Decision] = []
    for layer in model.layers:
        if not layer.weights and registry.has_int8_rule(layer):
            continue
        if isinstance(layer, layers.InputLayer):
            continue
        source = origin.get(layer.name, layer)
        rule = next((rule for rule in policy.rules if rule.matches(layer, source)), None)
        is_end = (layer in kernels and ends.get(layer.name)) or None
        if rule is not None and layer in kernels:
            used.add(rule)
        left_float = {d.layer for d in decisions if d.treatment == Treatment.FLOAT}
        kernel = layer in kernels
        decisions.append(_decide(layer, source, is_end, rule, kernel, left_float, careful))
    unused = tuple(str(rule) for rule in policy.rules if rule not in used)
    return ApplyReport(tuple(decisions), unused_rules=unused)


def _decide(
    layer: layers.Layer,
    origin: layers.Layer,
    end: str | None,
    rule: Rule | None,
    kernel: bool,
    left_float: set[str],
    careful: Treatment,
) -> Decision:
    kind = type(layer).__name__

    def decision(treatment: Treatment, reason: str, refused: bool = False) -> Decision:
        return Decision(layer.name, kind, treatment, reason, refused, by_rule=rule is not None)

    if not registry.has_int8_rule(layer):
        if rule is not None and rule.treatment == Treatment.FLOAT:
            return decision(Treatment.FLOAT, f"rule: {rule}")
        reason = (
            f"tfmot has no rule for this {kind} layer; it stays float. Advice: replace it, or "
            f"accept a float part in the exported file"
        )
        return decision(Treatment.FLOAT, reason, refused=True)
    if isinstance(layer, layers.BatchNormalization):
        before = layer.inbound_nodes[0].keras_inputs[0]._keras_history.layer.name
        if before in left_float:
            return decision(Treatment.FLOAT, f"after '{before}', which stays float")
        reason = "folded into the scale of the layer before it"
        return dataclasses.replace(decision(Treatment.INT8, reason), folded_into=before)
    if not kernel:
        return decision(Treatment.INT8, f"computes a part of '{origin.name}'")
    if rule is not None:
        wanted, reason = rule.treatment, f"rule: {rule}"
    elif end:
        wanted, reason = careful, f"{end} layer with weights"
    elif isinstance(layer, layers.DepthwiseConv2D):
        wanted, reason = careful, "depthwise: few weights, sensitive"
    else:
        wanted, reason = Treatment.TERNARY, "default"
    if wanted in (Treatment.TERNARY, Treatment.PRUNE) and type(layer) not in TERNARY_KERNELS:
        reason = f"no ternary rule for a {kind} layer ({reason})"
        return decision(Treatment.INT8, reason, refused=True)
    return decision(wanted, reason)


def has_kernel(layer: layers.Layer) -> bool:
    """Whether the layer multiplies its input with weights: a matrix or a larger tensor."""
    if isinstance(layer, layers.PReLU):
        return False
    return any(len(weight.shape) >= 2 for weight in layer.weights)
