"""What long work tells whoever watches: a value, handed to a function that the caller supplies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Report", "Rising", "silent"]


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


class Rising:
    """One stage's documents, told as they rise: at its beginning, and whenever more are done than was told."""

    def __init__(self, stage: str, total: int, report: Report, done: int = 0) -> None:
        self._stage, self._total, self._report = stage, total, report
        self.done = done
        """What was told last."""
        report(Progress(stage, done, total))

    def at_least(self, done: int) -> None:
        """So many are done."""
        if done > self.done:
            self.done = done
            self._report(Progress(self._stage, done, self._total))

    def beyond(self, before: int) -> Callable[[int], None]:
        """What to call with a number of documents that are done after the first `before`."""
        return lambda more: self.at_least(before + more)
