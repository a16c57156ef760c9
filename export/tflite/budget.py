"""A bound on what a file makes its reader do.

Offsets may point many parents at one child, so that a few kilobytes describe billions of tables
and names. An honest file hardly ever repeats one: what is read, repeats included, stays in
proportion to the file.
"""

from __future__ import annotations

from ec2t_tf.export.graph import FileError

TABLE = 16  # bytes that a table of the file takes at least, its place in a list included
_REPEATS = 4  # our own writer shares equal vectors and names
_EXPANSION = 1024  # bytes that sparse storage may become, a byte of the file
_LEAST = 1 << 20
_MOST = 1 << 30


class Budget:
    """Bytes of a file that may still be read, and bytes that they may become.

    Args:
      size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = _REPEATS * size + 1024
        self._constants = 16 * size + _LEAST
        self._expanded = min(_EXPANSION * size + _LEAST, _MOST)

    def read(self, size: int) -> None:
        """Counts `size` bytes of tables, vectors and names.

        Raises:
          FileError: the file has fewer.
        """
        self._left -= size
        if self._left < 0:
            raise FileError(
                "the .tflite file is damaged: its tables refer to more entries than its "
                f"{self._size} bytes can hold. Export or download it again."
            )

    def constant(self, size: int) -> None:
        """Counts a constant of `size` bytes, every time that a tensor names it."""
        self._constants -= size
        if self._constants < 0:
            raise FileError(
                "the .tflite file is damaged: its constants, shared ones repeated, are over 16 "
                f"times its {self._size} bytes. Export or download it again."
            )

    def expand(self, size: int) -> None:
        """Counts `size` bytes that are made of stored ones: sparse and 4-bit weights."""
        self._expanded -= size
        if self._expanded < 0:
            raise FileError(
                f"the .tflite file must expand to at most {_EXPANSION} bytes a byte of the file, "
                f"or {_MOST:,}. Received: {self._size} bytes that expand to more."
            )
