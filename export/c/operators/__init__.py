"""One file a family of operators; `OPERATORS` says which function lowers which operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..graph import Operator
from . import elementwise, movement, pairs, reduction, resize, softmax

if TYPE_CHECKING:
    from ..lower import Lowering

# Appends the operator's steps to `net.steps` and defines the layouts of its outputs.
Lower = Callable[["Lowering", Operator], None]

OPERATORS: dict[str, Lower] = {
    **movement.OPERATORS,
    **pairs.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **softmax.OPERATORS,
    **elementwise.OPERATORS,
}
MANY_OUTPUTS = ("SPLIT", "SPLIT_V", "UNPACK")
