"""Which flags of `ec2t train` belong to which ternary method."""

from __future__ import annotations

# Option of the method -> flag.
METHOD_FLAGS: dict[str, dict[str, str]] = {
    "ec2t": {
        name: name
        for name in (
            "centroid_scale",
            "entropy_gain",
            "target_sparsity",
            "layer_shares",
            "hysteresis",
            "frozen_from",
            "prune_int8_from",
            "centroid_learning_rate",
            "start",
            "reference_sign",
        )
    },
    "ttq": {"threshold": "ttq_threshold", "initial_scales": "ttq_initial_scales"},
    "twn": {
        "threshold": "twn_threshold",
        "factor": "twn_factor",
        "per_channel": "twn_per_channel",
    },
    "abs_mean": {},
    "tga": {
        "initial_threshold": "tga_initial_threshold",
        "threshold_learning_rate": "tga_threshold_learning_rate",
        "update": "tga_update",
    },
    "sparsity_regularized": {
        "mode": "sr_mode",
        "threshold": "sr_threshold",
        "ramp_until": "sr_ramp_until",
        "l2": "sr_l2",
        "prune_from": "sr_prune_from",
        "survivors": "sr_survivors",
    },
    "generalized_ternary_connect": {
        "largest_bits": "gtc_largest_bits",
        "distortion": "gtc_distortion",
        "level_penalty": "gtc_level_penalty",
        "warm_up": "gtc_warm_up",
        "frozen_from": "gtc_frozen_from",
    },
}
# Flags that belong to a method and are no option of it: the script itself heeds them.
ALSO: dict[str, tuple[str, ...]] = {"ec2t": ("sparsity_ramp",)}


def flags_of(method: str) -> set[str]:
    """The flags that belong to a method."""
    return {*METHOD_FLAGS[method].values(), *ALSO.get(method, ())}


OF_A_METHOD = frozenset(flag for method in METHOD_FLAGS for flag in flags_of(method))
