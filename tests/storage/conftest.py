"""What holds for the tests of storage."""

from __future__ import annotations

import pytest

from colindex.storage.directory import Operations


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fsync does shows only after a power cut; that it is called, and when, is what tests can see."""
    monkeypatch.setattr(Operations, "fsync", lambda _self, _descriptor: None)
