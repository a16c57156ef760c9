"""Which layer of a Keras 3 model gets which treatment, by a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras import layers

from ec2t_tf.ends import Step, ends
from ec2t_tf.policy import ApplyReport, Decision, Policy, Rule, Treatment
from ec2t_tf.quantisation.computed import OfComputed
from ec2t_tf.quantisation.graph import Graph
from ec2t_tf.quantisation.kinds import DEPTHWISE, KERNELS, RECURRENT, has_rule, kind_of
from ec2t_tf.quantisation.opened import closed_by


def decide(
    graph: Graph,
    policy: Policy,
    origin: Mapping[str, Any],
    *,
    prune_int8: bool = False,
) -> ApplyReport:
    """Treatments of all layers that have weights or no int8 rule.

    Args:
      graph: what is going to be trained (after `split`).
      origin: layer name -> the layer of the user's model that it computes (a part of).
      prune_int8: layers with a kernel that the defaults keep int8 are pruned as well.
    """
    return _Deciding(graph, policy, origin, prune_int8).report()


def _ends(graph: Graph) -> dict[str, str]:
    with_weights = (*KERNELS, *RECURRENT, "Embedding")
    steps = [
        Step(
            call.name,
            call.is_layer and kind_of(call.operation) in with_weights,
            call.inputs,
            call.results,
        )
        for call in graph.calls
    ]
    return ends(steps, graph.results)


class _Deciding:
    def __init__(
        self,
        graph: Graph,
        policy: Policy,
        origin: Mapping[str, Any],
        prune_int8: bool,
    ) -> None:
        self._graph, self._policy, self._origin = graph, policy, origin
        self._careful = Treatment.PRUNE if prune_int8 else Treatment.INT8
        kernels = [c.name for c in graph.calls if c.is_layer and kind_of(c.operation) in KERNELS]
        self._kernels = set(kernels)
        self._ends = _ends(graph)
        self._used: set[Rule | None] = set()
        self._float: set[str] = set()

    def report(self) -> ApplyReport:
        decisions: dict[str, Decision] = {}
        for call in self._graph.at_inference():
            if call.name in decisions:
                continue
            kind = kind_of(call.operation)
            if not call.is_layer:
                if not has_rule(kind):
                    decisions[call.name] = self._no_rule(call.name, kind, None, [])
                continue
            if not call.operation.weights and has_rule(kind):
                continue
            makers = [self._graph.calls[v.maker].name for v in call.inputs if v.maker >= 0]
            lacks = closed_by(call.operation, call.args, call.kwargs)
            decision = self._decide(call.operation, makers, lacks)
            if decision.by_rule:
                self._used.add(self._rule_for(call.operation))
            decisions[call.name] = decision
            if decision.treatment == Treatment.FLOAT:
                self._float.add(call.name)
        unused = tuple(str(rule) for rule in self._policy.rules if rule not in self._used)
        return ApplyReport(tuple(decisions.values()), unused_rules=unused)

    def _rule_for(self, layer: layers.Layer) -> Rule | None:
        origin = self._origin.get(layer.name, layer)
        return next((rule for rule in self._policy.rules if rule.matches(layer, origin)), None)

    def _no_rule(self, name: str, kind: str, rule: Rule | None, lacks: list[str]) -> Decision:
        if rule is not None and rule.treatment == Treatment.FLOAT:
            return Decision(name, kind, Treatment.FLOAT, f"rule: {rule}", by_rule=True)
        why = f" with {' and '.join(lacks)}" if lacks else ""
        reason = (
            f"no int8 rule for this {kind}{why}; it stays float. Advice: replace it, or accept a "
            "float part in the exported file"
        )
        return Decision(name, kind, Treatment.FLOAT, reason, refused=True)

    def _decide(self, layer: layers.Layer, makers: list[str], lacks: list[str]) -> Decision:
        kind, rule = kind_of(layer), self._rule_for(layer)

        def decision(treatment: Treatment, reason: str, *, folded_into: str = "") -> Decision:
            dropped = _dropped(layer) if treatment in (Treatment.TERNARY, Treatment.PRUNE) else ""
            return Decision(
                layer.name,
                type(layer).__name__,
                treatment,
                reason + dropped,
                by_rule=reason.startswith("rule: "),
                folded_into=folded_into,
            )

        if not has_rule(kind) or lacks:
            return self._no_rule(layer.name, type(layer).__name__, rule, lacks)
        if kind == "BatchNormalization":
            before = [name for name in makers if name in self._float]
            if before:
                return decision(Treatment.FLOAT, f"after '{before[0]}', which stays float")
            folded = [name for name in makers if name in self._kernels]
            if folded:
                reason = "folded into the scale of the layer before it"
                return decision(Treatment.INT8, reason, folded_into=folded[0])
            return decision(Treatment.INT8, "an operator of its own")
        if kind in ("Weight", "Computed") and rule is None:
            return decision(Treatment.INT8, "a weight that a layer of yours has itself")
        if kind == "Embedding" and rule is None:
            return decision(self._careful, "a table, from which rows are taken")
        if kind not in (*KERNELS, *RECURRENT, "Embedding"):
            wanted = Treatment.INT8 if rule is None else rule.treatment
            treatment = Treatment.FLOAT if wanted == Treatment.FLOAT else Treatment.INT8
            return decision(treatment, "no kernel" if rule is None else f"rule: {rule}")
        if rule is not None:
            return decision(rule.treatment, f"rule: {rule}")
        end = self._ends.get(layer.name)
        if end == "first" and kind in RECURRENT:
            reason = "first layer with weights: the matrix of its inputs stays int8"
            return dataclasses.replace(decision(Treatment.TERNARY, reason), only="recurrent")
        if end is not None:
            return decision(self._careful, f"{end} layer with weights")
        if isinstance(layer, OfComputed) and not layer.computed.weights:
            return decision(Treatment.INT8, "its kernel is constant")
        if kind in DEPTHWISE:
            return decision(self._careful, "depthwise: few weights, sensitive")
        return decision(Treatment.TERNARY, "default")


def _dropped(layer: layers.Layer) -> str:
    """The decay of latent weights, which ternary layers train without."""
    names = [
        f"{part}_regularizer"
        for part in ("kernel", "depthwise", "recurrent", "embeddings")
        if getattr(layer, f"{part}_regularizer", None) is not None
    ]
    if isinstance(layer, OfComputed) and layer.computed.regularizer is not None:
        names.append("regularizers of what its kernel is computed from")
    return f"; without its {', '.join(names)}" if names else ""
