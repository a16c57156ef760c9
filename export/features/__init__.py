"""Features of sound: in NumPy for training, in whole numbers and in C for a microcontroller."""

from .log_mel import LogMel
from .write import to_c

__all__ = ["LogMel", "to_c"]
