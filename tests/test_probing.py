"""Old documents are found as before, however many centroids an index has got since."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex import BuildParams, Index, TokenBatch, probing
from colindex.kernels import chosen, reference
from colindex.kernels.tables import ProbeTable, probe_table
from colindex.probing import age, known_by_age, probes
from colindex.search import Ranked, candidates
from colindex.storage.verify import verify_index
from tests.growing import KNOWN, LATER, words

TOKENS = 8  # a document
KNOWN_COUNTS = st.lists(st.integers(1, 200_000), max_size=30)


def table(count: int) -> ProbeTable:
    rng = np.random.default_rng(count)
    return probe_table(rng.standard_normal((count, 20)).astype(np.float16), rng.random(count).astype(np.float32))


class TestAges:
    @given(KNOWN_COUNTS)
    def test_a_segment_is_probed_among_what_it_knows_and_little_more(self, known: list[int]) -> None:
        for count, among in zip(known, known_by_age(known), strict=True):
            assert count <= among
            assert among <= max(4096, 4 / 3 * count)
            assert among in known

    @given(KNOWN_COUNTS)
    def test_what_is_merged_within_an_age_is_probed_as_before(self, known: list[int]) -> None:
        ages: dict[int, int] = {}
        for count in known:
            ages[age(count)] = max(count, ages.get(age(count), 0))
        assert known_by_age(list(ages.values())) == list(ages.values())
        assert known_by_age(known) == [ages[age(count)] for count in known]

    def test_tenfold_growth_makes_nine_ages(self) -> None:
        assert [age(count) for count in (1, 4096)] == [0, 0]
        assert len({age(count) for count in range(4097, 40_970, 10)}) == 9
        assert all(0 <= after - before <= 1 for before, after in pairwise(age(count) for count in range(1, 20_000, 7)))


@pytest.mark.parametrize("known", [1, 15, 16, 17, 5000])
def test_probing_the_first_centroids_is_probing_them_alone(known: int) -> None:
    every, query = table(5500), np.random.default_rng(1).standard_normal((3, 20)).astype(np.float32)
    first = every.first(known)
    alone = ProbeTable(first.values.copy(), first.steps.copy(), first.spreads.copy())
    for kernels in (chosen, reference):
        ids, scores = kernels.top_centroids(query, first, 64)
        assert ids.shape == (3, min(known, 64))
        assert ids.max() < known
        expected = kernels.top_centroids(query, alone, 64)
        assert (ids.tobytes(), scores.tobytes()) == tuple(part.tobytes() for part in expected)


def test_each_segment_gets_the_probes_of_its_age() -> None:
    every, query = table(8000), np.random.default_rng(1).standard_normal((3, 20)).astype(np.float32)
    old, young, newest = probes(query, every, [100, 4100, 8000], 64)
    assert old[0].tolist() == chosen.top_centroids(query, every.first(100), 64)[0].tolist()
    assert 100 <= young[0].max() < 4100 <= newest[0].max()
    assert [part.tobytes() for part in newest] == [part.tobytes() for part in chosen.top_centroids(query, every, 64)]


def batch(name: str, count: int, ids: range, seed: int) -> TokenBatch:
    vectors, token_ids = words(count * TOKENS, ids, seed=seed)
    names = tuple(f"{name}-{number}" for number in range(count))
    return TokenBatch(ids=names, vectors=vectors, offsets=np.arange(count + 1) * TOKENS, token_ids=token_ids)


def of_the_first(index: Index, count: int) -> list[Ranked]:
    """What is gathered of the first documents, with few probes."""
    snapshot = index._open.snapshot
    bits = [np.full(-(-count // 8), 255, np.uint8)]
    bits += [np.zeros(-(-(len(segment.offsets) - 1) // 8), np.uint8) for segment in snapshot.segments[1:]]
    bits[0][-1] &= 255 >> -count % 8
    queries = np.split(words(40, KNOWN, seed=9)[0], 10)
    projected = [snapshot.codebook.project(query) for query in queries]
    return [candidates(snapshot, query, 8, 50, snapshot.live.also(bits)) for query in projected]


def test_growth_takes_no_old_document_out_of_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_FEW", 16)
    folder = tmp_path / "index"
    Index.build_from_vectors(folder, [batch("old", 67, KNOWN, 0)], BuildParams())
    with Index.open(folder) as index:
        before, centroids = of_the_first(index, 67), index.stats().centroids
        for seed in (1, 2, 3):
            index.add_vectors([batch(f"same{seed}", 300, KNOWN, seed), batch(f"other{seed}", 300, LATER, seed)])
        assert index.stats().centroids > 2 * centroids
        for was, found in zip(before, of_the_first(index, 67), strict=True):
            assert was.documents.tolist() == found.documents.tolist()
            assert was.scores.tobytes() == found.scores.tobytes()
        index.compact(full=True)
        assert len(index.manifest.segments) > 1, "old and young are not mixed"
        for was, found in zip(before, of_the_first(index, 67), strict=True):
            assert was.scores.tobytes() == found.scores.tobytes()
    assert verify_index(folder) == []


def test_what_is_merged_knows_no_centroid_that_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_FEW", 16)
    folder = tmp_path / "index"
    Index.build_from_vectors(folder, [batch("old", 62, KNOWN, 0)], BuildParams())
    with Index.open(folder) as index:
        index.add_vectors([batch("little", 1, KNOWN, 1)])
        index.add_vectors([batch("much", 600, LATER, 2)])
        old, little, much = index._open.snapshot.known_centroids()
        assert old == little < much
        index.delete(["old-3"])
        assert index.compact(full=True).segments_after == 2
        assert index._open.snapshot.known_centroids() == [old, much]
    assert verify_index(folder) == []
