"""The block cache: records larger than memory, read through a fixed number of slots.

All segments' shard files, end to end, form one address space of 4096-byte blocks. `BlockStore` answers for any of them:

1. **Look up** the wanted blocks in the table (see `eviction`) and copy those held out of the arena. One lock, held for this.
2. **Plan and announce** the missing ones, so that all their reads are in flight. Then, batch by batch, while the rest arrives:
3. **Read** the batch straight into the caller's array (see `reads`), without the lock.
4. **Check** each block against its checksum (xxh3_64, low 32 bits). A wrong block is an error and is never kept.
5. **Keep** what was read: admit the blocks under the lock and copy them into their slots.

The arena is one anonymous mapping made at the start, `cache_bytes // (4096 + bookkeeping)` slots: the bound holds by
construction, and nothing grows. Two threads that miss one block both read it; the second finds it admitted and keeps nothing.
Reads name their offset (`preadv`), so a forked child may go on reading; its arena is its own copy.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import xxhash

from colindex.storage.errors import CorruptIndexError, StorageError
from colindex.storage.eviction import SLOT_BYTES, BlockTable
from colindex.storage.reads import (
    BLOCK_BYTES,
    Int64s,
    announce,
    assemble,
    close_shards,
    documents_to_blocks,
    forget,
    open_shards,
    plan_reads,
    read_ranges,
)

__all__ = ["BlockStore", "FetchCounters", "SegmentBlocks", "ShardBlocks"]

BATCH_RANGES: Final = 32
"""Ranges read between two checks: checking and keeping hide behind the reads still in flight."""

PENDING_BLOCKS: Final = 4096
"""At most this many blocks (16 MiB) are prefetched and not yet fetched; the oldest are let go of first."""


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
                "rebuild the index"
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
                f"{where}: expected {blocks} block checksums, got an array of shape {self.checksums.shape}; rebuild the index"
            )


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
    """Missed blocks whose read a prefetch had started."""
    evictions: int = 0
    """Blocks that made room for others."""

    def __add__(self, other: FetchCounters) -> FetchCounters:
        return FetchCounters(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class BlockStore:
    """Blocks of segments, cached in a fixed number of slots. Any number of threads may use one store.

    Block numbers are 32 bits wide in the table: 2^31 blocks, 8 TiB.

    Raises CorruptIndexError if a file is missing or too short.
    """

    def __init__(self, files: Sequence[SegmentBlocks], cache_bytes: int) -> None:
        shards = [shard for segment in files for shard in segment.shards]
        self._shard_starts = _starts([shard.blocks for shard in shards])  # [shards + 1]
        self._bases = _starts([len(segment.checksums) for segment in files])  # [segments + 1]
        self._checksums = tuple(segment.checksums for segment in files)  # the segments' own arrays, not a copy
        self._table = BlockTable(self.blocks, min(max(cache_bytes, 0) // (BLOCK_BYTES + SLOT_BYTES), self.blocks))
        self._arena = _allocate(self._table.slots)  # [slots, 4096]
        self._pending = np.zeros(self.blocks, dtype=bool)  # [blocks] prefetched, not yet fetched
        self._pending_ring = np.full(PENDING_BLOCKS, -1, dtype=np.int64)
        self._pending_next = 0
        self._counters = FetchCounters()
        self._lock = threading.Lock()
        self._shards = open_shards([shard.path for shard in shards], [shard.data_bytes for shard in shards])
        self._closed = False
        _OPEN_STORES.add(self)

    @property
    def blocks(self) -> int:
        """Blocks of all segments."""
        return int(self._shard_starts[-1])

    @property
    def slots(self) -> int:
        """Blocks that the cache can hold: never more than there are."""
        return self._table.slots

    @property
    def counters(self) -> FetchCounters:
        """What all fetches and prefetches so far did."""
        return self._counters

    @property
    def resident_bytes(self) -> dict[str, int]:
        """Bytes kept in memory, by part; their sum never changes.

        `arena` and `bookkeeping` together are at most `cache_bytes`; the others grow with the files, not with the cache.
        """
        return {
            "arena": self.slots * BLOCK_BYTES,
            "bookkeeping": self.slots * SLOT_BYTES,
            "table": self._table.table.nbytes + self._pending.nbytes + self._pending_ring.nbytes,
            "checksums": sum(checksums.nbytes for checksums in self._checksums),
        }

    def base(self, segment: int) -> int:
        """Number of the first block of a segment."""
        return int(self._bases[segment])

    def fetch(self, blocks: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes of distinct `blocks`, int64 [n], as a new array uint8 [n, 4096], read in the order wanted.

        Raises CorruptIndexError if a block is not what was committed, StorageError if a read fails.
        """
        self._check_open()
        answer = np.empty((len(blocks), BLOCK_BYTES), dtype=np.uint8)
        with self._lock:
            missing_rows = self._copy_held(blocks, answer)
            missing = blocks[missing_rows]
            announced = self._pending[missing]
            self._pending[missing] = False
        counters = FetchCounters(hits=len(blocks))
        if len(missing):
            counters = replace(self._read(missing, missing_rows, answer, announced), hits=len(blocks) - len(missing))
        with self._lock:
            self._counters += counters
        return answer, counters

    def fetch_ranges(self, starts: Int64s, ends: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes [starts, ends) of the address space, both int64 [documents], laid end to end, uint8 [total].

        Byte b of segment s is at `base(s) * 4096 + b`. A block that several documents share is read once.
        """
        plan = documents_to_blocks(starts, ends)
        blocks, counters = self.fetch(plan.blocks)
        return assemble(plan, blocks), counters

    def prefetch(self, blocks: Int64s) -> int:
        """Start the reads of those of the distinct `blocks` that are not held, wait for none, and return how many."""
        self._check_open()
        with self._lock:
            missing = blocks[(self._table.look_up(blocks) < 0) & ~self._pending[blocks]][:PENDING_BLOCKS]
            dropped = self._remember_pending(missing)
            self._counters += FetchCounters(prefetched=len(missing))
        announce(plan_reads(missing, np.arange(len(missing)), self._shard_starts), self._shards)
        forget(plan_reads(dropped, np.arange(len(dropped)), self._shard_starts), self._shards)
        return len(missing)

    def prefetch_ranges(self, starts: Int64s, ends: Int64s) -> int:
        """`prefetch` for the blocks of byte ranges, see `fetch_ranges`."""
        return self.prefetch(documents_to_blocks(starts, ends).blocks)

    def close(self) -> None:
        """Close the files and give the arena back. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        close_shards(self._shards)
        self._shards = ()
        self._table = BlockTable(0, 0)
        self._arena = _allocate(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("expected an open block store, got a closed one; open the index again")

    def _copy_held(self, blocks: Int64s, answer: npt.NDArray[np.uint8]) -> Int64s:
        """Copy the blocks that are held into their rows of `answer` and return the rows of the others, int64 [missing]."""
        slots = self._table.look_up(blocks)
        held = slots >= 0
        if held.all():
            np.take(
                self._arena, slots, axis=0, out=answer, mode="clip"
            )  # the default mode would buffer the whole answer
            self._table.touch(slots)
            return np.zeros(0, dtype=np.int64)
        if held.any():
            answer[held] = self._arena[slots[held]]
            self._table.touch(slots[held])
        return np.flatnonzero(~held)

    def _read(
        self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8], announced: npt.NDArray[np.bool_]
    ) -> FetchCounters:
        """Read blocks into `rows` of `answer`, check them and keep them; a prefetch has announced some."""
        plan = plan_reads(blocks, rows, self._shard_starts)
        fresh = ~announced
        announce(plan if fresh.all() else plan_reads(blocks[fresh], rows[fresh], self._shard_starts), self._shards)
        expected = self._expected(blocks)
        bytes_read = evictions = done = 0
        for begin in range(0, len(plan.files), BATCH_RANGES):
            batch = plan.part(begin, begin + BATCH_RANGES)
            bytes_read += read_ranges(batch, self._shards, answer)
            forget(batch, self._shards)
            part = slice(done, done + int(batch.lengths.sum()) // BLOCK_BYTES)
            self._check(blocks[part], rows[part], answer, expected[part])
            evictions += self._keep(blocks[part], rows[part], answer)
            done = part.stop
        return FetchCounters(
            misses=len(blocks),
            reads=len(plan.files),
            bytes_read=bytes_read,
            prefetch_hits=int(np.count_nonzero(announced)),
            evictions=evictions,
        )

    def _expected(self, blocks: Int64s) -> npt.NDArray[np.uint32]:
        """Checksums that blocks must have, uint32 [n]."""
        expected = np.empty(len(blocks), dtype=np.uint32)
        owners = np.searchsorted(self._bases, blocks, side="right") - 1
        for segment in np.unique(owners).tolist():
            mine = owners == segment
            expected[mine] = self._checksums[segment][blocks[mine] - self._bases[segment]]
        return expected

    def _keep(self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8]) -> int:
        """Admit blocks that were just read into `rows` of `answer`; return how many others they drove out."""
        if self.slots == 0:
            return 0
        with self._lock:
            try:
                fresh = self._table.look_up(blocks) < 0  # another thread may have been faster
                evicted = self._table.admit(blocks[fresh])
                slots = self._table.look_up(blocks)
                kept = fresh & (slots >= 0)  # a batch larger than the cache drives out its own first blocks
                self._arena[slots[kept]] = answer[rows[kept]]
            except BaseException:  # Ctrl-C in a notebook: no slot may be left whose bytes are not its block's
                self._table.clear()
                raise
        return evicted

    def _check(
        self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint32]
    ) -> None:
        """Compare the checksums of blocks just read into `rows` of `answer`."""
        digest = xxhash.xxh3_64_intdigest
        view = answer.reshape(-1).data
        digests = [digest(view[begin : begin + BLOCK_BYTES]) & 0xFFFFFFFF for begin in (rows * BLOCK_BYTES).tolist()]
        wrong = np.flatnonzero(expected != np.array(digests, dtype=np.uint32))
        if len(wrong):
            block = int(blocks[wrong[0]])
            shard = int(np.searchsorted(self._shard_starts, block, side="right")) - 1
            offset = (block - int(self._shard_starts[shard])) * BLOCK_BYTES
            raise CorruptIndexError(
                f"{self._shards[shard].path}: block at byte {offset}: expected checksum {int(expected[wrong[0]]):08x}, "
                f"got {digests[wrong[0]]:08x}; run `colindex verify`, then restore the file or rebuild the index"
            )

    def _remember_pending(self, blocks: Int64s) -> Int64s:
        """Mark blocks as prefetched; return those that were prefetched so long ago that their pages are let go of."""
        places = (self._pending_next + np.arange(len(blocks))) % PENDING_BLOCKS
        oldest = self._pending_ring[places]
        oldest = oldest[oldest >= 0]
        dropped = np.unique(oldest[self._pending[oldest]])
        self._pending[dropped] = False
        self._pending[blocks] = True
        self._pending_ring[places] = blocks
        self._pending_next = (self._pending_next + len(blocks)) % PENDING_BLOCKS
        return dropped

    def _after_fork(self) -> None:
        """In a forked child: a lock that another thread held stays locked for ever, and what it guarded may be half done."""
        if self._lock.locked():
            self._table.clear()
            self._pending.fill(False)
        self._lock = threading.Lock()


def _starts(counts: Sequence[int]) -> Int64s:
    """Running sums of counts, from 0, int64 [len + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, dtype=np.int64))])


def _allocate(slots: int) -> npt.NDArray[np.uint8]:
    """A page-aligned array uint8 [slots, 4096]. Private, so that a forked child cannot write into its parent's."""
    if slots == 0:
        return np.empty((0, BLOCK_BYTES), dtype=np.uint8)
    mapping = mmap.mmap(-1, slots * BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(mapping, dtype=np.uint8).reshape(slots, BLOCK_BYTES)


_OPEN_STORES: Final[weakref.WeakSet[BlockStore]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_OPEN_STORES):
        store._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
