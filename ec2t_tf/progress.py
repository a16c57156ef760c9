"""What takes longer than two seconds says so on a terminal, and nowhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
DELAY = 2.0  # seconds that nobody needs to be told about
_SECONDS = 0.5  # between two looks at the clock


def bar(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar of how many are done.

    Args:
      what: is being done, such as "running in LiteRT".
      total: how many items there are, where `items` has no length.
    """
    return iter(tqdm(items, what, total, leave=False, file=sys.stderr, disable=None, delay=DELAY))


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Around one step that cannot be counted: what is being done, and for how long."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def tick() -> None:
        if done.wait(DELAY):
            return
        with tqdm(desc=what, bar_format="{desc}: {elapsed}", leave=False, file=sys.stderr) as clock:
            # It began before the clock was drawn.
            clock.start_t -= DELAY
            while not done.wait(_SECONDS):
                clock.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
