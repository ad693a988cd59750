"""Probing and selection: falling score, ties by lower position, any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colindex.kernels.reference import best, top_centroids

# few different values, so that ties are the rule
scores_lists = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, float("-inf")]), max_size=40)


@given(scores_lists, st.integers(0, 50))
def test_best_is_a_full_stable_sort_cut_short(values: list[float], k: int) -> None:
    expected = sorted(range(len(values)), key=lambda position: (-values[position], position))[:k]
    assert best(np.array(values, np.float32), k).tolist() == expected


def test_best_of_nothing_is_nothing() -> None:
    assert best(np.empty(0, np.float32), 10).tolist() == []


def test_equal_centroids_come_in_order_of_id() -> None:
    ids, scores = top_centroids(np.ones((1, 8), np.float32), np.ones((5, 8), np.float32), 3)
    assert ids.tolist() == [[0, 1, 2]]
    assert scores.tolist() == [[8, 8, 8]]


@pytest.mark.parametrize("tokens", [0, 1, 31, 32, 33, 100])
def test_each_token_gets_the_centroids_of_a_full_sort(tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    # small whole numbers: float32 products are exact, so ids can be compared without tolerance
    query = rng.integers(-4, 5, (tokens, 16)).astype(np.float32)
    centroids = rng.integers(-4, 5, (200, 16)).astype(np.float32)
    ids, scores = top_centroids(query, centroids, 7)
    similarities = query @ centroids.T
    assert np.array_equal(ids, np.argsort(-similarities, axis=1, kind="stable")[:, :7])
    assert np.array_equal(scores, np.take_along_axis(similarities, ids.astype(np.int64), axis=1))
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32


def test_more_probes_than_centroids_probe_them_all() -> None:
    ids, scores = top_centroids(np.eye(2, 8, dtype=np.float32), np.eye(3, 8, dtype=np.float32), 99)
    assert ids.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert scores.shape == (2, 3)


def test_spread_lifts_a_centroid_by_the_length_of_the_token() -> None:
    query = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    ids, scores = top_centroids(query, np.zeros((3, 2), np.float32), 3, np.array([0.0, 2.0, 1.0], np.float32))
    assert ids.tolist() == [[1, 2, 0], [0, 1, 2]]
    np.testing.assert_allclose(scores, [[3.0, 1.5, 0.0], [0.0, 0.0, 0.0]], rtol=1e-6)


def test_zero_spreads_change_nothing() -> None:
    rng = np.random.default_rng(0)
    query, centroids = rng.standard_normal((5, 16), np.float32), rng.standard_normal((50, 16), np.float32)
    plain, zeros = (top_centroids(query, centroids, 9, spreads) for spreads in (None, np.zeros(50, np.float32)))
    assert np.array_equal(plain[0], zeros[0])
    assert np.array_equal(plain[1], zeros[1])
