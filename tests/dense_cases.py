"""Fully connected layers in whose outputs the rounding shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tests.net_builder import NetBuilder


@dataclasses.dataclass(frozen=True)
class DenseCase:
    """One fully connected layer, 96 -> 40, in whose outputs rounding shows: small weights and a
    large `factor` (scales of input and weights over that of the output)."""

    factor: float
    zeros: float | None = 0.7
    per_row: bool = False  # a scale for every row
    mirrored: bool = False
    seed: int = 0

    def layer(
        self,
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Weights, biases, and weight scales for input scale 1/64 and output scale 1/8."""
        random = np.random.default_rng(self.seed)
        p = None if self.zeros is None else [(1 - self.zeros) / 2, self.zeros, (1 - self.zeros) / 2]
        choice = [-2, -1, 0, 1, 2] if p is None else [-1, 0, 2]
        rows = random.choice(choice, (40, 96), p=p).astype(np.int8)
        if self.mirrored:
            rows[::3] *= -1
        bias = random.integers(-400, 400, 40).astype(np.int32)
        spread = random.uniform(0.5, 1.0, 40) if self.per_row else np.ones(1)
        return rows, bias, (8 * self.factor * spread).astype(np.float32)

    def model(self) -> bytes:
        rows, bias, scales = self.layer()
        net = NetBuilder((1, 96), seed=0)
        net.graph.tensors[net.input].quantization.scale = [1 / 64]
        filters = net.tensor(rows.shape, scales, 0, rows)
        constants = net.tensor((40,), scales / 64, 0, bias)
        out = net.tensor((1, 40), 1 / 8, 3)
        options = schema.FullyConnectedOptionsT()
        return net.finish(
            net.operator("FULLY_CONNECTED", [net.input, filters, constants], out, options)
        )

    def rounded_twice(self, values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """What the outputs would be if the layer rounded as convolutions do."""
        from ec2t_tf.export.mcu.arithmetic import quantised_multiplier

        rows, bias, scales = self.layer()
        sums = (values.astype(np.int64) - 4) @ rows.T.astype(np.int64) + bias
        pairs = [quantised_multiplier(float(s) / 64 / (1 / 8)) for s in scales]
        multiplier, shift = (np.array(column) for column in zip(*pairs, strict=True))
        high = (sums * multiplier + (1 << 30)) >> 31
        size = (np.abs(high) + np.where(shift < 0, 1 << np.maximum(-shift - 1, 0), 0)) >> -shift
        return np.clip(np.sign(high) * size + 3, -128, 127).astype(np.int8)


DENSE = {
    "lists": DenseCase(0.11),
    "mirrored": DenseCase(0.07, mirrored=True),
    "lists, rows": DenseCase(0.2, per_row=True, zeros=0.6),
    "int8": DenseCase(0.09, zeros=None),
    "int8, rows": DenseCase(0.15, zeros=None, per_row=True),
    "halves": DenseCase(0.125),  # sums that end in 4/8: away from zero
    "halves, int8": DenseCase(0.25, zeros=None),
}
