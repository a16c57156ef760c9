"""A whole int8 net as freestanding C: `to_c` writes model.c, model.h and the kernels they use."""

from ec2t_tf.export.graph import FileError as ModelError

from .boards import BOARDS
from .cores import CORES, OPTIMIZE
from .emit import to_c
from .limits import limits
from .lowering import supported
from .report import Report

__all__ = ["BOARDS", "CORES", "OPTIMIZE", "ModelError", "Report", "limits", "supported", "to_c"]
