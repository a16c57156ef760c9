"""What docs/ prints from the code is what the code says today."""

from __future__ import annotations

import pytest

from tests import generated_pages


@pytest.mark.parametrize("name", generated_pages.PRINTED)
def test_page_is_as_the_code_prints_it(name: str) -> None:
    page = (generated_pages.DOCS / f"{name}.md").read_text()
    assert generated_pages.filled(name, page) == page, "run: make docs"
