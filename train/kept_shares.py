"""What layers keep when training begins at a net of another sparsity.

`EC2T(layer_shares="kept")` gives each layer its share of the network's sparsity: the layer's own is
the share times the target. `EC2T(hysteresis=)` holds the codes that weights have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ec2t_tf.methods.entropy_constraint import UNDECIDED
from ec2t_tf.methods.network_start import SPARSITY_TOLERANCE
from ec2t_tf.schedule import PolynomialDecay


def adapt(layers: Sequence[Any], zeros: Sequence[float]) -> None:
    """Set the shares of ternary layers from the sparsity that each begins with, and free the codes.

    A sparsity that rises by a schedule begins at that of the net. For fewer zeros every layer gives
    up the same part of its zeros, for more the same part of its other weights: so the network meets
    its target, and no layer loses all of its weights.

    Args:
      layers: all ternary layers of a model; those without a target are left alone.
      zeros: of each the share of zeros, 0 to 1, of the net that training begins with.
    """
    networks: dict[str, list[tuple[Any, float]]] = {}
    for layer, own in zip(layers, zeros, strict=True):
        if getattr(layer.method, "final_sparsity", None):
            networks.setdefault(str(layer.method.get_config()), []).append((layer, own))
    for members in networks.values():
        method = members[0][0].method
        target = method.final_sparsity
        sizes = [float(np.prod(layer.latent.shape)) for layer, _ in members]
        whole = float(np.average([own for _, own in members], weights=sizes))
        for layer, _ in members:
            if isinstance(getattr(layer.method, "schedule", None), PolynomialDecay):
                layer.method.schedule.initial_sparsity = whole
        for layer, own in members:
            if whole > target:
                sparsity = own * target / whole
            else:
                sparsity = 1 - (1 - own) * (1 - target) / (1 - whole)
            if "layer_share" in layer.state:
                layer.state["layer_share"].assign(sparsity / target)
            if "codes" in layer.state and abs(whole - target) > SPARSITY_TOLERANCE:
                codes = np.full(layer.latent.shape, UNDECIDED, np.int8)
                layer.state["codes"].assign(codes)
