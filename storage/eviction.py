"""Which blocks stay in memory: S3-FIFO over a dense table, sized once and never again.

S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023) keeps three
first-in-first-out queues. One pass over a corpus flows through the small queue and leaves the main queue alone, which is
the scan resistance that an index needs (an exhaustive search reads every block once).

1. **Look up**: `table[block]` is the slot that holds the block, -1 if none does, or -(p + 2) if the ghost queue
   remembers the block at position p. One array read, no dict.
2. **Touch**: a hit raises the frequency of its slot, up to 3.
3. **Admit**: a new block enters the small queue, or the main queue if the ghost queue remembers it.
4. **Evict**, when no slot is free. While the small queue holds at least a tenth of the slots, its oldest block moves to the
   main queue if it was hit twice or more since it came (frequency cleared), else it is evicted and remembered by the ghost
   queue. Otherwise the oldest block of the main queue is evicted if its frequency is 0, else it goes round once more with its
   frequency lowered by one.

All state is arrays of fixed length, so that native code (storage/native/block_table.h) goes through the same steps in the same
memory. The class moves numbers only: the bytes of the blocks are the caller's.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_FREQUENCY", "SLOT_BYTES", "BlockTable"]

MAX_FREQUENCY: Final = 3
"""A frequency counts to this and no further (two bits in the paper)."""

SLOT_BYTES: Final = 4 + 1 + 4 + 4 + 4
"""Bookkeeping bytes a slot: its block, its frequency, and one place in each of the three queues."""

ABSENT: Final = -1


_USED, _GHOST_NEXT, _SMALL, _MAIN = 0, 1, 2, 4
"""Places in `BlockTable.counts`; a queue has two, the place of its oldest value and how many it holds."""


class _Ring:
    """A first-in-first-out queue of int32 in an array of fixed length."""

    __slots__ = ("_counts", "_head", "values", "view")

    def __init__(self, capacity: int, counts: memoryview, place: int) -> None:
        self.values = np.full(capacity, ABSENT, dtype=np.int32)
        self.view = self.values.data  # scalar access costs a third of NumPy's
        self._counts = counts
        self._head = place

    @property
    def count(self) -> int:
        """How many values it holds."""
        return int(self._counts[self._head + 1])

    def push(self, value: int) -> None:
        self.view[(self._counts[self._head] + self._counts[self._head + 1]) % len(self.view)] = value
        self._counts[self._head + 1] += 1

    def pop(self) -> int:
        head = self._counts[self._head]
        value: int = self.view[head]
        self._counts[self._head] = (head + 1) % len(self.view)
        self._counts[self._head + 1] -= 1
        return value

    def members(self) -> npt.NDArray[np.int32]:
        """The queue, oldest first."""
        return self.values[(self._counts[self._head] + np.arange(self.count)) % max(len(self.values), 1)]


class BlockTable:
    """Slots of `blocks` blocks, at most `slots` of them held at a time."""

    def __init__(self, blocks: int, slots: int) -> None:
        self.slots: Final = slots
        self.small_target: Final = max(1, slots // 10)
        self.table: Final = np.full(blocks, ABSENT, dtype=np.int32)  # [blocks]
        self.block_of: Final = np.full(slots, ABSENT, dtype=np.int32)  # [slots]
        self.frequency: Final = np.zeros(slots, dtype=np.uint8)  # [slots]
        self.counts: Final = np.zeros(
            6, dtype=np.int64
        )  # used, next place in the ghost queue, both queues' head and count
        self._counts = self.counts.data
        self.small: Final = _Ring(slots, self._counts, _SMALL)
        self.main: Final = _Ring(slots, self._counts, _MAIN)
        self.ghost: Final = np.full(slots, ABSENT, dtype=np.int32)  # [slots] blocks; as long as main may become
        self._table = self.table.data
        self._block_of = self.block_of.data
        self._frequency = self.frequency.data
        self._ghost = self.ghost.data

    @property
    def used(self) -> int:
        """Slots that hold a block."""
        return int(self._counts[_USED])

    def look_up(self, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Slot of each block, int32 [n]; negative where the block is not held."""
        return self.table[blocks]

    def touch(self, slots: npt.NDArray[np.int32]) -> None:
        """Count one hit on each of these distinct slots."""
        self.frequency[slots] = np.minimum(self.frequency[slots] + 1, MAX_FREQUENCY)

    def admit(self, blocks: npt.NDArray[np.int64]) -> int:
        """Give each block a slot, in order, and return how many blocks were evicted for it.

        Blocks that are held already stay where they are. A block of this batch may be evicted by a later one of the same
        batch, so look the slots up afterwards.
        """
        if self.slots == 0:
            return 0
        evicted = 0
        for block in blocks.tolist():
            state = self._table[block]
            if state >= 0:
                continue
            if self._counts[_USED] < self.slots:
                slot = self._counts[_USED]
                self._counts[_USED] += 1
            else:
                slot = self._evict()
                evicted += 1
            (self.main if state < ABSENT else self.small).push(slot)
            self._table[block] = slot
            self._block_of[slot] = block
            self._frequency[slot] = 0
        return evicted

    def clear(self) -> None:
        """Forget every block."""
        self.table.fill(ABSENT)
        self.block_of.fill(ABSENT)
        self.ghost.fill(ABSENT)
        self.frequency.fill(0)
        self.counts.fill(0)

    def _evict(self) -> int:
        """Free one slot and return it; every slot is in use."""
        while True:
            if self.small.count >= self.small_target:
                slot = self.small.pop()
                if self._frequency[slot] < 2:
                    self._remember(self._block_of[slot])
                    return slot
                self._frequency[slot] = 0
                self.main.push(slot)
            else:
                slot = self.main.pop()
                if self._frequency[slot] == 0:
                    self._table[self._block_of[slot]] = ABSENT
                    return slot
                self._frequency[slot] -= 1
                self.main.push(slot)

    def _remember(self, block: int) -> None:
        """Put an evicted block in the ghost queue, over the oldest one there."""
        position = self._counts[_GHOST_NEXT]
        oldest = self._ghost[position]
        # A ghost that has come back since has another state, and may even be a ghost again further on.
        if oldest >= 0 and self._table[oldest] == -(position + 2):
            self._table[oldest] = ABSENT
        self._ghost[position] = block
        self._table[block] = -(position + 2)
        self._counts[_GHOST_NEXT] = (position + 1) % self.slots
