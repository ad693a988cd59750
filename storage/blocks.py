"""The block cache: records larger than memory, read through a fixed number of slots.

All segments' shard files, end to end, form one address space of 4096-byte blocks. `BlockStore` answers for any byte of it:

1. **Divide** `cache_bytes`: a quarter, at most 8 MiB, is staging, where reads under way and prefetched blocks are; the rest
   is the arena, one slot a block, with its bookkeeping (see `eviction`).
2. **Open** the files, past the page cache where the file system allows it.
3. **Fetch** and **prefetch** through one of two bodies: `NativeFetcher`, or `PythonFetcher` where the extension was not compiled.

Arena and staging are anonymous mappings of fixed size: the bound holds by construction, and nothing grows. A forked child may
go on reading: its arena is its own copy, and reads under way stay its parent's.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from colindex.storage.block_space import (
    FetchCounters,
    Fetcher,
    PrefetchRule,
    Reader,
    Space,
    raise_closed,
    running_sums,
)
from colindex.storage.errors import CorruptIndexError
from colindex.storage.eviction import SLOT_BYTES, BlockTable
from colindex.storage.native_fetcher import HAS_NATIVE, NativeFetcher, has_ring
from colindex.storage.python_fetcher import PythonFetcher
from colindex.storage.reads import BLOCK_BYTES, Int64s, close_shards, open_shards

__all__ = ["BlockStore", "FetchCounters", "SegmentBlocks", "ShardBlocks", "engines"]

FRAMES: Final = (64, 2048)
"""Least and most frames of staging, a block each. The least suffices for one document after the other."""

FRAME_BYTES: Final = 128
"""At most what is noted about a frame: its flight, its block, its place among the prefetched ones."""

ENGINE_BYTES: Final = {"io_uring": 32 << 10, "threads": 192 << 10, "python": 0}
"""At most what an engine keeps: the two rings, or the stacks of its threads."""

STALE_FETCHES: Final = 16
"""A prefetched block is one that a search gave up on when this many fetches came after it and none wanted it."""

SMALLEST_DIVIDED: Final = 1 << 20
"""Staging comes out of `cache_bytes` from here on. A smaller cache, which no index is opened with, has the least beside it."""


@dataclass(frozen=True, slots=True)
class ShardBlocks:
    """Where the blocks of one shard file are."""

    path: Path
    """The file; its data starts at byte 0."""
    blocks: int
    """How many blocks it holds."""
    data_bytes: int
    """Bytes of data; the last block is zero from there on."""

    def __post_init__(self) -> None:
        if not (self.blocks - 1) * BLOCK_BYTES < self.data_bytes <= self.blocks * BLOCK_BYTES:
            raise CorruptIndexError(
                f"{self.path}: expected {self.blocks} blocks of {BLOCK_BYTES} bytes, got {self.data_bytes} bytes of data; "
                "rebuild the index."
            )


@dataclass(frozen=True, slots=True)
class SegmentBlocks:
    """The blocks of one segment."""

    shards: tuple[ShardBlocks, ...]
    """Its shard files, in order."""
    checksums: npt.NDArray[np.uint32]
    """Low 32 bits of the xxh3_64 of each block, zero-padded to 4096 bytes, [blocks]."""

    def __post_init__(self) -> None:
        blocks = sum(shard.blocks for shard in self.shards)
        if self.checksums.shape != (blocks,):
            where = self.shards[0].path if self.shards else "segment without shards"
            raise CorruptIndexError(
                f"{where}: expected {blocks} block checksums, got an array of shape {self.checksums.shape}; rebuild the index."
            )


@cache
def engines() -> tuple[str, ...]:
    """How blocks can be read here, the best first: `io_uring`, `threads`, `python`."""
    return (*(("io_uring",) if has_ring() else ()), *(("threads",) if HAS_NATIVE else ()), "python")


class BlockStore:
    """Blocks of segments, cached in a fixed number of slots. Any number of threads may use one store.

    Block numbers are 32 bits wide in the table: 2^31 blocks, 8 TiB. `engine` is for tests and benchmarks: one of `engines()`,
    the best if not given.

    Raises CorruptIndexError if a file is missing or too short.
    """

    def __init__(self, files: Sequence[SegmentBlocks], cache_bytes: int, engine: str | None = None) -> None:
        self.engine: Final = engine or engines()[0]
        shards = [shard for segment in files for shard in segment.shards]
        shard_starts = running_sums([shard.blocks for shard in shards])
        self.blocks: Final = int(shard_starts[-1])
        cache_bytes = max(cache_bytes, 0)
        self._frames = _frames(cache_bytes, self.blocks)
        self._staging_bytes = self._frames * FRAME_BYTES + ENGINE_BYTES[self.engine]
        if self.engine != "python":  # where prefetched blocks are the page cache's
            self._staging_bytes += self._frames * BLOCK_BYTES
        left = cache_bytes - (self._staging_bytes if cache_bytes >= SMALLEST_DIVIDED else 0)
        table = BlockTable(self.blocks, min(left // (BLOCK_BYTES + SLOT_BYTES), self.blocks))
        self._space = Space(
            shards=open_shards(
                [shard.path for shard in shards], [shard.data_bytes for shard in shards], self.engine != "python"
            ),
            shard_starts=shard_starts,
            segment_starts=running_sums([len(segment.checksums) for segment in files]),
            checksums=tuple(segment.checksums for segment in files),
            table=table,
            arena=_allocate(table.slots),
        )
        self._closed = False
        self._fetcher = self._body()
        _OPEN_STORES.add(self)

    @property
    def slots(self) -> int:
        """Blocks that the cache can hold: never more than there are."""
        return self._space.table.slots

    @property
    def prefetch_limit(self) -> int:
        """Blocks that can be prefetched and not yet fetched."""
        return self._frames * 3 // 4  # the other frames are for what is asked for and was not prefetched

    @property
    def counters(self) -> FetchCounters:
        """What all fetches and prefetches so far did."""
        return self._fetcher.counters

    @property
    def resident_bytes(self) -> dict[str, int]:
        """Bytes kept in memory, by part; their sum never changes.

        `arena`, `bookkeeping` and `staging` together are at most `cache_bytes`; the others grow with the files, not with the
        cache.
        """
        return {
            "arena": self.slots * BLOCK_BYTES,
            "bookkeeping": self.slots * SLOT_BYTES,
            "staging": 0 if self._closed else self._staging_bytes,
            "table": self._space.table.table.nbytes,
            "checksums": sum(checksums.nbytes for checksums in self._space.checksums),
        }

    def base(self, segment: int) -> int:
        """Number of the first block of a segment."""
        return int(self._space.segment_starts[segment])

    def fetch(self, blocks: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes of distinct `blocks`, int64 [n], as a new array uint8 [n, 4096], read in the order wanted.

        Raises CorruptIndexError if a block is not what was committed, StorageError if a read fails.
        """
        answer, counters = self.fetch_ranges(*_bytes_of(blocks))
        return answer.reshape(-1, BLOCK_BYTES), counters

    def fetch_ranges(self, starts: Int64s, ends: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes [starts, ends) of the address space, both int64 [documents], laid end to end, uint8 [total].

        Byte b of segment s is at `base(s) * 4096 + b`. A block that several documents share is read once.

        Raises as `fetch` does.
        """
        if self._closed:
            raise_closed()
        return self._fetcher.fetch(starts, ends)

    def prefetch(self, blocks: Int64s) -> int:
        """`prefetch_ranges` for whole blocks, int64 [n]."""
        return self.prefetch_ranges(*_bytes_of(blocks))

    def prefetch_ranges(self, starts: Int64s, ends: Int64s) -> int:
        """Start the reads of those blocks of byte ranges that are neither held nor prefetched, and return how many.

        Waits for none. At most `prefetch_limit` blocks may be prefetched and not yet fetched: the first of the ranges are
        taken, the others left out. Nothing prefetched drives a block out of the cache.
        """
        if self._closed:
            raise_closed()
        return self._fetcher.prefetch(starts, ends)

    def forget_ranges(self, starts: Int64s, ends: Int64s) -> None:
        """What was prefetched of these byte ranges is not wanted after all: make room for other prefetches."""
        if not self._closed:
            self._fetcher.forget(starts, ends)

    @property
    def reader(self) -> Reader | None:
        """Fetching, prefetching and forgetting for native code; None where only Python can."""
        if self._closed:
            raise_closed()
        return self._fetcher.reader

    def close(self) -> None:
        """Close the files and give the memory back. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._fetcher.close()
        close_shards(self._space.shards)
        nothing = np.zeros(1, dtype=np.int64)
        self._space = Space((), nothing, nothing, (), BlockTable(0, 0), _allocate(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self) -> Fetcher:
        rule = PrefetchRule(self.prefetch_limit, STALE_FETCHES)
        if self.engine == "python":
            return PythonFetcher(self._space, rule)
        return NativeFetcher(self._space, self.engine, self._frames, rule)

    def _after_fork(self) -> None:
        if not self._closed:
            self._fetcher.after_fork()


def _frames(cache_bytes: int, blocks: int) -> int:
    """Frames of staging: a quarter of the cache, and no more than a small index has use for."""
    least, most = FRAMES
    return min(max(least, min(cache_bytes // 4 // BLOCK_BYTES, most)), max(least, 2 * blocks))


def _bytes_of(blocks: Int64s) -> tuple[Int64s, Int64s]:
    starts = blocks * BLOCK_BYTES
    return starts, starts + BLOCK_BYTES


def _allocate(slots: int) -> npt.NDArray[np.uint8]:
    """A page-aligned array uint8 [slots, 4096]. Private, so that a forked child cannot write into its parent's."""
    if slots == 0:
        return np.empty((0, BLOCK_BYTES), dtype=np.uint8)
    mapping = mmap.mmap(-1, slots * BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them; records lie scattered, and every one would miss the TLB
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, dtype=np.uint8).reshape(slots, BLOCK_BYTES)


_OPEN_STORES: Final[weakref.WeakSet[BlockStore]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_OPEN_STORES):
        store._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
