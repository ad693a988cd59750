"""What long work tells whoever watches: a value, handed to a function that the caller supplies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Report", "silent"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage has come."""

    stage: str
    """The stage's name: ingest, sample, train, encode, commit."""
    done: int
    """Units finished so far."""
    total: int | None
    """Units in all, None where that is not known yet."""
    unit: str = "documents"
    """What is counted."""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Watch nothing."""
