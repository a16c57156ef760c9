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
    shape = source if "Transpose" in type(layer).__name__ else result
    return shape[2:] if getattr(layer, "data_format", None) == "channels_first" else shape[1:-1]
