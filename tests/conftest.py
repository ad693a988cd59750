"""What holds for every test: no network, and the same examples on every run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Read when the model libraries are imported, which no test module does at its top.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# derandomize: a failure in CI is a failure here. No deadline and no example database: machines differ, and tests leave
# nothing behind. For a longer search: pytest --hypothesis-profile=explore
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", parent=settings.get_profile("default"), deadline=None, max_examples=2_000)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--steps", type=int, default=2_000, help="steps of tests/test_lifecycle.py")
    parser.addoption("--every-step", action="store_true", help="tests/test_crash_points.py goes wrong at every step")
    parser.addoption("--flips", type=int, default=150, help="bytes that tests/test_damage.py flips")
