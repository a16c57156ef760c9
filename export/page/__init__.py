"""The report as one HTML file that loads nothing else.

`file_sections` makes what it says of a `.tflite` file; the training script adds a run.
"""

from ec2t_tf.tables import Table

from .document import Figure, Section, Text, html
from .of_files import file_sections
from .write import write_page

__all__ = ["Figure", "Section", "Table", "Text", "file_sections", "html", "write_page"]
