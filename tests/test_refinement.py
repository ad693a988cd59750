"""Refinement: which candidates are scored, which come back, and that one native call does what going round by round does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex import refinement
from colindex.errors import CorruptIndexError
from colindex.kernels import chosen
from colindex.kernels.rounds import Candidates, Rounds
from colindex.kernels.tables import CodeTable
from colindex.ranked import Ranked
from colindex.refinement import AHEAD, FIRST_ROUND, ROUND, Prepared, refine
from colindex.storage.blocks import BlockStore, SegmentBlocks, ShardBlocks, engines
from colindex.storage.errors import StorageError
from colindex.storage.places import RecordRanges
from colindex.storage.reads import BLOCK_BYTES
from colindex.tally import Tally
from tests.kernels.bodies import NATIVE
from tests.kernels.records import gaussian, offsets_of, random_records, some_table
from tests.storage.block_worlds import SLOT, damage, fail_reads

BODIES = ["in one call", "by rounds"]
needs_both = pytest.mark.skipif(not NATIVE or engines() == ("python",), reason="not built here")
each_body = pytest.mark.parametrize(
    "body",
    [pytest.param(BODIES[0], marks=needs_both), pytest.param(BODIES[1])],
    ids=lambda body: body.replace(" ", "-"),
)
DIM = 128


@dataclass(frozen=True)
class World:
    """Documents of known scores on disk."""

    path: Path
    table: CodeTable
    records: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    query: NDArray[np.float32]

    @property
    def codebook(self) -> Any:
        """What refinement asks a codebook for."""
        layout = SimpleNamespace(record_bytes=self.records.shape[1])
        return SimpleNamespace(layout=layout, codes=self.table, n_centroids=len(self.table.centroids))

    @property
    def scores(self) -> NDArray[np.float32]:
        return refinement.score(self.codebook, self.query, self.records, self.offsets)

    def store(self, slots: int | None = None, engine: str | None = None) -> BlockStore:
        data = self.records.tobytes()
        blocks = max(1, -(-len(data) // BLOCK_BYTES))
        padded = data.ljust(blocks * BLOCK_BYTES, b"\0")
        sums = [
            xxhash.xxh3_64_intdigest(padded[at : at + BLOCK_BYTES]) & 0xFFFFFFFF
            for at in range(0, len(padded), BLOCK_BYTES)
        ]
        if not self.path.exists():
            self.path.write_bytes(data)
        segment = SegmentBlocks((ShardBlocks(self.path, blocks, len(data)),), np.array(sums, np.uint32))
        return BlockStore([segment], (blocks if slots is None else slots) * SLOT, engine)

    def prepared(self, estimates: NDArray[np.float32]) -> Prepared:
        """All documents as candidates, with an estimate for each."""
        order = np.lexsort((np.arange(len(estimates)), -estimates))
        starts, ends = self.offsets[:-1][order], self.offsets[1:][order]
        rows = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
        ranges = RecordRanges(starts * self.records.shape[1], ends * self.records.shape[1], rows)
        return Prepared(self.query, Ranked(order.astype(np.int64), estimates[order]), ranges, Tally())


def make_world(folder: Path, lengths: list[int], bits: int = 2, tokens: int = 5) -> World:
    table = some_table(DIM, bits, unit=True)
    path = folder / f"{xxhash.xxh3_64_hexdigest(repr((lengths, bits)).encode())}"
    return World(path, table, random_records(table, sum(lengths)), offsets_of(lengths), gaussian(tokens, DIM, 3))


def lengths_of(documents: int, seed: int = 0) -> list[int]:
    """Some without vectors, and one that takes many blocks."""
    lengths = np.random.default_rng(seed).integers(0, 30, documents)
    lengths[documents // 2] = 3000
    return [int(length) for length in lengths]


def estimates_of(world: World, noise: float, seed: int = 0) -> NDArray[np.float32]:
    scores = np.where(np.isfinite(world.scores), world.scores, 0)
    off = noise * np.random.default_rng(seed).standard_normal(len(scores))
    return np.asarray(scores - 2 + off, np.float32)


@contextmanager
def using(body: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if body == BODIES[1]:
            patch.setattr(chosen, "refine", None)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), lengths_of(700))


def exact(world: World, k: int) -> list[tuple[int, float]]:
    order = np.lexsort((np.arange(len(world.scores)), -world.scores))[:k]
    return [(int(document), float(world.scores[document])) for document in order]


def pairs(ranked: Ranked) -> list[tuple[int, float]]:
    return list(zip(ranked.documents.tolist(), ranked.scores.tolist(), strict=True))


@each_body
@pytest.mark.parametrize("k", [1, 10, FIRST_ROUND + 1, 699, 700, 5000])
def test_with_an_infinite_margin_the_best_of_all_candidates_come_back(body: str, world: World, k: int) -> None:
    prepared = world.prepared(estimates_of(world, noise=1.0))
    with using(body), world.store() as store:
        assert pairs(refine(world.codebook, store, prepared, k, float("inf"))) == exact(world, k)
    assert prepared.tally.candidates == 700


@each_body
def test_good_estimates_spare_most_candidates(body: str, world: World) -> None:
    prepared = world.prepared(estimates_of(world, noise=0.01))
    with using(body), world.store() as store:
        assert pairs(refine(world.codebook, store, prepared, 10, 3.0)) == exact(world, 10)
        assert store.counters.bytes_read < world.records.nbytes
    assert prepared.tally.candidates == FIRST_ROUND


@each_body
def test_estimates_that_say_nothing_are_not_trusted(body: str, world: World) -> None:
    """No probe met the last documents: what they score is not known, and each might be the best."""
    estimates = estimates_of(world, noise=0.01)
    estimates[300:] = -np.inf
    prepared = world.prepared(estimates)
    with using(body), world.store() as store:
        assert pairs(refine(world.codebook, store, prepared, 10, 3.0)) == exact(world, 10)
    assert prepared.tally.candidates == 700


@each_body
def test_ties_go_to_the_lower_document(body: str, tmp_path: Path) -> None:
    alone = make_world(tmp_path, [4])
    same = World(tmp_path / "same", alone.table, np.tile(alone.records, (200, 1)), offsets_of([4] * 200), alone.query)
    prepared = same.prepared(np.random.default_rng(1).permutation(200).astype(np.float32))
    with using(body), same.store() as store:
        found = refine(same.codebook, store, prepared, 7, float("inf"))
    assert found.documents.tolist() == list(range(7))


@each_body
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_there_may_be_no_candidates_or_nothing_in_them(body: str, tmp_path: Path, lengths: list[int]) -> None:
    world = make_world(tmp_path, [*lengths, 1])
    prepared = world.prepared(np.zeros(len(lengths) + 1, np.float32))
    part = Prepared(
        prepared.query,
        Ranked(prepared.estimated.documents[: len(lengths)], prepared.estimated.scores[: len(lengths)]),
        prepared.ranges.part(0, len(lengths)),
        Tally(),
    )
    with using(body), world.store() as store:
        assert pairs(refine(world.codebook, store, part, 10, 1.0)) == [(at, -np.inf) for at in range(len(lengths))]


@needs_both
@given(
    documents=st.sampled_from([1, 47, 48, 49, 112, 113, 300]),
    bits=st.sampled_from([1, 2, 4, 8, 32]),
    tokens=st.sampled_from([0, 1, 17]),
    k=st.sampled_from([1, 10, 60, 400]),
    margin=st.sampled_from([0.0, 0.5, 2.0, float("inf")]),
    noise=st.sampled_from([0.0, 0.3, 5.0]),
    unmet=st.integers(0, 100),
    slots=st.sampled_from([0, 3, 1000]),
    announced=st.booleans(),
    asked=st.sampled_from([1.0, 1e-30, 1e37, 3e38]),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_one_call_does_what_going_round_by_round_does(
    tmp_path_factory: pytest.TempPathFactory,
    documents: int,
    bits: int,
    tokens: int,
    k: int,
    margin: float,
    noise: float,
    unmet: int,
    slots: int,
    announced: bool,
    asked: float,
    seed: int,
) -> None:
    world = make_world(tmp_path_factory.getbasetemp(), lengths_of(documents, seed), bits, tokens)
    world.query[:] = np.clip(world.query.astype(np.float64) * asked, -3e38, 3e38)
    estimates = estimates_of(world, noise, seed)
    estimates[documents - min(unmet, documents) :] = -np.inf
    seen = []
    for body in BODIES:
        with using(body), world.store(slots) as store:
            prepared = world.prepared(estimates)
            tally, first = prepared.tally, slice(FIRST_ROUND + AHEAD)
            if announced:
                tally.announced = store.prefetch_ranges(prepared.ranges.starts[first], prepared.ranges.ends[first])
            ranked = refine(world.codebook, store, prepared, k, margin)
            fetched = tally.stats()
            counted = (
                fetched.bytes_read,
                fetched.reads,
                fetched.cache_hits,
                fetched.cache_misses,
                fetched.prefetch_hits,
            )
            seen.append((pairs(ranked), tally.candidates, tally.announced, counted, store.counters, set(tally.seconds)))
    assert seen[0] == seen[1]


@each_body
def test_reads_of_candidates_that_were_given_up_make_room(body: str, world: World) -> None:
    prepared = world.prepared(estimates_of(world, noise=0.01))
    ranges = prepared.ranges
    with using(body), world.store() as store:
        first = slice(FIRST_ROUND + AHEAD)
        prepared.tally.announced = store.prefetch_ranges(ranges.starts[first], ranges.ends[first])
        refine(world.codebook, store, prepared, 10, 3.0)
        after = slice(FIRST_ROUND, FIRST_ROUND + AHEAD)
        assert store.prefetch_ranges(ranges.starts[after], ranges.ends[after]) > 0  # none of them is in flight any more


@each_body
def test_the_reads_of_the_next_round_are_in_flight_while_one_is_scored(body: str, world: World) -> None:
    prepared = world.prepared(estimates_of(world, noise=1.0))
    with using(body), world.store(slots=2000) as store:
        refine(world.codebook, store, prepared, 10, float("inf"))
        counters = store.counters
    unannounced = np.unique(
        np.concatenate(
            [
                np.arange(start // BLOCK_BYTES, -(-end // BLOCK_BYTES))
                for start, end in zip(
                    prepared.ranges.starts[:FIRST_ROUND], prepared.ranges.ends[:FIRST_ROUND], strict=True
                )
            ]
        )
    )
    assert ROUND <= AHEAD
    assert counters.misses - counters.prefetch_hits == len(unannounced)


@each_body
def test_a_flipped_byte_is_an_error_with_a_path(body: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, lengths_of(100))
    with using(body), world.store() as store:
        damage(world.path, 5000)
        with pytest.raises(CorruptIndexError, match="checksum") as error:
            refine(world.codebook, store, world.prepared(estimates_of(world, 1.0)), 10, float("inf"))
    assert str(world.path) in str(error.value)


@each_body
def test_a_disk_that_fails_is_an_error_with_a_path(body: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, lengths_of(100))
    with using(body), world.store() as store:
        fail_reads(store, 0)
        with pytest.raises(StorageError, match="Input/output error") as error:
            refine(world.codebook, store, world.prepared(estimates_of(world, 1.0)), 10, float("inf"))
    assert str(world.path) in str(error.value)


@each_body
def test_a_closed_store_says_so(body: str, world: World) -> None:
    store = world.store()
    store.close()
    with using(body), pytest.raises(StorageError, match="closed"):
        refine(world.codebook, store, world.prepared(estimates_of(world, 1.0)), 10, 1.0)


@each_body
def test_a_centroid_that_does_not_exist_is_damage(body: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, lengths_of(100))
    prepared = world.prepared(estimates_of(world, 1.0))
    fewer = world.table._replace(centroids=world.table.centroids[:1], steps=world.table.steps[:1])
    codebook: Any = SimpleNamespace(**vars(world.codebook) | {"codes": fewer, "n_centroids": 1})
    with using(body), world.store() as store, pytest.raises(CorruptIndexError, match="expected one of 1 centroids"):
        refine(codebook, store, prepared, 10, 1.0)


@needs_both
def test_a_store_of_python_s_is_read_round_by_round(world: World) -> None:
    prepared = world.prepared(estimates_of(world, 1.0))
    with world.store(engine="python") as store:
        assert store.reader is None
        assert pairs(refine(world.codebook, store, prepared, 10, float("inf"))) == exact(world, 10)


def native_refine(world: World, capsule: object, **changed: Any) -> Any:
    """The native call, with some arguments changed."""
    from colindex.kernels.native.refine import refine as all_rounds

    prepared = world.prepared(estimates_of(world, 1.0))
    estimated, ranges = prepared.estimated, prepared.ranges
    candidates = Candidates(estimated.documents, estimated.scores, ranges.starts, ranges.ends)
    arguments: dict[str, Any] = {
        "query": world.query,
        "candidates": candidates,
        "table": world.table,
        "k": 10,
        "margin": 1.0,
    }
    arguments |= {"rounds": Rounds(FIRST_ROUND, ROUND, AHEAD, announced=False)}
    arguments |= {name: change(arguments[name]) for name, change in changed.items()}
    return all_rounds(reader=capsule, **arguments)


@needs_both
@pytest.mark.parametrize(
    "changed",
    [
        {"candidates": lambda c: c._replace(starts=c.starts - 1)},
        {"candidates": lambda c: c._replace(ends=c.ends + 1)},
        {"candidates": lambda c: c._replace(starts=c.ends, ends=c.starts)},
        {"candidates": lambda c: c._replace(starts=c.starts + 2**40, ends=c.ends + 2**40)},
        {"candidates": lambda c: c._replace(starts=c.starts - 2**40, ends=c.ends - 2**40)},
        {"candidates": lambda c: c._replace(documents=c.documents[:-1])},
        {"candidates": lambda c: c._replace(estimates=c.estimates[None])},
        {"query": lambda q: q[:, 1:]},
        {"query": lambda q: q[0]},
        {"k": lambda _: 0},
        {"rounds": lambda r: r._replace(first=0)},
        {"rounds": lambda r: r._replace(most=0)},
        {"table": lambda t: t._replace(steps=t.steps[1:])},
        {"table": lambda t: t._replace(bits=3)},
    ],
)
def test_what_does_not_fit_is_no_wild_pointer(world: World, changed: dict[str, Any]) -> None:
    with world.store() as store:
        assert store.reader is not None
        with pytest.raises(ValueError, match="native kernel"):
            native_refine(world, store.reader.capsule, **changed)


@needs_both
def test_only_a_reader_s_capsule_is_taken(world: World) -> None:
    import datetime

    with pytest.raises(ValueError, match="incorrect name"):
        native_refine(world, datetime.datetime_CAPI)
    with pytest.raises(TypeError):
        native_refine(world, None)


@needs_both
def test_a_reader_that_outlives_its_store_refuses(world: World) -> None:
    with world.store() as store:
        reader = store.reader
        assert reader is not None
    del store
    found = native_refine(world, reader.capsule)
    assert found.failure is not None
    with pytest.raises(StorageError, match="closed"):
        reader.raise_failure(*found.failure)


@needs_both
def test_closing_while_others_refine_gives_answers_or_an_error(world: World) -> None:
    estimates = estimates_of(world, noise=1.0)
    expected = exact(world, 10)
    for _ in range(10):
        store = world.store(slots=4)

        def work(_: int, store: BlockStore = store) -> int:
            for refined in range(10_000):
                try:
                    found = refine(world.codebook, store, world.prepared(estimates), 10, float("inf"))
                except StorageError:
                    return refined
                assert pairs(found) == expected
            return 10_000

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(work, number) for number in range(4)]
            store.close()
            assert all(task.result(timeout=60) < 10_000 for task in running)


@needs_both
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_refines_on(world: World) -> None:
    estimates = estimates_of(world, noise=1.0)
    with world.store(slots=50) as store:
        refine(world.codebook, store, world.prepared(estimates), 10, 1.0)
        process = os.fork()
        found = pairs(refine(world.codebook, store, world.prepared(estimates), 10, float("inf")))
        if process == 0:
            os._exit(0 if found == exact(world, 10) else 1)
        assert found == exact(world, 10)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@needs_both
def test_a_signal_is_heard_before_the_last_round(tmp_path: Path) -> None:
    """Ctrl-C in a search of very many candidates: the native call looks up now and then."""
    documents = 60_000
    world = make_world(tmp_path, [5] * documents, tokens=400)
    prepared = world.prepared(np.zeros(documents, np.float32))

    class Alarm(Exception):
        """What the handler raises."""

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with world.store() as store:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Alarm):
                refine(world.codebook, store, prepared, 10, float("inf"))
            cut_short = store.counters
            refine(world.codebook, store, prepared, 10, float("inf"))
            assert store.counters.hits + store.counters.misses > 3 * (cut_short.hits + cut_short.misses)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
