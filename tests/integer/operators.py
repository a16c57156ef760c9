"""All random nets of one operator, by name."""

from __future__ import annotations

from . import case_elementwise, case_movement, case_products, case_recurrent, case_wide  # noqa: F401
from .nets import CASES, inputs_of

__all__ = ["CASES", "inputs_of"]
