"""The integer graph: a trained net as a list of operators on int8 codes.

Every reader, lowering, writer, kernel exporter and report of `ec2t_tf.export` goes through it.
"""

from .checking import check
from .edit import prune
from .errors import FileError
from .folding import fold
from .graph import Graph, Operator, Signature, Sparsity, Tensor

__all__ = [
    "FileError",
    "Graph",
    "Operator",
    "Signature",
    "Sparsity",
    "Tensor",
    "check",
    "fold",
    "prune",
]
