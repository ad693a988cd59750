"""Clustering: how many centroids, where they lie, and which one a vector gets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.clustering import Clustering, centroid_count, cluster
from tests.oracles import exact_nearest

WORDS = 20
Learn = Callable[..., Clustering]


def sample(n: int = 3000, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vectors of 20 words, frequent and rare, each word with a few senses around a place of its own."""
    rng = np.random.default_rng(seed)
    token_ids = (rng.zipf(1.5, n) % WORDS * 7).astype(np.int32)
    places = np.random.default_rng(1).standard_normal((WORDS * 7, 3, 16))
    vectors = places[token_ids, rng.integers(0, 3, n)] + 0.1 * rng.standard_normal((n, 16))
    return vectors.astype(np.float32), token_ids


def token_aware(n_centroids: int = 80, *, seed: int = 0, threads: int = 1) -> Clustering:
    return cluster(*sample(), n_centroids, seed=seed, threads=threads)


def by_position(n_centroids: int = 80, *, seed: int = 0, threads: int = 1) -> Clustering:
    return cluster(sample()[0], None, n_centroids, seed=seed, threads=threads)


class TestCount:
    @pytest.mark.parametrize(
        ("tokens", "expected"),
        [(0, 1), (1, 1), (64, 64), (10_000, 800), (1_242_137, 20_702), (10_000_000, 65_536), (10**9, 252_976)],
    )
    def test_known_sizes(self, tokens: int, expected: int) -> None:
        assert centroid_count(tokens) == expected

    @given(st.integers(0, 10**10), st.integers(0, 10**6))
    def test_never_falls_and_never_exceeds_the_tokens(self, tokens: int, more: int) -> None:
        assert 1 <= centroid_count(tokens) <= max(tokens, 1)
        assert centroid_count(tokens) <= centroid_count(tokens + more)

    @given(st.integers(0, 67_000_000))
    def test_ids_fit_two_bytes_below_67_million(self, tokens: int) -> None:
        assert centroid_count(tokens) <= 65_536


class TestTraining:
    @pytest.mark.parametrize("learn", [token_aware, by_position])
    @pytest.mark.parametrize("n_centroids", [1, 2, 7, 80, 400])
    def test_at_most_as_many_as_asked_finite_and_stored_exactly(self, learn: Learn, n_centroids: int) -> None:
        centroids = learn(n_centroids).centroids
        assert n_centroids * 0.7 <= len(centroids) <= n_centroids
        assert np.isfinite(centroids).all()
        assert np.array_equal(centroids.astype(np.float16).astype(np.float32), centroids)

    @pytest.mark.parametrize("learn", [token_aware, by_position])
    def test_same_seed_same_bits_on_any_number_of_threads(self, learn: Learn) -> None:
        first, again, other = learn(seed=3), learn(seed=3, threads=4), learn(seed=4)
        assert first.centroids.tobytes() == again.centroids.tobytes()
        assert first.centroids.tobytes() != other.centroids.tobytes()

    @pytest.mark.parametrize("learn", [token_aware, by_position])
    def test_vectors_lie_near_their_centroid(self, learn: Learn) -> None:
        vectors, token_ids = sample()
        clustering = learn(120)
        residuals = vectors - clustering.centroids[clustering.assign(vectors, token_ids, threads=1)]
        assert (residuals**2).sum() < 0.1 * (vectors**2).sum()

    def test_spreads_are_the_root_mean_square_distances(self) -> None:
        vectors, token_ids = sample()
        clustering = token_aware(60)  # words of at most 128 vectors a centroid: all of them trained
        assigned = clustering.assign(vectors, token_ids, threads=1)
        sums = np.bincount(assigned, ((vectors - clustering.centroids[assigned]) ** 2).sum(axis=1))
        np.testing.assert_allclose(clustering.spreads, np.sqrt(sums / np.bincount(assigned)), atol=0.02)

    @pytest.mark.parametrize("learn", [token_aware, by_position])
    def test_a_vector_of_its_own_has_no_spread(self, learn: Learn) -> None:
        spreads = learn(10**4).spreads
        assert (spreads >= 0).all()
        assert (spreads < 0.02).all()  # what float16 rounds away

    def test_each_word_has_centroids_and_frequent_ones_more(self) -> None:
        _, token_ids = sample()
        clustering = token_aware()
        assert clustering.group_ids is not None
        words, counts = np.unique(token_ids, return_counts=True)
        shares = np.diff(clustering.group_offsets)
        assert clustering.group_ids.tolist() == words.tolist()
        assert shares.min() >= 1
        assert shares[counts.argmax()] == shares.max()
        assert (shares <= counts).all()

    def test_with_fewer_centroids_than_words_the_frequent_words_get_them(self) -> None:
        _, token_ids = sample()
        words, counts = np.unique(token_ids, return_counts=True)
        group_ids = token_aware(5).group_ids
        assert group_ids is not None
        assert set(group_ids.tolist()) == set(words[np.argsort(-counts, kind="stable")[:5]].tolist())

    @pytest.mark.parametrize("token_ids", [None, np.zeros(100, np.int32)])
    def test_vectors_that_are_all_the_same_leave_one_centroid(self, token_ids: NDArray[np.int32] | None) -> None:
        vectors = np.ones((100, 8), np.float32)
        clustering = cluster(vectors, token_ids, 10, seed=0, threads=1)
        assert clustering.centroids.tolist() == [[1.0] * 8]
        assert not clustering.assign(vectors, token_ids, threads=1).any()

    @pytest.mark.parametrize("token_ids", [None, np.zeros(1, np.int32)])
    def test_one_vector_is_enough(self, token_ids: NDArray[np.int32] | None) -> None:
        clustering = cluster(np.ones((1, 8), np.float32), token_ids, 1, seed=0, threads=1)
        assert clustering.centroids.tolist() == [[1.0] * 8]

    def test_values_beyond_float16_stay_finite(self) -> None:
        clustering = cluster(np.full((4, 8), 1e6, np.float32), np.zeros(4, np.int32), 2, seed=0, threads=1)
        assert np.isfinite(clustering.centroids).all()


