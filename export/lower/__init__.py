"""Lowering: a trained model to the integer graph, one rule a layer.

`lowering.py` walks the calls of a model, `core.py` is what rules are written with, and `rules/` has
a file for each family of layers. A user registers a rule for a layer of their own with `rule`.
"""

from .lowering import lower
from .net import Net
from .pending import Kernel, NoRuleError, Pending, rule
from .trained import exact, graph_of, unwritable

ConversionError = NoRuleError  # its name in v0.1.0

__all__ = [
    "ConversionError",
    "Kernel",
    "Net",
    "NoRuleError",
    "Pending",
    "exact",
    "graph_of",
    "lower",
    "rule",
    "unwritable",
]
