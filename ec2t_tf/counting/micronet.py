"""The MicroNet-2019 score: parameters and operations by the rules of a challenge.

The NeurIPS 2019 MicroNet challenge counts a 32-bit number as 1 parameter and an operation on b-bit
inputs as b/32 operations; here in the way the authors of EC2T filled that in
(docs/specification.md, The MicroNet count). It reproduces their published figures: ResNet-20 has
269K parameters and 81.3M operations in float, 11.8K and 8.5M at 64 % zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ec2t_tf.counting.operations import (
    CHANNELWISE,
    SCALINGS,
    Operation,
    WeightTensor,
    counts_as_ternary,
    operations,
)

Accounting = Literal["published", "sound"]

CENTROID_BITS = 16
INDEX_BITS = 16


def ternary_formats(*, weights: int, nonzeros: int, rows: int) -> dict[str, int]:
    """Bits of a ternary tensor in each of the formats counted (docs/specification.md).

    Args:
      weights: numbers in the tensor.
      nonzeros: those that are not zero.
      rows: output channels.
    """
    return {
        "mask+values": weights + CENTROID_BITS * nonzeros,
        "CSR": (INDEX_BITS + 1) * nonzeros + INDEX_BITS * (rows + 1) + 2 * CENTROID_BITS,
        "CER": INDEX_BITS * nonzeros + 2 * INDEX_BITS * (rows + 1) + 2 * CENTROID_BITS,
        "two masks": 2 * weights + 2 * CENTROID_BITS,
        "mask+signs": weights + nonzeros + 2 * CENTROID_BITS,
    }


def tree_adder_bits(summands: float, *, first_bits: int = 16, most_bits: int = 32) -> float:
    """Bits of the additions in a balanced tree (docs/specification.md).

    Each level adds the operands in pairs, and its sums are one bit wider. As in the authors' count
    the tree starts with one operand less than there are summands. `summands` may be a fraction: it
    is an average over the filters of a layer.
    """
    operands, bits, total = summands - 1, first_bits, 0
    while operands > 1:
        total += math.floor(operands / 2) * bits
        operands = math.ceil(operands / 2)
        bits = min(bits + 1, most_bits)
    return total


# Multiplications and additions for one value (docs/specification.md; softmax is not counted).
_ACTIVATION_COST = {
    "elu": (2, 1),
    "gelu": (3, 1),
    "hard_sigmoid": (2, 1),
    "relu": (1, 0),
    "relu6": (1, 0),
    "sigmoid": (2, 1),
    "silu": (3, 1),
    "swish": (3, 1),
    "tanh": (2, 1),
}


@dataclass(frozen=True)
class LayerScore:
    """One line of a `MicroNetScore`.

    Attributes:
      name: the layer's name.
      treatment: "ternary", "sparse" or "dense"; "-" for a layer without weights.
      format: how its weights are counted.
      weights, nonzeros: numbers left after dead channels were taken out.
      dead_inputs, dead_outputs: channels taken out.
      parameters: in 32-bit numbers.
      additions, multiplications: in 32-bit operations.
    """

    name: str
    treatment: str = "-"
    format: str = "-"
    weights: int = 0
    nonzeros: int = 0
    dead_inputs: int = 0
    dead_outputs: int = 0
    parameters: float = 0.0
    additions: float = 0.0
    multiplications: float = 0.0


@dataclass(frozen=True)
class MicroNetScore:
    """Parameters and operations by the MicroNet-2019 rules.

    Attributes:
      layers: what each layer contributes, in the order they run.
      accounting: "published" or "sound", see `micronet_score`.
      float_bits: bits of every number that is not ternary.
    """

    layers: tuple[LayerScore, ...]
    accounting: Accounting
    float_bits: int

    @property
    def parameters(self) -> float:
        """Storage, in 32-bit numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def additions(self) -> float:
        return sum(layer.additions for layer in self.layers)

    @property
    def multiplications(self) -> float:
        return sum(layer.multiplications for layer in self.layers)

    @property
    def operations(self) -> float:
        """Additions and multiplications, in 32-bit operations."""
        return self.additions + self.multiplications

    def relative_to(self, *, parameters: float, operations: float) -> float:
        """The challenge's score against a baseline; smaller is better.

        ImageNet: parameters=6.9e6, operations=1170e6 (MobileNetV2-1.4). CIFAR-100:
        parameters=36.5e6, operations=10.49e9 (WideResNet-28-10).
        """
        return self.parameters / parameters + self.operations / operations

    def table(self) -> str:
        """The score as text, one line for each layer that contributes."""
        names = [layer.name for layer in self.layers]
        width = max(len("total"), *map(len, names))
        lines = [
            f"{'layer':{width}}  treatment  format       parameters     additions  multiplications"
        ]
        total = LayerScore(
            "total",
            parameters=self.parameters,
            additions=self.additions,
            multiplications=self.multiplications,
        )
        for layer in (*self.layers, total):
            if layer.parameters or layer.additions or layer.multiplications:
                lines.append(
                    f"{layer.name:{width}}  {layer.treatment:9}  {layer.format:11}"
                    f"{layer.parameters:12,.1f}{layer.additions:14,.0f}"
                    f"{layer.multiplications:17,.0f}"
                )
        lines.append(
            f"MicroNet 2019 ({self.accounting} accounting, float{self.float_bits}): "
            f"{self.parameters:,.0f} parameters, {self.operations / 1e6:,.2f} M operations"
        )
        return "\n".join(lines)


