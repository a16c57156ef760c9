"""The report as one HTML file that loads nothing else.

`file_sections` makes what it says of `.tflite` files; the training script adds a run.
"""

from .document import Figure, Section, Table, Text, html
from .of_files import file_sections, write_page

__all__ = ["Figure", "Section", "Table", "Text", "file_sections", "html", "write_page"]
