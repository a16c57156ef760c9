"""From a policy's decisions to the method of each layer."""

from __future__ import annotations

from ec2t_tf import methods
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.methods.ec2t import PRUNING_CENTROID_SCALE, PRUNING_ENTROPY_GAIN
from ec2t_tf.policy import ApplyReport, Treatment


class UnsupportedLayerError(ValueError):
    """A layer cannot be treated, nor left float in a file; or not treated, and `strict=True`."""


def prunes_int8(method: TernaryMethod) -> bool:
    """Whether the layers that the defaults keep int8 are pruned in the course of the training."""
    return _late_pruning(method) is not None


def methods_of(report: ApplyReport, method: TernaryMethod) -> dict[str, TernaryMethod]:
    """By layer name: `method` where a layer is ternary, entropy-constrained pruning if pruned."""
    late = _late_pruning(method)
    treated = dict.fromkeys(report.of(Treatment.TERNARY), method)
    by_rule = {d.layer for d in report.decisions if d.by_rule}
    for name in report.of(Treatment.PRUNE):
        treated[name] = late if late and name not in by_rule else _pruning(method)
    return treated


def require_none_refused(report: ApplyReport, *, strict: bool) -> None:
    """Raise UnsupportedLayerError if `strict` and a layer cannot be treated."""
    if strict and report.refused:
        reasons = "; ".join(f"'{d.layer}': {d.reason}" for d in report.refused)
        raise UnsupportedLayerError(
            f"With strict=True every layer must be treatable. Received a model with {reasons}. "
            "Replace these layers. strict=False leaves out those that a file can hold in float, "
            "and names the others."
        )


def require_treatable(report: ApplyReport) -> None:
    """Raise ValueError if no layer is ternary or pruned, and no rule wants it so."""
    treated = [*report.of(Treatment.TERNARY), *report.of(Treatment.PRUNE)]
    if treated or any(d.by_rule and d.treatment == Treatment.INT8 for d in report.decisions):
        return
    raise ValueError(
        "apply requires at least one layer that can be ternary: Dense or a convolution, by default "
        "neither the first nor the last layer with weights, nor depthwise. Received a model with "
        f"none:\n{report}\nTo make all that can be ternary, pass "
        'policy=Policy([Rule("ternary")]); for one layer policy={"<name>": "ternary"}; for the '
        'int8 net policy=Policy([Rule("int8")]).'
    )


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
