"""A whole int8 net as freestanding C: `to_c` writes model.c, model.h and the kernels they use."""

from .emit import Report, to_c
from .graph import ModelError
from .lower import CORES, OPTIMIZE

__all__ = ["CORES", "OPTIMIZE", "ModelError", "Report", "to_c"]
