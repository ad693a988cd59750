"""Whatever is fetched, prefetched or driven out, in any order and by any thread, the bytes are those of the files."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from colindex.storage import blocks as blocks_module
from colindex.storage import reads
from colindex.storage.blocks import BlockStore, FetchCounters, SegmentBlocks, ShardBlocks
from colindex.storage.errors import CorruptIndexError, StorageError
from colindex.storage.eviction import SLOT_BYTES
from colindex.storage.reads import BLOCK_BYTES

SLOT = BLOCK_BYTES + SLOT_BYTES


@dataclass(frozen=True, slots=True)
class World:
    """Files and what a store must answer for them."""

    segments: tuple[SegmentBlocks, ...]
    space: np.ndarray
    """Every block of the address space, uint8 [blocks, 4096]."""

    @property
    def paths(self) -> list[Path]:
        return [shard.path for segment in self.segments for shard in segment.shards]


def make_world(folder: Path, shards: tuple[tuple[int, ...], ...] = ((5, 3), (4,), (1, 6)), cut: int = 1000) -> World:
    """One segment for each tuple, one shard for each number of blocks in it; the data of each segment lacks its last `cut` bytes.

    Each file goes on after its data, as a zarr shard does with its index.
    """
    rng = np.random.default_rng(7)
    segments, space = [], []
    for number, counts in enumerate(shards):
        content = rng.integers(0, 256, (sum(counts), BLOCK_BYTES), dtype=np.uint8)
        content.reshape(-1)[len(content.reshape(-1)) - cut :] = 0
        files, first = [], 0
        for shard, count in enumerate(counts):
            path = folder / f"{number}-{shard}"
            size = count * BLOCK_BYTES - (cut if shard == len(counts) - 1 else 0)
            path.write_bytes(content[first : first + count].tobytes()[:size] + b"index of the shard")
            files.append(ShardBlocks(path, count, size))
            first += count
        digests = [xxhash.xxh3_64_intdigest(block.tobytes()) & 0xFFFFFFFF for block in content]
        segments.append(SegmentBlocks(tuple(files), np.array(digests, dtype=np.uint32)))
        space.append(content)
    return World(tuple(segments), np.concatenate(space))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def as_int64(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


class AnyOrder(RuleBasedStateMachine):
    """A store next to the plain bytes of its files."""

    @initialize(slots=st.integers(0, 25))
    def open(self, slots: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = make_world(Path(self.folder.name))
        self.slots = slots
        self.store = BlockStore(self.world.segments, slots * SLOT)
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

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "store"):
            return
        table = self.store._table
        held = np.flatnonzero(table.table >= 0)
        slots = table.table[held]
        assert len(set(slots.tolist())) == len(held) <= min(self.slots, 19)
        assert (self.store._arena[slots] == self.world.space[held]).all()
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


def test_segments_lie_end_to_end(world: World) -> None:
    with BlockStore(world.segments, 0) as store:
        assert [store.base(segment) for segment in range(3)] == [0, 8, 12]
        assert store.blocks == 19


def test_a_second_fetch_reads_nothing(world: World) -> None:
    with BlockStore(world.segments, 19 * SLOT) as store:
        wanted = as_int64([3, 4, 18])
        _, first = store.fetch(wanted)
        answer, second = store.fetch(wanted)
        data_of_18 = BLOCK_BYTES - 1000
        assert first == FetchCounters(misses=3, reads=2, bytes_read=2 * BLOCK_BYTES + data_of_18)
        assert second == FetchCounters(hits=3)
        assert (answer == world.space[wanted]).all()


def test_without_a_cache_everything_is_read_each_time(world: World) -> None:
    with BlockStore(world.segments, 0) as store:
        for _ in range(2):
            answer, counters = store.fetch(as_int64([9, 2]))
            assert (answer == world.space[[9, 2]]).all()
            assert (counters.hits, counters.misses, counters.evictions) == (0, 2, 0)


def test_a_prefetched_block_is_counted_once(world: World) -> None:
    with BlockStore(world.segments, 4 * SLOT) as store:
        assert store.prefetch_ranges(as_int64([0]), as_int64([9000])) == 3
        assert store.prefetch(as_int64([1, 5])) == 1
        assert store.counters.prefetched == 4
        _, counters = store.fetch(as_int64([1, 2, 9]))
        assert counters.prefetch_hits == 2
        _, counters = store.fetch(as_int64([1, 2, 9]))
        assert counters == FetchCounters(hits=3)
        assert store.prefetch(as_int64([1])) == 0


def test_what_a_prefetch_announced_is_not_announced_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[int] = []
    with BlockStore(world.segments, 0) as store:
        store.prefetch(as_int64([1, 2]))
        monkeypatch.setattr(os, "posix_fadvise", lambda _, offset, *rest: advised.append(offset))
        answer, _ = store.fetch(as_int64([1, 2, 4]))
        assert (answer == world.space[[1, 2, 4]]).all()
    assert advised == [4 * BLOCK_BYTES, BLOCK_BYTES, 4 * BLOCK_BYTES]  # announce 4, then forget 1 and 2, and 4


def test_old_prefetches_are_let_go_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "PENDING_BLOCKS", 4)
    with BlockStore(world.segments, 0) as store:
        assert store.prefetch(as_int64([0, 1, 2, 3])) == 4
        assert store.prefetch(as_int64([4, 5])) == 2
        _, counters = store.fetch(as_int64(range(8)))
        assert counters.prefetch_hits == 4
        assert store.prefetch(as_int64(range(19))) == 4


def test_documents_that_share_a_block_read_it_once(world: World) -> None:
    with BlockStore(world.segments, 0) as store:
        answer, counters = store.fetch_ranges(as_int64([100, 2000, 50, 7]), as_int64([2000, 5000, 60, 7]))
        flat = world.space.reshape(-1)
        assert answer.tobytes() == flat[100:5000].tobytes() + flat[50:60].tobytes()
        assert (counters.misses, counters.reads) == (2, 1)


@pytest.mark.parametrize("cache_bytes", [0, SLOT - 1, SLOT, 3 * SLOT + 5, 10**9])
def test_the_bound_holds_by_construction(world: World, cache_bytes: int) -> None:
    with BlockStore(world.segments, cache_bytes) as store:
        before = store.resident_bytes
        assert before["arena"] + before["bookkeeping"] <= cache_bytes
        assert store.slots == min(cache_bytes // SLOT, 19)
        assert before["arena"] == store._arena.nbytes
        assert before["checksums"] == 19 * 4
        for _ in range(3):
            store.fetch(as_int64(range(19)))
        assert store.resident_bytes == before


def test_the_arena_is_page_aligned(world: World) -> None:
    with BlockStore(world.segments, 4 * SLOT) as store:
        assert store._arena.ctypes.data % BLOCK_BYTES == 0


@pytest.mark.parametrize("slots", [0, 19])
def test_a_changed_byte_is_an_error_each_time_and_never_kept(world: World, slots: int) -> None:
    damage(world.segments[0].shards[1].path, BLOCK_BYTES + 17)
    expected = int(world.segments[0].checksums[6])
    with BlockStore(world.segments, slots * SLOT) as store:
        for _ in range(2):
            with pytest.raises(
                CorruptIndexError, match=rf"0-1: block at byte 4096: expected checksum {expected:08x}, got"
            ):
                store.fetch(as_int64([5, 6, 7]))
        assert store._table.table[6] < 0
        answer, _ = store.fetch(as_int64([5, 7]))
        assert (answer == world.space[[5, 7]]).all()


def test_a_byte_after_the_data_does_not_matter(world: World) -> None:
    path = world.segments[1].shards[0].path
    damage(path, path.stat().st_size - 1)
    with BlockStore(world.segments, 0) as store:
        answer, _ = store.fetch(as_int64([11]))
        assert (answer == world.space[[11]]).all()


def test_a_block_that_was_mended_is_read_again(world: World) -> None:
    path = world.segments[0].shards[0].path
    damage(path, 0)
    with BlockStore(world.segments, 19 * SLOT) as store:
        with pytest.raises(CorruptIndexError):
            store.fetch(as_int64([0]))
        damage(path, 0)
        answer, _ = store.fetch(as_int64([0]))
        assert (answer == world.space[[0]]).all()


def test_a_torn_file_is_an_error_before_and_after_opening(world: World) -> None:
    path = world.paths[0]
    with BlockStore(world.segments, 0) as store:
        os.truncate(path, 5000)
        with pytest.raises(
            CorruptIndexError, match="0-0: expected 4096 bytes at byte 4096, the file ends at byte 5000"
        ):
            store.fetch(as_int64([1]))
    with pytest.raises(CorruptIndexError, match="0-0: expected at least 20480 bytes"):
        BlockStore(world.segments, 0)


def test_a_missing_file_is_named(world: World) -> None:
    world.paths[2].unlink()
    with pytest.raises(CorruptIndexError, match=r"1-0: expected a shard .* found no file; restore it or rebuild"):
        BlockStore(world.segments, 0)


def test_a_failing_disk_leaves_the_cache_usable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockStore(world.segments, 19 * SLOT) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
            with pytest.raises(StorageError, match="errno 5"):
                store.fetch(as_int64([4]))
        answer, counters = store.fetch(as_int64([4]))
        assert (answer == world.space[[4]]).all()
        assert counters.misses == 1


def test_an_interrupt_between_admitting_and_copying_leaves_no_wrong_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BlockStore(world.segments, 3 * SLOT) as store:
        store.fetch(as_int64([0, 1, 2]))
        admit = store._table.admit

        def admit_then_stop(blocks: np.ndarray) -> int:
            admit(blocks)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(store._table, "admit", admit_then_stop)
            with pytest.raises(KeyboardInterrupt):
                store.fetch(as_int64([3]))
        answer, counters = store.fetch(as_int64([3, 0]))
        assert (answer == world.space[[3, 0]]).all()
        assert counters.misses == 2


def test_sizes_that_do_not_fit_are_refused(world: World) -> None:
    with pytest.raises(CorruptIndexError, match="expected 2 blocks of 4096 bytes, got 4096 bytes"):
        ShardBlocks(Path("x"), 2, 4096)
    with pytest.raises(CorruptIndexError, match=r"expected 8 block checksums, got an array of shape \(7,\)"):
        replace(world.segments[0], checksums=world.segments[0].checksums[:7])


def test_no_segments_make_an_empty_store() -> None:
    with BlockStore([], 10 * SLOT) as store:
        answer, counters = store.fetch(as_int64([]))
        assert answer.shape == (0, BLOCK_BYTES)
        assert counters == FetchCounters()
        assert store.fetch_ranges(as_int64([]), as_int64([]))[0].shape == (0,)
        assert store.prefetch(as_int64([])) == 0
        assert store.slots == 0


def test_closing_closes_the_files_and_twice_is_fine(world: World) -> None:
    before = len(os.listdir("/proc/self/fd"))
    store = BlockStore(world.segments, SLOT)
    store.close()
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert store.resident_bytes["arena"] == 0
    with pytest.raises(StorageError, match="expected an open block store"):
        store.fetch(as_int64([0]))
    with pytest.raises(StorageError, match="open the index again"):
        store.prefetch(as_int64([0]))


@pytest.mark.parametrize("slots", [0, 1, 7, 19])
def test_many_threads_get_the_same_bytes_and_the_counters_add_up(world: World, slots: int) -> None:
    with BlockStore(world.segments, slots * SLOT) as store:
        barrier = threading.Barrier(8)

        def work(seed: int) -> FetchCounters:
            rng = np.random.default_rng(seed)
            total = FetchCounters()
            barrier.wait()
            for _ in range(60):
                blocks = rng.permutation(19)[: rng.integers(1, 19)]
                if rng.random() < 0.3:
                    store.prefetch(blocks)
                answer, counters = store.fetch(blocks)
                assert (answer == world.space[blocks]).all()
                assert counters.hits + counters.misses == len(blocks)
                total += counters
            return total

        with ThreadPoolExecutor(8) as pool:
            total = sum(pool.map(work, range(8)), FetchCounters())
        assert replace(store.counters, prefetched=0) == total
        held = np.flatnonzero(store._table.table >= 0)
        assert len(set(store._table.table[held].tolist())) == len(held) <= slots


def test_two_threads_that_miss_one_block_keep_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    both_missed = threading.Barrier(2)
    read_ranges = reads.read_ranges

    def wait_then_read(*arguments: object) -> int:
        both_missed.wait(timeout=10)
        return read_ranges(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(blocks_module, "read_ranges", wait_then_read)
    with BlockStore(world.segments, 3 * SLOT) as store, ThreadPoolExecutor(2) as pool:
        for answer, counters in pool.map(lambda _: store.fetch(as_int64([2])), range(2)):
            assert (answer == world.space[[2]]).all()
            assert counters.misses == 1
        assert store._table.used == 1


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_on_and_leaves_its_parent_alone(world: World, locked: bool) -> None:
    with BlockStore(world.segments, 5 * SLOT) as store:
        store.fetch(as_int64([0, 1]))
        if locked:
            store._lock.acquire()
        process = os.fork()
        if process == 0:
            answer, counters = store.fetch(as_int64([1, 2, 3, 4, 5, 6, 7]))
            right = (answer == world.space[1:8]).all() and counters.hits == (0 if locked else 1)
            os._exit(0 if right else 1)
        if locked:
            store._lock.release()
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        answer, counters = store.fetch(as_int64([0, 1]))
        assert (answer == world.space[:2]).all()
        assert counters == FetchCounters(hits=2)
