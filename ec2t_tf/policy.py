"""Which layer gets which treatment, and why."""

from __future__ import annotations

import dataclasses
import enum

import tf_keras
from tf_keras import layers

from ec2t_tf import scheme


class Treatment(str, enum.Enum):
    """What happens to a layer's weights."""

    TERNARY = "ternary"
    INT8 = "int8"
    FLOAT = "float"


@dataclasses.dataclass(frozen=True)
class Decision:
    """The treatment of one layer with weights.

    `refused` says that the layer could not be given what the defaults or a rule wanted for it.
    """

    layer: str
    kind: str
    treatment: Treatment
    reason: str
    refused: bool = False


@dataclasses.dataclass(frozen=True)
class ApplyReport:
    """What `apply` did with each layer: printed once, and kept as `model.ec2t_report`."""

    decisions: tuple[Decision, ...]

    def of(self, treatment: Treatment | str) -> list[str]:
        """Names of the layers with this treatment."""
        return [d.layer for d in self.decisions if d.treatment == treatment]

    @property
    def refused(self) -> list[Decision]:
        return [d for d in self.decisions if d.refused]

    def __str__(self) -> str:
        width = max((len(d.layer) for d in self.decisions), default=0)
        kind = max((len(d.kind) for d in self.decisions), default=0)
        counts = ", ".join(f"{len(self.of(t))} {t.value}" for t in Treatment if self.of(t))
        lines = [f"ec2t_tf.apply: {counts}"]
        lines += [
            f"  {d.layer:<{width}}  {d.kind:<{kind}}  {d.treatment.value:<7}  {d.reason}"
            for d in self.decisions
        ]
        return "\n".join(lines)


class Policy:
    """The default policy.

    The first and the last layer with weights, and depthwise convolutions, stay int8: they hold few
    weights and lose most by ternarization. Every other layer that can be ternary is.
    """

    def decide(self, model: tf_keras.Model) -> ApplyReport:
        """Treatments of all layers of a built model that have weights."""
        kernels = [layer for layer in model.layers if has_kernel(layer)]
        ends = {kernels[-1].name: "last", kernels[0].name: "first"} if kernels else {}
        decisions = [
            self._decide(layer, ends.get(layer.name)) for layer in model.layers if layer.weights
        ]
        return ApplyReport(tuple(decisions))

    def _decide(self, layer: layers.Layer, end: str | None) -> Decision:
        def decision(treatment: Treatment, reason: str, refused: bool = False) -> Decision:
            return Decision(layer.name, type(layer).__name__, treatment, reason, refused)

        if not scheme.has_int8_rule(layer):
            reason = f"tfmot has no rule for a {type(layer).__name__} layer; it stays as it is"
            return decision(Treatment.FLOAT, reason, refused=True)
        if isinstance(layer, layers.BatchNormalization):
            return decision(Treatment.INT8, "folded into the scale of the layer before it")
        if end:
            return decision(Treatment.INT8, f"{end} layer with weights")
        if isinstance(layer, layers.DepthwiseConv2D):
            return decision(Treatment.INT8, "depthwise: few weights, sensitive")
        if type(layer) not in scheme.TERNARY_KERNELS:
            reason = f"no ternary rule for a {type(layer).__name__} layer"
            return decision(Treatment.INT8, reason, refused=True)
        return decision(Treatment.TERNARY, "default")


def has_kernel(layer: layers.Layer) -> bool:
    """Whether the layer multiplies its input with weights (so not a batch normalisation)."""
    return bool(layer.weights) and not isinstance(layer, layers.BatchNormalization)
