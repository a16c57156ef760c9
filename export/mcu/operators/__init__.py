"""One file a family of operators; `OPERATORS` says which function lowers which operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import Operator

from ..normalisations import NORMALISE
from ..tables import TABLE
from . import (
    convolution,
    elementwise,
    fully_connected,
    matmul,
    movement,
    normalise,
    pairs,
    pooling,
    recurrent,
    reduction,
    resize,
    rows,
    softmax,
    state,
    window,
)

if TYPE_CHECKING:
    from ..lowering import Lowering

# Appends the operator's steps to `net.steps` and defines the layouts of its outputs.
Lower = Callable[["Lowering", Operator], None]

OPERATORS: dict[str, Lower] = {
    **convolution.OPERATORS,
    **fully_connected.OPERATORS,
    **matmul.OPERATORS,
    **pooling.OPERATORS,
    **movement.OPERATORS,
    **pairs.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **softmax.OPERATORS,
    **elementwise.OPERATORS,
    **recurrent.OPERATORS,
    **state.OPERATORS,
}
# What passes over the graph put into it; no file has them.
INTERNAL: dict[str, Lower] = {
    window.SLIDE: window.slide,
    TABLE: elementwise.table,
    NORMALISE: normalise.normalise,
    **rows.OPERATORS,
}
SEVERAL_OUTPUTS = ("SPLIT", "SPLIT_V", "UNPACK")
NO_OUTPUTS = ("ASSIGN_VARIABLE", "CALL_ONCE")
