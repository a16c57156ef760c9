"""First and last layers of a net, which the defaults of a `Policy` keep int8; of either Keras.

First is every layer with a kernel that no other such layer comes before: each branch of a net with
several inputs begins with one. Last is, for every output, the layer with a kernel that computes it
with nothing but operations without a kernel behind; of several, whose results are added or
concatenated, the one that runs last: the others may lie inside of a residual or dense block.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """A call of a layer or operation; values are told apart by anything hashable."""

    layer: str
    has_kernel: bool
    inputs: Sequence[Hashable]
    outputs: Sequence[Hashable]


def ends(steps: Sequence[Step], outputs: Iterable[Hashable]) -> dict[str, str]:
    """Layer name -> "first" or "last" (which "first" goes before).

    Args:
      steps: in the order in which they run.
      outputs: those of the net.
    """
    found: dict[str, str] = {}
    # The step with a kernel that computed a value with nothing but other operations behind.
    nearest: dict[Hashable, int] = {}
    behind_kernel: set[Hashable] = set()
    first: set[str] = set()
    for number, step in enumerate(steps):
        behind = any(value in behind_kernel for value in step.inputs)
        if step.has_kernel and not behind:
            first.add(step.layer)
        if behind or step.has_kernel:
            behind_kernel.update(step.outputs)
        before = [nearest[value] for value in step.inputs if value in nearest]
        if step.has_kernel or before:
            own = number if step.has_kernel else max(before)
            nearest.update(dict.fromkeys(step.outputs, own))
    for value in outputs:
        if value in nearest:
            found[steps[nearest[value]].layer] = "last"
    return {**found, **dict.fromkeys(first, "first")}
