"""CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_its_places_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    places = {place for place in re.findall(r"`([\w./*-]+)`", text) if "/" in place}
    assert len(places) > 30
    for place in places:
        pattern = place.rstrip("/").replace("NAME", "*")
        if not any(ROOT.glob(pattern)):
            # in a row of the table, a file of the folder that is named before it
            assert any(ROOT.glob(f"*/{pattern}")) or any(ROOT.glob(f"*/*/{pattern}")), place


def test_the_four_corners_are_linked() -> None:
    for name in ("CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CITATION.cff", "LICENSE"):
        assert (ROOT / name).exists()
