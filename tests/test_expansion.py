"""Expansion: new centroids behind the old ones, and nothing that was written changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.clustering import Clustering
from colindex.codebook import Codebook, SearchCodebook
from colindex.kernels import chosen as kernels
from colindex.kernels.reference import decode_records
from colindex.records import RecordLayout
from tests.growing import ALL, DIM, KNOWN, LATER, codebook, words
from tests.oracles import exact_nearest

BOTH = pytest.mark.parametrize("ids", [True, False], ids=["words", "cells"])


def grown(old: Codebook, n_centroids: int = 60, *, seed: int = 0, threads: int = 1, length: float = 1.0) -> Codebook:
    vectors, token_ids = words(2000, seed=5, length=length)
    return old.expanded(old.project(vectors), token_ids, n_centroids=n_centroids, seed=seed, threads=threads)


def coded(book: Codebook, vectors: NDArray[np.float32], token_ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    return book.encode(book.project(vectors), np.array([0, len(vectors)]), token_ids).records


def searching(book: Codebook) -> SearchCodebook:
    return SearchCodebook.from_arrays(*book.to_arrays())


def energy(book: Codebook, vectors: NDArray[np.float32], token_ids: NDArray[np.int32]) -> float:
    projected = book.project(vectors)
    residuals = projected - book.centroids[book.clustering.assign(projected, token_ids, threads=1)]
    return float((residuals**2).sum() / (projected**2).sum())


class TestWhatIsThereStays:
    @BOTH
    @settings(deadline=None, max_examples=15)
    @given(
        length=st.sampled_from([1e-3, 0.1, 1.0, 1.5, 40.0]),
        built_length=st.sampled_from([1e-3, 1.0, 30.0]),
        n_centroids=st.integers(31, 200),
    )
    def test_old_records_decode_to_the_same_bits(
        self, ids: bool, length: float, built_length: float, n_centroids: int
    ) -> None:
        old = codebook(ids=ids, length=built_length)
        records = coded(old, *words(300, KNOWN, seed=6, length=built_length))
        new = grown(old, n_centroids, length=length)
        assert len(new.centroids) > len(old.centroids)
        before, after = searching(old).codes, searching(new).codes
        assert decode_records(records, after).tobytes() == decode_records(records, before).tobytes()
        query, offsets = words(3, seed=7)[0], np.array([0, 100, 300])
        scores = [kernels.score_records(query, records, offsets, table).tobytes() for table in (before, after)]
        assert scores[0] == scores[1]

    @BOTH
    def test_centroids_groups_spreads_and_all_else_come_first(self, ids: bool) -> None:
        old = codebook(ids=ids)
        new = grown(old)
        count, groups = len(old.centroids), len(old.clustering.group_offsets) - 1
        assert new.centroids[:count].tobytes() == old.centroids.tobytes()
        assert new.clustering.spreads[:count].tobytes() == old.clustering.spreads.tobytes()
        assert new.clustering.group_offsets[: groups + 1].tolist() == old.clustering.group_offsets.tolist()
        assert (new.projection, new.codec, new.unit) == (old.projection, old.codec, old.unit)
        assert new.residual_energy == old.residual_energy
        assert new.layout.record_bytes == old.layout.record_bytes

    def test_words_that_got_nothing_new_are_assigned_as_before(self) -> None:
        old = codebook()
        vectors, token_ids = words(1000, LATER, seed=5)
        new = old.expanded(old.project(vectors), token_ids, n_centroids=60, seed=0, threads=1)
        projected, known = old.project(words(500, KNOWN, seed=6)[0]), words(500, KNOWN, seed=6)[1]
        before, after = (book.clustering.assign(projected, known, threads=1) for book in (old, new))
        assert np.array_equal(before, after)

    @BOTH
    def test_no_vector_lies_farther_from_its_centroid_than_before(self, ids: bool) -> None:
        old = codebook(ids=ids)
        new = grown(old)
        vectors, token_ids = words(500, KNOWN, seed=6)
        distances = []
        for book in (old, new):
            projected = book.project(vectors)
            assigned = book.clustering.assign(projected, token_ids, threads=1)
            distances.append(np.linalg.norm(projected - book.centroids[assigned], axis=1))
        assert (distances[1] <= distances[0] + 1e-6).mean() > (0.99 if not ids else 0.9999)


class TestWhatIsNew:
    def test_each_new_word_gets_centroids_of_its_own(self) -> None:
        old, new = codebook(), grown(codebook())
        assert old.clustering.group_ids is not None
        assert new.clustering.group_ids is not None
        assert set(LATER).isdisjoint(old.clustering.group_ids.tolist())
        assert set(LATER) <= set(new.clustering.group_ids.tolist())
        vectors, token_ids = words(300, LATER, seed=6)
        assert (new.clustering.assign(new.project(vectors), token_ids, threads=1) >= len(old.centroids)).all()

    @BOTH
    def test_the_residuals_of_new_words_become_those_of_a_build(self, ids: bool) -> None:
        old = codebook(ids=ids)
        later = words(500, LATER, seed=6)
        assert energy(old, *later) > 3 * old.residual_energy
        assert energy(grown(old, 90), *later) < 1.2 * old.residual_energy

    def test_a_known_word_with_a_new_sense_chooses_among_all_its_groups(self) -> None:
        old = codebook()
        vectors, token_ids = words(1000, LATER, seed=5)
        token_ids -= LATER.start - KNOWN.start  # the build's words, in other places
        new = old.expanded(old.project(vectors), token_ids, n_centroids=60, seed=0, threads=1)
        clustering = new.clustering
        assert clustering.group_ids is not None
        owners = clustering.group_ids.repeat(np.diff(clustering.group_offsets))
        projected = new.project(np.concatenate([vectors[:200], words(200, KNOWN, seed=6)[0]]))
        asked = np.concatenate([token_ids[:200], words(200, KNOWN, seed=6)[1]])
        assigned = clustering.assign(projected, asked, threads=2)
        for word in np.unique(asked):
            numbers = np.flatnonzero(owners == word)
            expected = numbers[exact_nearest(projected[asked == word], clustering.centroids[numbers])]
            assert np.array_equal(assigned[asked == word], expected)
        assert {int(number) < len(old.centroids) for number in assigned} == {True, False}

    @BOTH
    def test_spreads_are_the_root_mean_square_distances_of_all_that_come(self, ids: bool) -> None:
        old = codebook(ids=ids)
        new = grown(old)
        vectors, token_ids = words(2000, seed=5)  # what `grown` learned from
        projected = new.project(vectors)
        assigned = new.clustering.assign(projected, token_ids, threads=1)
        squared = ((projected - new.centroids[assigned]) ** 2).sum(axis=1)
        for number in np.unique(assigned[assigned >= len(old.centroids)]):
            expected = np.sqrt(squared[assigned == number].mean())
            assert new.clustering.spreads[number] == pytest.approx(expected, abs=1e-3)

    @BOTH
    def test_same_seed_same_bits_on_any_number_of_threads(self, ids: bool) -> None:
        old = codebook(ids=ids)
        first, again = grown(old, seed=3), grown(old, seed=3, threads=4)
        other = grown(old, seed=4)
        assert first.centroids.tobytes() == again.centroids.tobytes() != other.centroids.tobytes()
        assert first.clustering.spreads.tobytes() == again.clustering.spreads.tobytes()

    @BOTH
    def test_new_records_come_back_after_storing(self, ids: bool) -> None:
        new = grown(grown(codebook(ids=ids), 50), 90)
        again = Codebook.from_arrays(*new.to_arrays())
        vectors, token_ids = words(400, ALL, seed=8)
        assert coded(again, vectors, token_ids).tobytes() == coded(new, vectors, token_ids).tobytes()
        decoded = decode_records(coded(new, vectors, token_ids), searching(again).codes)
        assert np.square(decoded - new.project(vectors)).sum(axis=1).mean() < new.residual_energy


class TestHowMany:
    @BOTH
    @pytest.mark.parametrize("n_centroids", [31, 40, 300])
    def test_at_most_as_many_as_asked_in_all(self, ids: bool, n_centroids: int) -> None:
        old = codebook(ids=ids)
        assert len(old.centroids) < len(grown(old, n_centroids).centroids) <= n_centroids

    @BOTH
    def test_none_where_there_are_as_many_already(self, ids: bool) -> None:
        old = codebook(ids=ids)
        assert grown(old, len(old.centroids)) is old
        assert grown(old, 1) is old

    @BOTH
    def test_none_where_nothing_lies_far(self, ids: bool) -> None:
        old = codebook(ids=ids)
        token_ids = np.zeros(len(old.centroids), np.int32)
        if (group_ids := old.clustering.group_ids) is not None:
            token_ids = group_ids.repeat(np.diff(old.clustering.group_offsets))
        assert old.expanded(old.centroids, token_ids, n_centroids=60, seed=0, threads=1) is old

    def test_none_for_vectors_without_ids_where_the_build_had_them(self) -> None:
        old = codebook()
        projected = old.project(words(500, LATER, seed=5)[0])
        assert old.expanded(projected, None, n_centroids=60, seed=0, threads=1) is old

    def test_never_more_than_ids_of_two_bytes_can_name(self) -> None:
        layout = RecordLayout(dim=DIM, bits=2, n_centroids=30)
        assert (layout.centroid_bytes, layout.most_centroids) == (2, 65_536)
        assert RecordLayout(dim=DIM, bits=2, n_centroids=65_537).most_centroids == 2**32

    def test_a_full_codebook_stays(self) -> None:
        old = codebook()
        count = 65_536 - len(old.centroids)
        rng = np.random.default_rng(0)
        full = Clustering(
            np.concatenate([old.centroids, rng.standard_normal((count, DIM)).astype(np.float16).astype(np.float32)]),
            np.zeros(65_536, np.float32),
            np.append(old.clustering.group_offsets, np.int32(65_536)),
            np.append(old.clustering.group_ids, np.int32(10**6)) if old.clustering.group_ids is not None else None,
            None,
        )
        book = Codebook(
            old.projection,
            full,
            old.codec,
            RecordLayout(dim=DIM, bits=2, n_centroids=65_536),
            old.unit,
            old.residual_energy,
        )
        assert grown(book, 100_000) is book
