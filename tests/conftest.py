"""Fixtures for all rooms."""

from __future__ import annotations

import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# TensorFlow's own default depends on the processor, and without it some layers have no kernel.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pytest

pytest.register_assert_rewrite("tests.method_contract")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `few(n)`, all cases but n are slow.

    Which n is decided by names: it is the same from run to run, and of several parameters none
    keeps its first value only."""
    cases: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("few") and not item.get_closest_marker("slow"):
            cases[item.nodeid.partition("[")[0]].append(item)
    for family in cases.values():
        (count,) = family[0].get_closest_marker("few").args
        for item in sorted(family, key=lambda one: zlib.crc32(one.nodeid.encode()))[count:]:
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tests marked `no_cover` are not counted under pytest-xdist either, whose workers have two
    collectors: pytest-cov stops one, and the other goes on."""
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that developers have beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("reference data (../shared) is not here; only developers have it")
    return SHARED


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by EC2T_TEST_SEED (default 0); the seed is printed when a test fails."""
    seed = int(os.environ.get("EC2T_TEST_SEED", "0"))
    print(f"replay: EC2T_TEST_SEED={seed} pytest '{request.node.nodeid}'")
    return np.random.default_rng(seed)
