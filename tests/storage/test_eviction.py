"""The policy, step by step, against S3-FIFO as the paper writes it down: lists, dicts and a loop."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex.storage.eviction import MAX_FREQUENCY, SLOT_BYTES, BlockTable

BLOCKS = 24


@dataclass
class PaperModel:
    """S3-FIFO (SOSP 2023), algorithm 1. Queues are lists, oldest first."""

    slots: int
    small: list[int] = field(default_factory=list)
    main: list[int] = field(default_factory=list)
    ghost: list[int] = field(default_factory=list)
    ghost_places: list[int] = field(default_factory=list)
    frequency: dict[int, int] = field(default_factory=dict)
    evictions: int = 0

    def held(self) -> set[int]:
        return set(self.small) | set(self.main)

    def read(self, block: int) -> None:
        if block in self.frequency:
            self.frequency[block] = min(self.frequency[block] + 1, MAX_FREQUENCY)
            return
        if self.slots == 0:
            return
        remembered = block in self.live_ghosts()
        while len(self.frequency) == self.slots:
            self.evict()
        (self.main if remembered else self.small).append(block)
        self.ghost = [-1 if ghost == block else ghost for ghost in self.ghost]
        self.frequency[block] = 0

    def live_ghosts(self) -> set[int]:
        return {ghost for ghost in self.ghost if ghost >= 0}

    def evict(self) -> None:
        if len(self.small) >= max(1, self.slots // 10):
            block = self.small.pop(0)
            if self.frequency[block] > 1:
                self.frequency[block] = 0
                self.main.append(block)
                return
            self.ghost = [*self.ghost, block][-self.slots :]
        else:
            block = self.main.pop(0)
            if self.frequency[block] > 0:
                self.frequency[block] -= 1
                self.main.append(block)
                return
        del self.frequency[block]
        self.evictions += 1


def run(table: BlockTable, batch: list[int]) -> int:
    """Read distinct blocks as the store does: touch the held ones, admit the others."""
    blocks = np.array(batch, dtype=np.int64)
    slots = table.look_up(blocks)
    table.touch(slots[slots >= 0])
    return table.admit(blocks[slots < 0])


def held(table: BlockTable) -> set[int]:
    return set(np.flatnonzero(table.table >= 0).tolist())


def queue(table: BlockTable, slots: np.ndarray) -> list[int]:
    return [int(block) for block in table.block_of[slots]]


def check_consistent(table: BlockTable) -> None:
    blocks = np.flatnonzero(table.table >= 0)
    slots = table.table[blocks]
    assert len(blocks) == table.used <= table.slots
    assert len(set(slots.tolist())) == len(slots)
    assert (table.block_of[slots] == blocks).all()
    queued = np.concatenate([table.small.members(), table.main.members()])
    assert sorted(queued.tolist()) == sorted(slots.tolist())


batches = st.lists(st.lists(st.integers(0, BLOCKS - 1), max_size=10, unique=True), max_size=40)


@given(slots=st.integers(0, 30), batches=batches)
@settings(max_examples=300, deadline=None)
def test_every_step_equals_the_paper(slots: int, batches: list[list[int]]) -> None:
    table, model = BlockTable(BLOCKS, slots), PaperModel(slots)
    evicted = 0
    for batch in batches:
        hits = [block for block in batch if block in model.frequency]
        misses = [block for block in batch if block not in model.frequency]
        evicted += run(table, batch)
        for block in hits + misses:  # the store touches all hits of a batch before it admits
            model.read(block)
        check_consistent(table)
        assert held(table) == model.held()
        assert queue(table, table.small.members()) == model.small
        assert queue(table, table.main.members()) == model.main
        assert {b for b in range(BLOCKS) if table.table[b] < -1} == model.live_ghosts()
        assert all(table.frequency[table.table[b]] == f for b, f in model.frequency.items())
        assert evicted == model.evictions


def test_one_pass_over_everything_leaves_the_working_set() -> None:
    table = BlockTable(100_000, 1000)
    working = list(range(500))
    for _ in range(4):
        run(table, working)
    for begin in range(1000, 100_000, 250):
        run(table, list(range(begin, begin + 250)))
    survivors = held(table) & set(working)
    assert len(survivors) == len(working)


def test_a_recent_eviction_that_returns_goes_to_the_main_queue() -> None:
    table = BlockTable(BLOCKS, 3)
    run(table, [0, 1, 2, 3])
    assert held(table) == {1, 2, 3}
    run(table, [0])
    assert queue(table, table.main.members()) == [0]


def test_admitting_a_held_block_changes_nothing() -> None:
    table = BlockTable(BLOCKS, 3)
    run(table, [0, 1])
    before = table.table.copy()
    assert table.admit(np.array([1, 0])) == 0
    assert (table.table == before).all()


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_tiny_caches_hold_the_latest(slots: int) -> None:
    table = BlockTable(BLOCKS, slots)
    for block in range(10):
        run(table, [block])
        check_consistent(table)
    assert held(table) == set(range(10 - slots, 10))


def test_a_batch_larger_than_the_cache_keeps_its_end() -> None:
    table = BlockTable(BLOCKS, 5)
    assert run(table, list(range(20))) == 15
    assert held(table) == {15, 16, 17, 18, 19}


def test_clearing_forgets_held_blocks_and_ghosts() -> None:
    table = BlockTable(BLOCKS, 3)
    run(table, [0, 1, 2, 3])
    table.clear()
    assert held(table) == set()
    run(table, [0])
    assert queue(table, table.small.members()) == [0]
    check_consistent(table)


def test_bookkeeping_is_what_it_says() -> None:
    slots = 1000
    table = BlockTable(BLOCKS, slots)
    arrays: list[np.ndarray] = [table.block_of, table.frequency, table.small.values, table.main.values, table.ghost]
    assert sum(array.nbytes for array in arrays) == slots * SLOT_BYTES
