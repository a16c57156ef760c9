"""The formats that a net is stored in: graph to graph, or to bytes.

`FORMATS` lists them; `rewrite` turns a file into any of them, `unpack` a download file back.
"""

from .registry import FORMATS, FileFormat, plain, runtimes_of
from .registry import unpacked as unpack
from .rewriting import Rewritten, rewrite

__all__ = ["FORMATS", "FileFormat", "Rewritten", "plain", "rewrite", "runtimes_of", "unpack"]
