"""How fast the averages of a batch normalisation follow after `apply`; of either Keras.

`apply` changes all weights at once, and in the first hundreds of steps codes go on changing by the
thousand, each step moving the statistics of every layer behind. Averages over many batches are then
those of nets that are gone; over a few, they are those of too few examples. So they cover at first
the batches since `apply`, then `EXAMPLES` examples, then a share of all batches, until the user's
own momentum covers fewer. `python -m tests.bench.first_epochs` measures what it brings.
"""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any
EXAMPLES = 256
SHARE = 1 / 99


def growing_momentum(own: float, batches: Tensor, examples: Tensor) -> Tensor:
    """1 - 1 / window, at most `own`, float32 scalar.

    The window is max((100 + t) / 99, min((10 + t) / 9, 256 / n)) batches.

    Args:
      own: what the user wants in the end.
      batches: t, those since `apply`; float32 scalar.
      examples: n in a batch, scalar.
    """
    enough = EXAMPLES / ops.cast(examples, "float32")
    window = ops.maximum(1.0 + (1.0 + batches) * SHARE, ops.minimum((10.0 + batches) / 9.0, enough))
    return ops.minimum(own, 1.0 - 1.0 / window)
