"""Prefetched blocks: what is started, what makes room for what, and when their errors show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from colindex.storage import blocks as blocks_module
from colindex.storage.blocks import BlockStore, FetchCounters, engines
from colindex.storage.errors import CorruptIndexError
from colindex.storage.reads import BLOCK_BYTES
from tests.storage.block_worlds import SLOT, World, as_int64, damage, make_world, table_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_prefetched_block_is_counted_once(engine: str, world: World) -> None:
    with BlockStore(world.segments, 4 * SLOT, engine) as store:
        assert store.prefetch_ranges(as_int64([0]), as_int64([9000])) == 3
        assert store.prefetch(as_int64([1, 5])) == 1
        assert store.counters.prefetched == 4
        _, counters = store.fetch(as_int64([1, 2, 9]))
        assert counters.prefetch_hits == 2
        _, counters = store.fetch(as_int64([1, 2, 9]))
        assert counters == FetchCounters(hits=3)
        assert store.prefetch(as_int64([1])) == 0


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six frames, of which prefetches may have four, for two fetches."""
    monkeypatch.setattr(blocks_module, "FRAMES", (6, 6))
    monkeypatch.setattr(blocks_module, "STALE_FETCHES", 2)


@pytest.mark.usefixtures("few_frames")
def test_a_prefetch_takes_what_there_is_room_for(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        assert store.prefetch_limit == 4
        assert store.prefetch(as_int64([7, 1, 2, 3, 9, 10])) == 4
        assert store.prefetch(as_int64([4])) == 0
        _, counters = store.fetch(as_int64([9, 10, 7]))
        assert counters.prefetch_hits == 1
        assert store.prefetch(as_int64([4, 5])) == 1


@pytest.mark.usefixtures("few_frames")
def test_old_prefetches_make_room_for_new_ones(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        assert store.prefetch(as_int64([0, 1, 2, 3])) == 4
        for fetches in range(2):
            store.fetch(as_int64([18]))
            assert store.prefetch(as_int64([4, 5])) == 0, fetches
        store.fetch(as_int64([18]))
        assert store.prefetch(as_int64([4, 5])) == 2
        answer, counters = store.fetch(as_int64(range(8)))
        assert counters.prefetch_hits == 4
        assert (answer == world.space[:8]).all()


@pytest.mark.usefixtures("few_frames")
def test_what_is_forgotten_makes_room_at_once(engine: str, world: World) -> None:
    with BlockStore(world.segments, 0, engine) as store:
        store.prefetch(as_int64([0, 1, 2, 3]))
        store.forget_ranges(as_int64([0]), as_int64([2 * BLOCK_BYTES]))
        assert store.prefetch(as_int64([4, 5, 6])) == 2
        answer, counters = store.fetch(as_int64(range(8)))
        assert counters.prefetch_hits == 4
        assert (answer == world.space[:8]).all()


def test_a_prefetch_drives_nothing_out(engine: str, world: World) -> None:
    with BlockStore(world.segments, 3 * SLOT, engine) as store:
        store.fetch(as_int64([0, 1, 2]))
        store.prefetch(as_int64(range(3, 19)))
        _, counters = store.fetch(as_int64([0, 1, 2]))
        assert counters == FetchCounters(hits=3)


def test_a_damaged_block_that_was_prefetched_is_an_error_when_it_is_asked_for(engine: str, world: World) -> None:
    damage(world.paths[0], BLOCK_BYTES)
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        assert store.prefetch(as_int64([0, 1, 2])) == 3
        with pytest.raises(CorruptIndexError, match="0-0: block at byte 4096"):
            store.fetch(as_int64([0, 1, 2]))
        assert table_of(store).table[1] < 0
        answer, _ = store.fetch(as_int64([2, 0]))
        assert (answer == world.space[[2, 0]]).all()


def test_a_prefetch_from_a_torn_file_is_an_error_when_it_is_asked_for(engine: str, world: World) -> None:
    with BlockStore(world.segments, 19 * SLOT, engine) as store:
        os.truncate(world.paths[0], 5000)
        store.prefetch(as_int64([0, 1, 2]))
        answer, _ = store.fetch(as_int64([0]))
        assert (answer == world.space[[0]]).all()
        with pytest.raises(
            CorruptIndexError, match="0-0: expected 4096 bytes at byte 4096, the file ends at byte 5000"
        ):
            store.fetch(as_int64([1]))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_more_can_be_fetched_than_there_is_staging(
    engine: str, world: World, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "FRAMES", (frames, frames))
    with BlockStore(world.segments, 4 * SLOT, engine) as store:
        for order in (list(range(19)), list(range(18, -1, -1))):
            store.prefetch(as_int64(order[7:]))
            answer, _ = store.fetch(as_int64(order))
            assert (answer == world.space[order]).all()
