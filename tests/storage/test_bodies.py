"""The native body does what the reference body does: same bytes, same counters, same table, after any calls."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from colindex.storage import blocks as blocks_module
from colindex.storage.blocks import BlockStore, engines
from tests.storage.block_worlds import SLOT, World, arena_of, as_int64, make_world, table_of
from tests.storage.bodies import needs_native

pytestmark = needs_native

SPACE = 19 * 4096

ranges = st.lists(
    st.tuples(st.integers(0, SPACE), st.one_of(st.integers(0, 9000), st.integers(0, SPACE))).map(
        lambda pair: (pair[0], min(sum(pair), SPACE))
    ),
    max_size=6,
)
calls = st.lists(st.tuples(st.sampled_from(["fetch", "fetch", "prefetch", "forget"]), ranges), max_size=30)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        yield make_world(Path(folder))


def state(store: BlockStore) -> list[list[int]]:
    table = table_of(store)
    arrays = (
        table.table,
        table.block_of,
        table.frequency,
        table.small.members(),
        table.main.members(),
        table.ghost,
        table.counts,
    )
    return [array.tolist() for array in arrays]


@given(slots=st.integers(0, 21), frames=st.sampled_from([8, 20, 64]), calls=calls)
@settings(max_examples=250, deadline=None)
def test_both_bodies_are_one(
    world: World, slots: int, frames: int, calls: list[tuple[str, list[tuple[int, int]]]]
) -> None:
    with patch.multiple(blocks_module, FRAMES=(frames, frames), STALE_FETCHES=2):
        stores = [BlockStore(world.segments, slots * SLOT, engine) for engine in engines()]
    try:
        for name, wanted in calls:
            starts, ends = as_int64([a for a, _ in wanted]), as_int64([b for _, b in wanted])
            if name == "fetch":
                answers = [store.fetch_ranges(starts, ends) for store in stores]
                expected = np.concatenate([np.zeros(0, np.uint8), *(world.space.reshape(-1)[a:b] for a, b in wanted)])
                for answer, counters in answers:
                    assert (answer == expected).all()
                    assert counters == answers[-1][1]
            elif name == "prefetch":
                assert len({store.prefetch_ranges(starts, ends) for store in stores}) == 1
            else:
                for store in stores:
                    store.forget_ranges(starts, ends)
            for store in stores[:-1]:
                assert state(store) == state(stores[-1])
                assert store.counters == stores[-1].counters
                held = np.flatnonzero(table_of(store).table >= 0)
                assert (arena_of(store)[table_of(store).table[held]] == world.space[held]).all()
    finally:
        for store in stores:
            store.close()


def test_checksums_are_those_of_the_library() -> None:
    native = importlib.import_module("colindex.storage._reads")
    rng = np.random.default_rng(0)
    for block in [rng.bytes(4096) for _ in range(200)] + [bytes([byte]) * 4096 for byte in range(256)]:
        assert native.checksum(block) == xxhash.xxh3_64_intdigest(block) & 0xFFFFFFFF
    with pytest.raises(ValueError, match="expected 4096 bytes, got 5"):
        native.checksum(b"short")