class TestAssignment:
    def test_is_the_nearest_inside_the_words_own_group(self) -> None:
        vectors, token_ids = sample(500, seed=5)
        clustering = token_aware()
        assigned = clustering.assign(vectors, token_ids, threads=2)
        assert clustering.group_ids is not None
        for group, word in enumerate(clustering.group_ids):
            start, end = clustering.group_offsets[group : group + 2]
            members = token_ids == word
            expected = start + exact_nearest(vectors[members], clustering.centroids[start:end])
            assert np.array_equal(assigned[members], expected)
        assert assigned.dtype == np.uint32

    def test_an_unknown_word_gets_the_nearest_of_all(self) -> None:
        vectors, _ = sample(200, seed=5)
        clustering = token_aware()
        expected = exact_nearest(vectors, clustering.centroids)
        for token_ids in (np.full(200, 10**6, np.int32), np.full(200, -1, np.int32), None):
            assert np.array_equal(clustering.assign(vectors, token_ids, threads=1), expected)

    def test_by_position_finds_nearly_always_the_nearest_of_all(self) -> None:
        vectors, _ = sample(500, seed=5)
        clustering = by_position()
        assigned = clustering.assign(vectors, None, threads=1)
        assert (assigned == exact_nearest(vectors, clustering.centroids)).mean() > 0.98

    @pytest.mark.parametrize("learn", [token_aware, by_position])
    @settings(deadline=None, max_examples=15)
    @given(data=st.data())
    def test_does_not_know_its_batch_or_the_threads(self, learn: Learn, data: st.DataObject) -> None:
        vectors, token_ids = sample(300, seed=6)
        clustering = learn()
        chosen = np.array(data.draw(st.lists(st.integers(0, 299), max_size=30)), np.int64)
        together = clustering.assign(vectors, token_ids, threads=1)
        apart = clustering.assign(vectors[chosen], token_ids[chosen], threads=data.draw(st.integers(1, 3)))
        assert np.array_equal(apart, together[chosen])

    @pytest.mark.parametrize("learn", [token_aware, by_position])
    def test_float16_vectors_and_none_at_all(self, learn: Learn) -> None:
        vectors, token_ids = sample(100)
        clustering = learn()
        half = vectors.astype(np.float16)
        expected = clustering.assign(half.astype(np.float32), token_ids, threads=1)
        assert np.array_equal(clustering.assign(half, token_ids, threads=1), expected)
        assert len(clustering.assign(vectors[:0], token_ids[:0], threads=1)) == 0


@pytest.mark.parametrize("learn", [token_aware, by_position])
def test_stored_arrays_bring_the_same_clustering_back(learn: Learn) -> None:
    vectors, token_ids = sample(300, seed=7)
    clustering = learn()
    again = Clustering.from_arrays(clustering.arrays())
    assert again.centroids.tobytes() == clustering.centroids.tobytes()
    assert again.spreads.tobytes() == clustering.spreads.tobytes()
    assert np.array_equal(again.assign(vectors, token_ids, threads=1), clustering.assign(vectors, token_ids, threads=1))
    assert clustering.arrays()["centroids"].dtype == np.float16


def test_importing_it_does_not_load_faiss() -> None:
    code = "import sys, colindex.clustering; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