def micronet_score(
    model: Any,
    *,
    accounting: Accounting = "published",
    float_bits: int = 16,
    shortcuts: tuple[str, ...] = ("shortcut", "downsample"),
) -> MicroNetScore:
    """Count a model by the rules of the MicroNet challenge 2019.

    A weight tensor of {-w_n, 0, +w_p} counts as ternary: the smallest of five sparse formats,
    additions in a tree, two multiplications for an output. Any other counts `float_bits` a weight
    and a mask bit if it has zeros. A batch normalisation counts as one bias for each channel, its
    scale being folded. Softmax is free.

    Args:
      model: built Sequential or functional model, of Keras 3 or tf_keras.
      accounting: "published" is the authors' count, which their tables need. It flatters: outputs
        that are all zero in one convolution are taken from the inputs of the next one in the list,
        be there a skip connection in between or not; only the last skip addition counts; shortcut
        convolutions and average pooling do not. "sound" takes out inputs only where the graph shows
        that nothing but dead channels reaches them, and counts everything. Neither charges for
        the constant that batch normalisation leaves in a dead channel (it can be folded into the
        next layer's bias).
      float_bits: 16, which the challenge allows for free, or 32 (float baselines) or 8.
      shortcuts: parts of the names of shortcut layers, which "published" leaves out.

    Raises:
      TypeError, ValueError: an option is unknown, or the model cannot be counted.
    """
    if accounting not in ("published", "sound"):
        raise ValueError(
            f"accounting must be 'published' or 'sound'. Received: accounting={accounting!r}."
        )
    if float_bits not in (8, 16, 32):
        raise ValueError(f"float_bits must be 8, 16 or 32. Received: float_bits={float_bits}.")
    counter = _MicroNetCounter(accounting == "published", float_bits / 32)
    todo = operations(model)
    adds = [index for index, operation in enumerate(todo) if operation.kind == "Add"]
    for index, operation in enumerate(todo):
        is_shortcut = any(part in operation.name for part in shortcuts)
        if not (counter.published and is_shortcut):
            counter.count(index, operation, is_last_add=index == max(adds, default=-1))
    return MicroNetScore(tuple(counter.lines), accounting, float_bits)


