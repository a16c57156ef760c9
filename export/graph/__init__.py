"""The integer graph: a trained net as a list of operators on int8 codes.

Every reader, lowering, writer, kernel exporter and report of `ec2t_tf.export` goes through it.
"""

from .errors import FileError
from .graph import Graph, Operator, Signature, Tensor

__all__ = ["FileError", "Graph", "Operator", "Signature", "Tensor"]
