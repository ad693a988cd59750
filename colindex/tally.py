"""What a search does, summed up as it goes: time by stage, documents by stage, reads."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from colindex.storage.blocks import FetchCounters
from colindex.types import SearchStats

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """What a search has done so far."""

    seconds: dict[str, float] = field(default_factory=dict)
    postings: int = 0
    gathered: int = 0
    candidates: int = 0
    fetched: list[FetchCounters] = field(default_factory=list)
    announced: int = 0
    """Blocks whose reads prefetches have started."""
    _mark: float = field(default_factory=time.perf_counter)

    def mark(self) -> None:
        """Begin to count from now: the time since the last lap was another query's."""
        self._mark = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to a stage."""
        now = time.perf_counter()
        self.charge(stage, now - self._mark)
        self._mark = now

    def charge(self, stage: str, seconds: float) -> None:
        """Charge some seconds to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def stats(self) -> SearchStats:
        """The same, for who asked for it."""
        fetched = sum(self.fetched[1:], self.fetched[0]) if self.fetched else FetchCounters()
        return SearchStats(
            seconds=dict(self.seconds),
            postings=self.postings,
            gathered=self.gathered,
            candidates=self.candidates,
            bytes_read=fetched.bytes_read,
            reads=fetched.reads,
            cache_hits=fetched.hits,
            cache_misses=fetched.misses,
            prefetch_hits=fetched.prefetch_hits,
        )
