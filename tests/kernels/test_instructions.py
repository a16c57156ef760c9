"""Instructions of the NEON kernel on the convolutions of ResNet-20 against XNNPACK int8, in QEMU.

Both counts are exact; ours changes a little with the compiler, so the bounds leave it some room.
"""

from __future__ import annotations

import pytest

from ec2t_tf.export.kernels import build
from ec2t_tf.export.kernels.bench import planar

from .conftest import CACHE

# Zeros -> at most this share of XNNPACK's instructions on cortex-a72 and on cortex-a76.
BOUNDS = {0.7: (0.30, 0.80), 0.8: (0.22, 0.55), 0.9: (0.14, 0.32)}


@pytest.mark.parametrize("zeros", BOUNDS)
def test_neon_needs_fewer_instructions_than_xnnpack(zeros: float) -> None:
    missing = build.AARCH64_QEMU.missing_tools()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    ours, peers = 0, [0, 0]
    counts = planar.count_instructions(planar.RESNET20, zeros, "fp32", CACHE)
    for case, kernels in zip(planar.RESNET20, counts, strict=True):
        ours += case.times * kernels["neon"][0]
        for core in range(2):
            key = (case.size, case.inputs, case.outputs, case.stride)
            peers[core] += case.times * planar.XNNPACK_INSTRUCTIONS[key][core]
    ratios = [ours / peer for peer in peers]
    print(f"{zeros:.0%} zeros: {ours} instructions, ratios {ratios}")
    for ratio, bound in zip(ratios, BOUNDS[zeros], strict=True):
        assert ratio <= bound