class _MicroNetCounter:
    """Goes through the operations and remembers which channels are dead on the way."""

    def __init__(self, published: bool, cost: float) -> None:
        self.published = published
        self.cost = cost  # of a number, or of a multiplication, that is not ternary
        self.lines: list[LayerScore] = []
        # Operation -> which channels are alive; absent: all.
        self._alive: dict[int, np.ndarray] = {}
        self._alive_in_list: np.ndarray | None = None

    def count(self, index: int, operation: Operation, *, is_last_add: bool) -> None:
        alive = self._alive.get(operation.inputs[0]) if operation.inputs else None
        line = LayerScore(operation.name)
        for tensor in operation.weights:
            if self.published and tensor.kind == "convolution":
                alive = self._alive_in_list
            elif self.published and tensor.kind == "dense":
                alive = None
            line, alive = self._weights(line, tensor, alive)
            if tensor.kind == "convolution":
                self._alive_in_list = alive
        if operation.kind == "Add":
            # The authors count the ReLU after a block with the block's last convolution.
            alive = self._alive_in_list if self.published else self._alive_in_any(operation.inputs)
        if alive is not None and (operation.weights or operation.kind in (*CHANNELWISE, "Add")):
            self._alive[index] = alive
        self.lines.append(self._values(line, operation, alive, is_last_add))

    def _alive_in_any(self, sources: tuple[int, ...]) -> np.ndarray | None:
        known = [self._alive[source] for source in sources if source in self._alive]
        return np.any(known, axis=0) if len(known) == len(sources) else None

    def _weights(
        self, line: LayerScore, tensor: WeightTensor, alive: np.ndarray | None
    ) -> tuple[LayerScore, np.ndarray | None]:
        """`line` with a weight tensor added, and which of its outputs are alive (None: all)."""
        matrix, ternary = tensor.matrix, counts_as_ternary(tensor.matrix)
        inputs, _, outputs = matrix.shape
        alive_outputs = None
        if ternary:
            alive_outputs = np.any(matrix != 0, axis=(0, 1))
        if tensor.kind == "depthwise":
            if alive is not None:
                reached = np.repeat(alive, outputs // len(alive))
                alive_outputs = reached if alive_outputs is None else alive_outputs & reached
        elif alive is not None and len(alive) == inputs:  # grouped convolutions see fewer inputs
            matrix = matrix[alive]
        if alive_outputs is not None:
            matrix = matrix[:, :, alive_outputs]
        weights, nonzeros, rows = matrix.size, int(np.count_nonzero(matrix)), matrix.shape[2]
        summands = nonzeros / rows if rows else 0.0
        applied = rows * tensor.positions

        if ternary:
            treatment = "ternary"
            formats = ternary_formats(weights=weights, nonzeros=nonzeros, rows=rows)
            chosen = min(formats, key=lambda name: formats[name])
            parameters = formats[chosen] / 32
            if chosen != "mask+values":
                parameters = math.ceil(parameters)
            additions = applied * tree_adder_bits(summands) / 32
            multiplications = applied * 2 * CENTROID_BITS / 32
        else:
            treatment = "sparse" if nonzeros < weights else "dense"
            float_formats = {
                "values": weights * self.cost,
                "mask+values": weights / 32 + nonzeros * self.cost,
            }
            chosen = min(float_formats, key=lambda name: float_formats[name])
            parameters = float_formats[chosen]
            additions = applied * max(summands - 1, 0)
            multiplications = applied * summands * self.cost
        if tensor.bias:
            parameters += rows * self.cost
            additions += applied
        line = replace(
            line,
            treatment=treatment,
            format=chosen,
            weights=line.weights + weights,
            nonzeros=line.nonzeros + nonzeros,
            dead_inputs=line.dead_inputs + (inputs - matrix.shape[0]),
            dead_outputs=line.dead_outputs + (outputs - rows),
            parameters=line.parameters + (parameters if tensor.first_use else 0),
            additions=line.additions + additions,
            multiplications=line.multiplications + multiplications,
        )
        return line, alive_outputs

    def _values(
        self, line: LayerScore, operation: Operation, alive: np.ndarray | None, is_last_add: bool
    ) -> LayerScore:
        """`line` with what is done to each value: normalisation, activation, pooling, addition."""
        share = 1.0 if alive is None else float(alive.mean())
        elements = operation.elements * share
        per_multiplication, per_addition = _ACTIVATION_COST.get(operation.activation, (0, 0))
        multiplications, additions = elements * per_multiplication, elements * per_addition
        parameters = 0.0
        if operation.kind == "BatchNormalization":
            parameters += operation.channels * share * self.cost if operation.first_use else 0
            additions += elements
        elif operation.kind in ("Add", "Subtract", "Average", "Maximum", "Minimum"):
            if is_last_add or not self.published:
                additions += elements * (len(operation.inputs) - 1)
        elif operation.kind == "Multiply":
            multiplications += elements * (len(operation.inputs) - 1)
        elif operation.kind in SCALINGS:
            multiplications += elements
            additions += elements
        elif operation.window and not self.published:
            additions += elements * (operation.window - 1)
            multiplications += elements
        return replace(
            line,
            parameters=line.parameters + parameters,
            additions=line.additions + additions,
            multiplications=line.multiplications + multiplications * self.cost,
        )
