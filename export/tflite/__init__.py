"""Writers from a verified int8 .tflite file to the other file formats."""

from .download import download, unpack
from .int4 import align_to_int4, int4
from .packed import packed
from .reader import read
from .sparse import sparse
from .writer import write

__all__ = ["align_to_int4", "download", "int4", "packed", "read", "sparse", "unpack", "write"]
