"""What the reference body asks of the system, and in which order."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from colindex.storage import python_fetcher, reads
from colindex.storage.blocks import BlockStore
from colindex.storage.reads import BLOCK_BYTES
from tests.storage.block_worlds import SLOT, World, as_int64, make_world, table_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def python_store(world: World, cache_bytes: int) -> BlockStore:
    return BlockStore(world.segments, cache_bytes, "python")


def test_what_a_prefetch_announced_is_not_announced_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[int] = []
    with python_store(world, 0) as store:
        store.prefetch(as_int64([1, 2]))
        monkeypatch.setattr(os, "posix_fadvise", lambda _, offset, *rest: advised.append(offset))
        answer, _ = store.fetch(as_int64([1, 2, 4]))
        assert (answer == world.space[[1, 2, 4]]).all()
    assert advised == [4 * BLOCK_BYTES, BLOCK_BYTES, 4 * BLOCK_BYTES]  # announce 4, then forget 1 and 2, and 4


def test_what_is_forgotten_leaves_the_page_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[tuple[int, int, int]] = []
    with python_store(world, 0) as store:
        store.prefetch(as_int64([1, 2, 3]))
        monkeypatch.setattr(
            os, "posix_fadvise", lambda _, offset, length, advice: advised.append((offset, length, advice))
        )
        store.forget_ranges(as_int64([2 * BLOCK_BYTES]), as_int64([5 * BLOCK_BYTES]))
    assert advised == [(2 * BLOCK_BYTES, 2 * BLOCK_BYTES, os.POSIX_FADV_DONTNEED)]


def test_an_interrupt_between_admitting_and_copying_leaves_no_wrong_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with python_store(world, 3 * SLOT) as store:
        store.fetch(as_int64([0, 1, 2]))
        table = table_of(store)
        admit = table.admit

        def admit_then_stop(blocks: np.ndarray) -> int:
            admit(blocks)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(table, "admit", admit_then_stop)
            with pytest.raises(KeyboardInterrupt):
                store.fetch(as_int64([3]))
        answer, counters = store.fetch(as_int64([3, 0]))
        assert (answer == world.space[[3, 0]]).all()
        assert counters.misses == 2


def test_two_threads_that_both_read_one_block_keep_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    both_missed = threading.Barrier(2)
    read_ranges = reads.read_ranges

    def wait_then_read(*arguments: object) -> int:
        both_missed.wait(timeout=10)
        return read_ranges(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(python_fetcher, "read_ranges", wait_then_read)
    with python_store(world, 3 * SLOT) as store, ThreadPoolExecutor(2) as pool:
        for answer, counters in pool.map(lambda _: store.fetch(as_int64([2])), range(2)):
            assert (answer == world.space[[2]]).all()
            assert counters.misses == 1
        assert table_of(store).used == 1


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_change_begins_with_an_empty_cache(world: World) -> None:
    with python_store(world, 5 * SLOT) as store:
        store.fetch(as_int64([0, 1]))
        fetcher = store._fetcher
        assert isinstance(fetcher, python_fetcher.PythonFetcher)
        with fetcher._lock:
            process = os.fork()
            if process == 0:
                answer, counters = store.fetch(as_int64([1, 2]))
                os._exit(0 if (answer == world.space[1:3]).all() and counters.hits == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        assert store.fetch(as_int64([0, 1]))[1].hits == 2
