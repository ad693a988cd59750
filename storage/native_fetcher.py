"""The block store's native body: batched reads in C++, see storage/native/fetcher.h for how it goes.

Here arrays are handed over, and what failed becomes an error with a path. Without the extension (no compiler at install time)
`engines` lists `python` alone, and `PythonFetcher` does the same work.
"""

from __future__ import annotations

from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt

from colindex.storage.block_space import FetchCounters, PrefetchRule, Reader, Space, raise_closed
from colindex.storage.reads import Int64s, raise_ended_early, raise_refused, raise_wrong_checksum

try:
    from colindex.storage import _reads as native
except ImportError:
    HAS_NATIVE = False
else:
    HAS_NATIVE = True

__all__ = ["HAS_NATIVE", "NativeFetcher", "has_ring"]

_WRONG_CHECKSUM, _ENDED_EARLY, _REFUSED, _CLOSED = range(4)  # as in fetcher.h
_CLOSED_COUNT: Final = -1


def has_ring() -> bool:
    """Whether native reads can go through io_uring: kernels before 5.6 and some sandboxes say no."""
    return HAS_NATIVE and native.has_ring()


class NativeFetcher:
    """A body of the block store (see `block_space.Fetcher`), with `frames` blocks of memory for reads under way.

    `engine` is `io_uring` or `threads`.
    """

    def __init__(self, space: Space, engine: str, frames: int, rule: PrefetchRule) -> None:
        self._space = space
        self._settings = (engine, frames, rule)
        self._fetcher = self._make()
        self._before = FetchCounters()  # what the fetchers before this one did: the parent's, in a forked child
        self._closed = False

    @property
    def counters(self) -> FetchCounters:
        """What all fetches and prefetches so far did."""
        return self._before if self._closed else self._before + FetchCounters(*self._fetcher.counters())

    def fetch(self, starts: Int64s, ends: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes of the ranges, end to end.

        Raises CorruptIndexError if a block is not what was committed, StorageError if a read fails.
        """
        answer, counters, failure = self._fetcher.fetch(starts, ends)
        if failure is not None:
            self._raise(*failure)
        return answer, FetchCounters(*counters)

    def prefetch(self, starts: Int64s, ends: Int64s) -> int:
        """Start the reads of blocks neither held nor prefetched, as many as there is room for; how many."""
        started = self._fetcher.prefetch(starts, ends)
        if started == _CLOSED_COUNT:
            raise_closed()
        return started

    def forget(self, starts: Int64s, ends: Int64s) -> None:
        """These prefetched blocks are not wanted after all."""
        self._fetcher.forget(starts, ends)

    @property
    def reader(self) -> Reader:
        """The same for native code."""
        return Reader(self._fetcher.reader, self._raise)

    def close(self) -> None:
        """Refuse everything from now on; fetches of other threads and reads under way are waited for."""
        if not self._closed:
            self._fetcher.close()
            self._before, self._closed = self.counters, True

    def after_fork(self) -> None:
        """In a forked child: the reads under way and the threads are the parent's. Another fetcher, over the same table."""
        if not self._closed:
            self._before = self._abandoned()

    def _abandoned(self) -> FetchCounters:
        """What the parent's fetcher did, which is given up."""
        changing, counters = self._fetcher.abandon()
        if changing:  # another thread was in the middle of something
            self._space.table.clear()
        self._fetcher = self._make()
        return self._before + FetchCounters(*counters)

    def _make(self) -> native.Fetcher:
        space, table = self._space, self._space.table
        engine, frames, rule = self._settings
        return native.Fetcher(
            engine=engine,
            table={
                "table": table.table,
                "block_of": table.block_of,
                "frequency": table.frequency,
                "small": table.small.values,
                "main": table.main.values,
                "ghost": table.ghost,
                "counts": table.counts,
            },
            arena=space.arena.reshape(-1),
            checksums=[np.ascontiguousarray(checksums) for checksums in space.checksums],
            files=[
                (shard.descriptor, int(first), shard.data_bytes, shard.direct)
                for shard, first in zip(space.shards, space.shard_starts, strict=False)
            ],
            frames=frames,
            prefetch_limit=rule.limit,
            stale_fetches=rule.stale_fetches,
        )

    def _raise(self, kind: int, file: int, offset: int, length: int, expected: int, got: int) -> NoReturn:
        if kind == _CLOSED:
            raise_closed()
        shard = self._space.shards[file]
        if kind == _ENDED_EARLY:
            raise_ended_early(shard, offset, length, got)
        if kind == _REFUSED:
            raise_refused(shard, offset, length, expected, got)
        raise_wrong_checksum(shard, offset, expected, got)
