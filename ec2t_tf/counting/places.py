"""Where a layer applies its kernel."""

from __future__ import annotations

from typing import Any

Shape = tuple[int | None, ...]


def places(layer: Any, source: Shape, result: Shape) -> Shape:
    """Sizes of the map at each place of which the whole kernel is applied, for one input.

    That is the layer's output, pixels or time steps; of a transposed convolution, whose every input
    pixel meets every tap once, its input. What `export.graph.macs` multiplies the kernel with.

    Args:
      layer: of Keras 3 or tf_keras.
      source, result: shapes of what it reads and gives, with the batch.
    """
    if hasattr(layer, "equation"):
        return _of_einsum(layer.equation, result)
    shape = source if "Transpose" in type(layer).__name__ else result
    return shape[2:] if getattr(layer, "data_format", None) == "channels_first" else shape[1:-1]


def _of_einsum(equation: str, result: Shape) -> Shape:
    """Axes of an output that EinsumDense's kernel does not make: "abc,cde->abde" has a and b."""
    operands, _, letters = equation.replace(" ", "").partition("->")
    kernel = operands.split(",")[1]
    before, dots, behind = letters.partition("...")
    hidden = "." * (len(result) - len(before) - len(behind)) if dots else ""
    axes = zip(before + hidden + behind, result, strict=True)
    return tuple(size for letter, size in axes if letter not in kernel)[1:]
