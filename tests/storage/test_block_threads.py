"""One store, many threads, forked children, and closing in the middle of it all."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex.storage import blocks as blocks_module
from colindex.storage.blocks import BlockStore, FetchCounters, engines
from colindex.storage.errors import StorageError
from colindex.storage.reads import BLOCK_BYTES
from tests.storage.block_worlds import SLOT, World, as_int64, make_world, table_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("slots", [0, 1, 7, 19])
def test_many_threads_get_the_same_bytes_and_the_counters_add_up(engine: str, world: World, slots: int) -> None:
    with BlockStore(world.segments, slots * SLOT, engine) as store:
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
        held = np.flatnonzero(table_of(store).table >= 0)
        assert len(set(table_of(store).table[held].tolist())) == len(held) <= slots


def test_two_threads_that_miss_one_block_keep_it_once(engine: str, world: World) -> None:
    with BlockStore(world.segments, 3 * SLOT, engine) as store, ThreadPoolExecutor(2) as pool:
        for answer, counters in pool.map(lambda _: store.fetch(as_int64([2])), range(2)):
            assert (answer == world.space[[2]]).all()
            assert counters.misses + counters.hits == 1
        assert table_of(store).used == 1


@pytest.mark.parametrize("frames", [1, 4, 64])
def test_threads_that_want_the_same_frames_all_get_on(
    engine: str, world: World, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "FRAMES", (frames, frames))
    monkeypatch.setattr(blocks_module, "STALE_FETCHES", 1)
    with BlockStore(world.segments, 2 * SLOT, engine) as store, ThreadPoolExecutor(6) as pool:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(40):
                blocks, others = rng.permutation(19)[:10], rng.permutation(19)[:8]
                store.prefetch(others)
                answer, _ = store.fetch(blocks)
                assert (answer == world.space[blocks]).all()
                if rng.random() < 0.5:
                    store.forget_ranges(others * BLOCK_BYTES, others * BLOCK_BYTES + 1)

        list(pool.map(work, range(6)))


def test_a_store_can_be_closed_with_reads_under_way(engine: str, world: World) -> None:
    for _ in range(20):
        store = BlockStore(world.segments, 4 * SLOT, engine)
        store.prefetch(as_int64(range(19)))
        store.close()


def test_a_store_that_is_dropped_waits_for_its_reads(engine: str, world: World) -> None:
    for _ in range(20):
        store = BlockStore(world.segments, 4 * SLOT, engine)
        store.prefetch(as_int64(range(19)))
        shards = store._space.shards
        del store
        for shard in shards:
            os.close(shard.descriptor)


def test_closing_while_others_fetch_gives_bytes_or_an_error(world: World) -> None:
    for engine in engines()[:-1]:  # with Python alone a read may meet the closed file, which the system names
        for _ in range(10):
            store = BlockStore(world.segments, 4 * SLOT, engine)

            def work(seed: int, store: BlockStore = store) -> int:
                rng = np.random.default_rng(seed)
                for fetches in range(10_000):
                    blocks = rng.permutation(19)[:10]
                    try:
                        store.prefetch(rng.permutation(19)[:5])
                        answer, _ = store.fetch(blocks)
                    except StorageError:
                        return fetches
                    assert (answer == world.space[blocks]).all()
                return 10_000

            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(work, seed) for seed in range(4)]
                store.close()
                assert all(task.result(timeout=60) < 10_000 for task in running)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_on_and_leaves_its_parent_alone(engine: str, world: World) -> None:
    with BlockStore(world.segments, 5 * SLOT, engine) as store:
        store.fetch(as_int64([0, 1]))
        store.prefetch(as_int64([2, 3, 9, 10, 11]))
        process = os.fork()
        if process == 0:
            answer, counters = store.fetch(as_int64([1, 2, 3, 4, 5, 6, 7]))
            right = (answer == world.space[1:8]).all() and counters.hits == 1
            store.prefetch(as_int64([12, 13]))
            answer, counters = store.fetch(as_int64([12, 13, 9]))
            right &= bool((answer == world.space[[12, 13, 9]]).all()) and counters.prefetch_hits >= 2
            right &= store.counters.misses == 2 + 6 + 3
            store.close()
            os._exit(0 if right else 1)
        answer, counters = store.fetch(as_int64([2, 3, 9]))
        assert (answer == world.space[[2, 3, 9]]).all()
        assert counters.prefetch_hits == 3
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        answer, counters = store.fetch(as_int64([0, 1]))
        assert (answer == world.space[:2]).all()
        assert counters == FetchCounters(hits=2)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_forked_while_threads_fetch_reads_right_bytes(engine: str, world: World) -> None:
    with BlockStore(world.segments, 5 * SLOT, engine) as store, ThreadPoolExecutor(3) as pool:
        stop = threading.Event()

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while not stop.is_set():
                store.prefetch(rng.permutation(19)[:5])
                store.fetch(rng.permutation(19)[:10])

        running = [pool.submit(work, seed) for seed in range(3)]
        try:
            for _ in range(8):
                process = os.fork()
                if process == 0:
                    wanted = as_int64(range(19))
                    right = all((store.fetch(wanted)[0] == world.space).all() for _ in range(3))
                    os._exit(0 if right else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        finally:
            stop.set()
        for task in running:
            task.result(timeout=60)
