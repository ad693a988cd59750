"""Where the system says no - no direct reads, no ring, no frames - the native body reads all the same."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from colindex.storage.blocks import BlockStore, engines
from colindex.storage.errors import CorruptIndexError
from colindex.storage.native_fetcher import NativeFetcher
from tests.storage.block_worlds import SLOT, World, as_int64, make_world
from tests.storage.bodies import needs_native

pytestmark = needs_native

NATIVE = engines()[:-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def engine_of(store: BlockStore) -> str:
    assert isinstance(store._fetcher, NativeFetcher)
    return store._fetcher._fetcher.engine


@pytest.mark.parametrize("engine", NATIVE)
def test_the_engine_starts_with_the_first_read(world: World, engine: str) -> None:
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        assert engine_of(store) == "none yet"
        store.fetch(as_int64([3]))
        assert engine_of(store) == engine


@pytest.mark.parametrize("engine", NATIVE)
def test_a_file_system_without_direct_reads_is_read_through_the_page_cache(
    world: World, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.open

    def not_direct(path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return whole(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", not_direct)
        store = BlockStore(world.segments, 5 * SLOT, engine)
    with store:
        assert not any(shard.direct for shard in store._space.shards)
        store.prefetch(as_int64([1, 18]))
        answer, counters = store.fetch(as_int64(range(19)))
        assert (answer == world.space).all()
        assert counters.prefetch_hits == 2


@pytest.mark.parametrize("engine", NATIVE)
def test_a_file_cut_at_an_odd_place_says_where_it_ends(world: World, engine: str) -> None:
    """Direct reads go by whole sectors: the end of the file has to be asked for through the page cache."""
    with BlockStore(world.segments, 0, engine) as store:
        os.truncate(world.paths[0], 3 * 4096 + 700)
        for _ in range(2):
            with pytest.raises(
                CorruptIndexError, match="expected 4096 bytes at byte 12288, the file ends at byte 12988"
            ):
                store.fetch(as_int64([1, 3]))
            answer, _ = store.fetch(as_int64([0, 1, 2]))
            assert (answer == world.space[:3]).all()


@pytest.mark.skipif("io_uring" not in NATIVE, reason="no io_uring here")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_threads_take_over_when_the_system_has_no_ring_left(world: World) -> None:
    with BlockStore(world.segments, 5 * SLOT, "io_uring") as store:
        process = os.fork()
        if process == 0:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # a ring is a descriptor
            answer, _ = store.fetch(as_int64(range(19)))
            os._exit(0 if (answer == world.space).all() and engine_of(store) == "threads" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.parametrize("engine", NATIVE)
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_without_a_ring_and_without_threads_reads_go_one_by_one(world: World, engine: str) -> None:
    with BlockStore(world.segments, 5 * SLOT, engine) as store:
        process = os.fork()
        if process == 0:
            os.setuid(65534)  # the limit of threads is no limit for root
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            store.prefetch(as_int64([5, 6]))
            answer, _ = store.fetch(as_int64(range(19)))
            os._exit(0 if (answer == world.space).all() and engine_of(store) == "none yet" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.parametrize("engine", NATIVE)
def test_closing_leaves_no_descriptor_and_no_thread(world: World, engine: str) -> None:
    def threads() -> int:
        names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
        return sum(not name.startswith("iou-") for name in names)  # those are the kernel's, and go in their own time

    before = len(os.listdir("/proc/self/fd")), threads()
    for _ in range(3):
        with BlockStore(world.segments, 5 * SLOT, engine) as store:
            store.prefetch(as_int64(range(19)))
            store.fetch(as_int64(range(10)))
    assert (len(os.listdir("/proc/self/fd")), threads()) == before


@pytest.mark.parametrize("engine", NATIVE)
def test_counters_outlive_the_files(world: World, engine: str) -> None:
    with BlockStore(world.segments, 5 * SLOT, engine) as store:
        store.fetch(as_int64([1, 2]))
        before = store.counters
    assert store.counters == before
    assert before.misses == 2


@pytest.mark.parametrize("engine", NATIVE)
def test_memory_is_given_back(world: World, engine: str) -> None:
    """Twenty stores with a mebibyte each, closed but kept, weigh less than five of them."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    kept = []
    before = 0
    for number in range(24):
        if number == 4:
            before = resident()
        store = BlockStore(world.segments, 1 << 20, engine)
        store.fetch(as_int64(range(19)))
        store.close()
        kept.append(store)
    assert resident() - before < 5 << 20


def test_arrays_that_would_be_copied_are_refused(world: World) -> None:
    with BlockStore(world.segments, 5 * SLOT, NATIVE[-1]) as store:
        assert isinstance(store._fetcher, NativeFetcher)
        with pytest.raises(ValueError, match="expected as many starts as ends"):
            store._fetcher.fetch(as_int64([1, 2]), as_int64([3]))


def test_without_the_extension_python_does_the_work(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["colindex.storage._reads"] = None
from colindex.storage.blocks import BlockStore, engines
assert engines() == ("python",), engines()
assert BlockStore([], 1 << 20).engine == "python"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_ring_is_asked_for_and_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colindex.storage._reads.has_ring", lambda: False)
    engines.cache_clear()
    try:
        assert engines() == ("threads", "python")
    finally:
        engines.cache_clear()


@pytest.mark.parametrize("engine", NATIVE)
@pytest.mark.parametrize("ahead", [16, 256])
def test_rounds_that_were_prefetched_are_hits(tmp_path: Path, engine: str, ahead: int) -> None:
    """As a search does it: rounds of documents, some rounds ahead in flight."""
    world = make_world(tmp_path, shards=((400,), (300, 200)))
    rng = np.random.default_rng(3)
    starts = rng.integers(0, 899 * 4096 - 9000, 96)
    ends = starts + 8600
    flat = world.space.reshape(-1)
    with BlockStore(world.segments, 8 << 20, engine) as store:
        store.prefetch_ranges(starts[:ahead], ends[:ahead])
        for begin in range(0, 96, 16):
            part, later = slice(begin, begin + 16), slice(begin + ahead, begin + ahead + 16)
            store.prefetch_ranges(starts[later], ends[later])
            answer, _ = store.fetch_ranges(starts[part], ends[part])
            expected = [flat[a:b] for a, b in zip(starts[part], ends[part], strict=True)]
            assert (answer == np.concatenate(expected)).all()
        counters = store.counters
    assert counters.prefetch_hits == counters.prefetched == counters.misses
