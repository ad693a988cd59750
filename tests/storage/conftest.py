"""What holds for the tests of storage."""

from __future__ import annotations

import pytest

from colindex.storage import lmdb_guard
from colindex.storage.directory import Operations


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fsync does shows only after a power cut; that it is called, and when, is what tests can see."""
    monkeypatch.setattr(Operations, "fsync", lambda _self, _descriptor: None)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that finds a catalog in the middle of a commit looks again at once."""
    monkeypatch.setattr(lmdb_guard, "_PAUSE", 0)
