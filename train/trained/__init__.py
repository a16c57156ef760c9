"""Trained nets that come with the package: a packed file, a card and examples each.

`names()` lists them, `card(name)` says what one is, `path(name)` gives the file that
`ec2t_tf.export.Interpreter` runs. `ec2t zoo` prints the table.
"""

from .cards import Card, card, examples, names, path, table

__all__ = ["Card", "card", "examples", "names", "path", "table"]
