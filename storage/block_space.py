"""The address space of a block store, as its bodies see it, and what they count.

All segments' shard files, end to end, are one space of 4096-byte blocks. A `Space` is everything that a body needs to answer
for it: where blocks are, what their checksums must be, which are held, and the memory that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from colindex.storage.errors import StorageError
from colindex.storage.eviction import BlockTable
from colindex.storage.reads import BLOCK_BYTES, Int64s, OpenShard

__all__ = ["FetchCounters", "Fetcher", "PrefetchRule", "Reader", "Space", "raise_closed", "running_sums"]


@dataclass(frozen=True, slots=True)
class FetchCounters:
    """What one fetch did, or all of them together."""

    hits: int = 0
    """Blocks found in the cache."""
    misses: int = 0
    """Blocks read from a file."""
    reads: int = 0
    """Ranges read."""
    bytes_read: int = 0
    """Bytes read."""
    prefetched: int = 0
    """Blocks whose read a prefetch started."""
    prefetch_hits: int = 0
    """Missed blocks whose read a prefetch had started before they were asked for."""
    evictions: int = 0
    """Blocks that made room for others."""

    def __add__(self, other: FetchCounters) -> FetchCounters:
        return FetchCounters(  # spelled out: once a round of a search, and `dataclasses.astuple` takes 20 times as long
            self.hits + other.hits,
            self.misses + other.misses,
            self.reads + other.reads,
            self.bytes_read + other.bytes_read,
            self.prefetched + other.prefetched,
            self.prefetch_hits + other.prefetch_hits,
            self.evictions + other.evictions,
        )


@dataclass(frozen=True, slots=True)
class Space:
    """Blocks of files, and the cache over them."""

    shards: tuple[OpenShard, ...]
    """The files."""
    shard_starts: Int64s
    """First block of each file, and the number of all: [files + 1]."""
    segment_starts: Int64s
    """First block of each segment, and the number of all: [segments + 1]."""
    checksums: tuple[npt.NDArray[np.uint32], ...]
    """Checksums of each segment's blocks: the segments' own arrays, not a copy."""
    table: BlockTable
    """Which block is in which slot."""
    arena: npt.NDArray[np.uint8]
    """The slots, [slots, 4096]."""

    def check_inside(self, starts: Int64s, ends: Int64s) -> None:
        """Byte ranges lie in this space, or IndexError."""
        limit = int(self.shard_starts[-1]) * BLOCK_BYTES
        outside = np.flatnonzero((starts < 0) | (ends < starts) | (ends > limit))
        if len(outside):
            first = int(outside[0])
            raise IndexError(
                f"range {first}: expected bytes within [0, {limit}), got [{int(starts[first])}, {int(ends[first])})"
            )

    def expected(self, blocks: Int64s) -> npt.NDArray[np.uint32]:
        """Checksums that blocks must have, uint32 [n]."""
        expected = np.empty(len(blocks), dtype=np.uint32)
        owners = np.searchsorted(self.segment_starts, blocks, side="right") - 1
        for segment in np.unique(owners).tolist():
            mine = owners == segment
            expected[mine] = self.checksums[segment][blocks[mine] - self.segment_starts[segment]]
        return expected

    def locate(self, block: int) -> tuple[OpenShard, int]:
        """The file of a block, and its offset there."""
        shard = int(np.searchsorted(self.shard_starts, block, side="right")) - 1
        return self.shards[shard], (block - int(self.shard_starts[shard])) * BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class PrefetchRule:
    """How much may be prefetched."""

    limit: int
    """Blocks prefetched and not yet fetched, at most."""
    stale_fetches: int
    """A prefetched block that more later fetches than this did not ask for makes room for others when room is short."""


class Reader(NamedTuple):
    """What native code of others needs of a native body."""

    capsule: object
    """Its functions (storage/native/reader.h). Where they outlive the body, they refuse everything."""
    raise_failure: Callable[..., NoReturn]
    """Raises the error that a failure stands for, which they tell in a few numbers."""


class Fetcher(Protocol):
    """A body of the block store. Ranges are byte addresses [starts, ends), both int64 [ranges]."""

    @property
    def counters(self) -> FetchCounters:
        """What all fetches and prefetches so far did."""
        ...

    def fetch(self, starts: Int64s, ends: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes of the ranges, end to end."""
        ...

    def prefetch(self, starts: Int64s, ends: Int64s) -> int:
        """Start the reads of blocks neither held nor prefetched, as many as there is room for; how many."""
        ...

    def forget(self, starts: Int64s, ends: Int64s) -> None:
        """These prefetched blocks are not wanted after all."""
        ...

    @property
    def reader(self) -> Reader | None:
        """The same for native code; None where the body is none."""
        ...

    def close(self) -> None:
        """Let go of everything; reads under way are waited for."""
        ...

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's."""
        ...


def raise_closed() -> NoReturn:
    """Something was asked of a store that is closed."""
    raise StorageError("expected an open block store, got a closed one; open the index again")


def running_sums(counts: Sequence[int]) -> Int64s:
    """Running sums of counts, from 0, int64 [len + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, dtype=np.int64))])
