"""The block store's reference body: NumPy, `preadv`, and the page cache as the place where prefetched blocks wait.

1. **Look up** the wanted blocks in the table (see `eviction`) and copy those held out of the arena. One lock, held for this.
2. **Plan and announce** the missing ones that no prefetch has announced, so that all their reads are in flight. Then, batch
   by batch, while the rest arrives:
3. **Read** the batch (see `reads`), without the lock.
4. **Check** each block against its checksum (xxh3_64, low 32 bits). A wrong block is an error and is never kept.
5. **Keep** what was read: admit the blocks under the lock and copy them into their slots.

Two threads that miss one block both read it; the second finds it admitted and keeps nothing. `native_fetcher` does the same
without the page cache, in C++; tests hold both equal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from colindex.storage.block_space import FetchCounters, PrefetchRule, Space, raise_closed
from colindex.storage.reads import (
    BLOCK_BYTES,
    Int64s,
    announce,
    assemble,
    documents_to_blocks,
    forget,
    plan_reads,
    raise_wrong_checksum,
    read_ranges,
)

__all__ = ["PythonFetcher"]

BATCH_RANGES: Final = 32
"""Ranges read between two checks: checking and keeping hide behind the reads still in flight."""


class PythonFetcher:
    """A body of the block store (see `block_space.Fetcher`)."""

    def __init__(self, space: Space, rule: PrefetchRule) -> None:
        self._space = space
        self._rule = rule
        self._pending: dict[int, int] = {}  # prefetched blocks, oldest first, and how many fetches there had been
        self._fetches = 0
        self._counters = FetchCounters()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def counters(self) -> FetchCounters:
        """What all fetches and prefetches so far did."""
        return self._counters

    def fetch(self, starts: Int64s, ends: Int64s) -> tuple[npt.NDArray[np.uint8], FetchCounters]:
        """The bytes of the ranges, end to end.

        Raises CorruptIndexError if a block is not what was committed, StorageError if a read fails.
        """
        if self._closed:
            raise_closed()
        self._space.check_inside(starts, ends)
        plan = documents_to_blocks(starts, ends)
        blocks = np.empty((len(plan.blocks), BLOCK_BYTES), dtype=np.uint8)
        with self._lock:
            self._fetches += 1
            missing_rows = self._copy_held(plan.blocks, blocks)
            missing = plan.blocks[missing_rows]
            claimed = np.array([self._pending.pop(block, None) is not None for block in missing.tolist()], dtype=bool)
        counters = FetchCounters(hits=len(plan.blocks) - len(missing))
        if len(missing):
            counters = replace(self._read(missing, missing_rows, blocks, claimed), hits=counters.hits)
        with self._lock:
            self._counters += counters
        return assemble(plan, blocks), counters

    def prefetch(self, starts: Int64s, ends: Int64s) -> int:
        """Start the reads of blocks neither held nor prefetched, as many as there is room for; how many."""
        if self._closed:
            raise_closed()
        self._space.check_inside(starts, ends)
        blocks = documents_to_blocks(starts, ends).blocks
        with self._lock:
            absent = blocks[self._space.table.look_up(blocks) < 0].tolist()
            missing = [block for block in absent if block not in self._pending]
            dropped = self._make_room(len(missing))
            missing = missing[: max(0, self._rule.limit - len(self._pending))]
            self._pending |= dict.fromkeys(missing, self._fetches)
            self._counters += FetchCounters(prefetched=len(missing))
        self._announce(missing)
        self._forget(dropped)
        return len(missing)

    def forget(self, starts: Int64s, ends: Int64s) -> None:
        """These prefetched blocks are not wanted after all."""
        blocks = documents_to_blocks(starts, ends).blocks.tolist()
        with self._lock:
            dropped = [block for block in blocks if self._pending.pop(block, None) is not None]
        self._forget(dropped)

    @property
    def reader(self) -> None:
        """Native code cannot use this body."""
        return None

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True
        self._pending.clear()

    def after_fork(self) -> None:
        """In a forked child: a lock that another thread held stays locked for ever, and what it guarded may be half done."""
        if self._lock.locked():
            self._space.table.clear()
            self._pending.clear()
        self._lock = threading.Lock()

    def _copy_held(self, blocks: Int64s, answer: npt.NDArray[np.uint8]) -> Int64s:
        """Copy the blocks that are held into their rows of `answer` and return the rows of the others, int64 [missing]."""
        slots = self._space.table.look_up(blocks)
        held = slots >= 0
        if held.any():
            answer[held] = self._space.arena[slots[held]]
            self._space.table.touch(slots[held])
        return np.flatnonzero(~held)

    def _read(
        self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8], claimed: npt.NDArray[np.bool_]
    ) -> FetchCounters:
        """Read blocks into `rows` of `answer`, check them and keep them; a prefetch has announced the claimed ones."""
        plan = plan_reads(blocks, rows, self._space.shard_starts)
        self._announce(blocks[~claimed])
        expected = self._space.expected(blocks)
        bytes_read = evictions = done = 0
        for begin in range(0, len(plan.files), BATCH_RANGES):
            batch = plan.part(begin, begin + BATCH_RANGES)
            bytes_read += read_ranges(batch, self._space.shards, answer)
            forget(batch, self._space.shards)
            part = slice(done, done + int(batch.lengths.sum()) // BLOCK_BYTES)
            self._check(blocks[part], rows[part], answer, expected[part])
            evictions += self._keep(blocks[part], rows[part], answer)
            done = part.stop
        return FetchCounters(
            misses=len(blocks),
            reads=len(plan.files),
            bytes_read=bytes_read,
            prefetch_hits=int(np.count_nonzero(claimed)),
            evictions=evictions,
        )

    def _check(
        self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint32]
    ) -> None:
        """Compare the checksums of blocks just read into `rows` of `answer`."""
        digest = xxhash.xxh3_64_intdigest
        view = answer.reshape(-1).data
        digests = [digest(view[begin : begin + BLOCK_BYTES]) & 0xFFFFFFFF for begin in (rows * BLOCK_BYTES).tolist()]
        wrong = np.flatnonzero(expected != np.array(digests, dtype=np.uint32))
        if len(wrong):
            first = wrong[0]
            raise_wrong_checksum(*self._space.locate(int(blocks[first])), int(expected[first]), digests[first])

    def _keep(self, blocks: Int64s, rows: Int64s, answer: npt.NDArray[np.uint8]) -> int:
        """Admit blocks that were just read into `rows` of `answer`; return how many others they drove out."""
        table = self._space.table
        if table.slots == 0:
            return 0
        with self._lock:
            try:
                fresh = table.look_up(blocks) < 0  # another thread may have been faster
                evicted = table.admit(blocks[fresh])
                slots = table.look_up(blocks)
                kept = fresh & (slots >= 0)  # a batch larger than the cache drives out its own first blocks
                self._space.arena[slots[kept]] = answer[rows[kept]]
            except BaseException:  # Ctrl-C in a notebook: no slot may be left whose bytes are not its block's
                table.clear()
                raise
        return evicted

    def _make_room(self, wanted: int) -> list[int]:
        """Let go of the oldest stale blocks while fewer than `wanted` places are free; which."""
        dropped: list[int] = []
        while self._pending and len(self._pending) + wanted > self._rule.limit:
            oldest, fetches = next(iter(self._pending.items()))
            if self._fetches - fetches <= self._rule.stale_fetches:
                break
            del self._pending[oldest]
            dropped.append(oldest)
        return dropped

    def _announce(self, blocks: Iterable[int]) -> None:
        array = np.array(list(blocks), dtype=np.int64)
        announce(plan_reads(array, np.arange(len(array)), self._space.shard_starts), self._space.shards)

    def _forget(self, blocks: Iterable[int]) -> None:
        array = np.array(list(blocks), dtype=np.int64)
        forget(plan_reads(array, np.arange(len(array)), self._space.shard_starts), self._space.shards)
