"""Whatever is fetched, prefetched or driven out, in any order and by any thread, the bytes are those of the files.

Everything here holds for every way to read: io_uring, threads, and Python alone.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from colindex.storage.blocks import BlockStore, FetchCounters, ShardBlocks, engines
from colindex.storage.errors import CorruptIndexError, StorageError
from colindex.storage.reads import BLOCK_BYTES
from tests.storage.block_worlds import SLOT, World, arena_of, as_int64, damage, fail_reads, make_world, table_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class AnyOrder(RuleBasedStateMachine):
    """A store next to the plain bytes of its files."""

    @initialize(slots=st.integers(0, 25), engine=st.sampled_from(engines()))
    def open(self, slots: int, engine: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = make_world(Path(self.folder.name))
        self.slots = slots
        self.store = BlockStore(self.world.segments, slots * SLOT, engine)
        self.expected = FetchCounters()
        self.read = self.wanted = 0

    @rule(blocks=st.lists(st.integers(0, 18), max_size=19, unique=True))
    def fetch(self, blocks: list[int]) -> None:
        answer, counters = self.store.fetch(as_int64(blocks))
        assert (answer == self.world.space[blocks]).all()
        assert counters.hits + counters.misses == len(blocks)
        assert counters.prefetch_hits <= counters.misses
        assert counters.reads <= counters.misses
        answer.fill(0)  # the caller's own
        self.wanted += len(blocks)
        self.expected += counters

    @rule(begin=st.integers(0, 19 * 4096), length=st.integers(0, 20_000))
    def fetch_ranges(self, begin: int, length: int) -> None:
        ends = [min(begin + length, 19 * 4096), min(begin + 10, 19 * 4096)]
        answer, counters = self.store.fetch_ranges(as_int64([begin, begin]), as_int64(ends))
        flat = self.world.space.reshape(-1)
        assert (answer == np.concatenate([flat[begin:end] for end in ends])).all()
        self.wanted += counters.hits + counters.misses
        self.expected += counters

    @rule(blocks=st.lists(st.integers(0, 18), max_size=19, unique=True))
    def prefetch(self, blocks: list[int]) -> None:
        started = self.store.prefetch(as_int64(blocks))
        assert started <= len(blocks)
        self.expected += FetchCounters(prefetched=started)

    @rule(begin=st.integers(0, 19 * 4096), length=st.integers(0, 20_000))
    def forget(self, begin: int, length: int) -> None:
        self.store.forget_ranges(as_int64([begin]), as_int64([min(begin + length, 19 * 4096)]))

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "store"):
            return
        table = table_of(self.store)
        held = np.flatnonzero(table.table >= 0)
        slots = table.table[held]
        assert len(set(slots.tolist())) == len(held) <= min(self.slots, 19)
        assert (arena_of(self.store)[slots] == self.world.space[held]).all()
        assert self.store.counters == self.expected
        assert self.expected.hits + self.expected.misses == self.wanted
        assert self.expected.prefetch_hits <= self.expected.prefetched
        if self.slots:
            assert self.expected.misses - self.expected.evictions == len(held)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_segments_lie_end_to_end(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        assert [store.base(segment) for segment in range(3)] == [0, 8, 12]
        assert store.blocks == 19


def test_a_second_fetch_reads_nothing(engine: str, world: World) -> None:
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        wanted = as_int64([3, 4, 18])
        _, first = store.fetch(wanted)
        answer, second = store.fetch(wanted)
        data_of_18 = BLOCK_BYTES - 1000
        assert first == FetchCounters(misses=3, reads=2, bytes_read=2 * BLOCK_BYTES + data_of_18)
        assert second == FetchCounters(hits=3)
        assert (answer == world.space[wanted]).all()


def test_without_a_cache_everything_is_read_each_time(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        for _ in range(2):
            answer, counters = store.fetch(as_int64([9, 2]))
            assert (answer == world.space[[9, 2]]).all()
            assert (counters.hits, counters.misses, counters.evictions) == (0, 2, 0)


@pytest.mark.parametrize("ranges", [[(-1, 5)], [(0, 19 * 4096 + 1)], [(9 * 4096, 30 * 4096)]])
def test_what_lies_outside_is_refused(engine: str, world: World, ranges: list[tuple[int, int]]) -> None:
    starts, ends = as_int64([a for a, _ in ranges]), as_int64([b for _, b in ranges])
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        with pytest.raises(IndexError):
            store.fetch_ranges(starts, ends)
        with pytest.raises(IndexError):
            store.prefetch_ranges(starts, ends)


def test_documents_that_share_a_block_read_it_once(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        answer, counters = store.fetch_ranges(as_int64([100, 2000, 50, 7]), as_int64([2000, 5000, 60, 7]))
        flat = world.space.reshape(-1)
        assert answer.tobytes() == flat[100:5000].tobytes() + flat[50:60].tobytes()
        assert (counters.misses, counters.reads) == (2, 1)


@pytest.mark.parametrize("cache_bytes", [0, SLOT - 1, SLOT, 3 * SLOT + 5, 1 << 20, 10**9])
def test_the_bound_holds_by_construction(engine: str, world: World, cache_bytes: int) -> None:
    with BlockStore(world.segments, cache_bytes, engine) as store:
        before = store.resident_bytes
        divided = before["arena"] + before["bookkeeping"] + (before["staging"] if cache_bytes >= 1 << 20 else 0)
        assert divided <= cache_bytes
        assert store.slots == min(cache_bytes // SLOT, 19)
        assert before["arena"] == arena_of(store).nbytes
        assert before["checksums"] == 19 * 4
        for _ in range(3):
            store.fetch(as_int64(range(19)))
        assert store.resident_bytes == before


def test_the_arena_is_page_aligned(engine: str, world: World) -> None:
    with BlockStore(world.segments, 4 * SLOT, engine) as store:
        assert arena_of(store).ctypes.data % BLOCK_BYTES == 0


@pytest.mark.parametrize("slots", [0, 19])
def test_a_changed_byte_is_an_error_each_time_and_never_kept(engine: str, world: World, slots: int) -> None:
    damage(world.segments[0].shards[1].path, BLOCK_BYTES + 17)
    expected = int(world.segments[0].checksums[6])
    with BlockStore(world.segments, slots * SLOT, engine) as store:
        for _ in range(2):
            with pytest.raises(
                CorruptIndexError, match=rf"0-1: block at byte 4096: expected checksum {expected:08x}, got"
            ):
                store.fetch(as_int64([5, 6, 7]))
        assert table_of(store).table[6] < 0
        answer, _ = store.fetch(as_int64([5, 7]))
        assert (answer == world.space[[5, 7]]).all()


def test_a_byte_after_the_data_does_not_matter(engine: str, world: World) -> None:
    path = world.segments[1].shards[0].path
    damage(path, path.stat().st_size - 1)
    with BlockStore(world.segments, 0, engine) as store:
        answer, _ = store.fetch(as_int64([11]))
        assert (answer == world.space[[11]]).all()


def test_a_block_that_was_mended_is_read_again(engine: str, world: World) -> None:
    path = world.segments[0].shards[0].path
    damage(path, 0)
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        with pytest.raises(CorruptIndexError):
            store.fetch(as_int64([0]))
        damage(path, 0)
        answer, _ = store.fetch(as_int64([0]))
        assert (answer == world.space[[0]]).all()


def test_a_torn_file_is_an_error_before_and_after_opening(engine: str, world: World) -> None:
    path = world.paths[0]
    with BlockStore(world.segments, 0, engine) as store:
        os.truncate(path, 5000)
        with pytest.raises(
            CorruptIndexError, match="0-0: expected 4096 bytes at byte 4096, the file ends at byte 5000"
        ):
            store.fetch(as_int64([1]))
    with pytest.raises(CorruptIndexError, match="0-0: expected at least 20480 bytes"):
        BlockStore(world.segments, 0, engine)


def test_a_missing_file_is_named(engine: str, world: World) -> None:
    world.paths[2].unlink()
    with pytest.raises(CorruptIndexError, match=r"1-0: expected a shard .* found no file; restore it or rebuild"):
        BlockStore(world.segments, 0, engine)


@pytest.mark.parametrize("prefetched", [False, True])
def test_a_failing_disk_is_named_and_leaves_the_cache_usable(engine: str, world: World, prefetched: bool) -> None:
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        fail_reads(store, 0)
        if prefetched:
            store.prefetch(as_int64([0]))
        for _ in range(2):
            with pytest.raises(StorageError, match=r"0-0: expected to read 4096 bytes at byte 0, got .* \(errno 5\)"):
                store.fetch(as_int64([0, 6]))
        answer, counters = store.fetch(as_int64([6, 9]))
        assert (answer == world.space[[6, 9]]).all()
        assert counters.misses + counters.hits == 2


def test_sizes_that_do_not_fit_are_refused(world: World) -> None:
    with pytest.raises(CorruptIndexError, match="expected 2 blocks of 4096 bytes, got 4096 bytes"):
        ShardBlocks(Path("x"), 2, 4096)
    with pytest.raises(CorruptIndexError, match=r"expected 8 block checksums, got an array of shape \(7,\)"):
        replace(world.segments[0], checksums=world.segments[0].checksums[:7])


def test_no_segments_make_an_empty_store(engine: str) -> None:
    with BlockStore([], 10 * SLOT, engine) as store:
        answer, counters = store.fetch(as_int64([]))
        assert answer.shape == (0, BLOCK_BYTES)
        assert counters == FetchCounters()
        assert store.fetch_ranges(as_int64([]), as_int64([]))[0].shape == (0,)
        assert store.prefetch(as_int64([])) == 0
        assert store.slots == 0


def test_closing_closes_the_files_and_twice_is_fine(engine: str, world: World) -> None:
    before = len(os.listdir("/proc/self/fd"))
    store = BlockStore(world.segments, SLOT, engine)
    store.close()
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert store.resident_bytes["arena"] == 0
    with pytest.raises(StorageError, match="expected an open block store"):
        store.fetch(as_int64([0]))
    with pytest.raises(StorageError, match="open the index again"):
        store.prefetch(as_int64([0]))
