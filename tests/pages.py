"""Parts of a page that a program writes: between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between its marks of a name.

    Raises:
      ValueError: the page has not just one pair of such marks.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    page, count = marks.subn(lambda found: f"{found[1]}{text.rstrip()}\n{found[2]}", page)
    if count != 1:
        raise ValueError(
            f"One pair of marks <!-- {name} --> is required in the page. Received: {count}."
        )
    return page
