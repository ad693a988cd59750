"""Ward clustering of a document's tokens: against the definition computed step by step, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels import reference
from tests.kernels.bodies import Body, each_body, each_native


def _unit_vectors(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _partition(labels: NDArray[np.int32]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def _ward_by_definition(vectors: NDArray[np.float32], n_clusters: int) -> set[frozenset[int]]:
    """Merge the nearest two clusters, then renew distances by the Lance-Williams formula, in float64."""
    squared = np.clip(1 - vectors @ vectors.T, 0, 2).astype(np.float64) ** 2
    members = {i: frozenset([i]) for i in range(len(vectors))}
    distance = {(i, j): squared[i, j] for i in members for j in members if i < j}
    while len(members) > n_clusters:
        a, b = min(distance, key=lambda pair: distance[pair])
        between, na, nb = distance[a, b], len(members[a]), len(members[b])
        for c in set(members) - {a, b}:
            to_a, to_b, nc = distance[min(a, c), max(a, c)], distance[min(b, c), max(b, c)], len(members[c])
            renewed = ((na + nc) * to_a + (nb + nc) * to_b - nc * between) / (na + nb + nc)
            distance[min(a, c), max(a, c)] = renewed
        members[a] |= members.pop(b)
        distance = {pair: value for pair, value in distance.items() if b not in pair}
    return set(members.values())


@each_body
@pytest.mark.parametrize("n_clusters", [1, 2, 5, 9, 17, 29, 30])
@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_the_definition(body: Body, n_clusters: int, seed: int) -> None:
    vectors = _unit_vectors(30, 8, seed)
    assert _partition(body.ward_labels(vectors, n_clusters)) == _ward_by_definition(vectors, n_clusters)


@each_body
def test_near_vectors_go_together(body: Body) -> None:
    axes = np.eye(8, dtype=np.float32)[[3, 5, 3, 0, 5, 3]]
    noisy = axes + 0.01 * _unit_vectors(6, 8, 0)
    labels = body.ward_labels(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), 3)
    assert labels.tolist() == [0, 1, 0, 2, 1, 0]


@each_body
@given(n=st.integers(1, 40), n_clusters=st.integers(1, 45), seed=st.integers(0, 1000))
def test_labels_are_dense_and_numbered_by_first_member(body: Body, n: int, n_clusters: int, seed: int) -> None:
    labels = body.ward_labels(_unit_vectors(n, 8, seed), n_clusters)
    assert labels.dtype == np.int32
    assert labels.shape == (n,)
    _, first = np.unique(labels, return_index=True)
    assert len(first) == min(n, n_clusters)  # random vectors have no ties
    assert (np.diff(first) > 0).all()
    assert labels.max() == len(first) - 1


@each_body
def test_equal_vectors_share_a_cluster_even_where_more_are_wanted(body: Body) -> None:
    vectors = np.repeat(np.eye(2, 8, dtype=np.float32), 4, axis=0)  # of length 1 exactly: all distances are 0 or 1
    assert body.ward_labels(vectors, 5).tolist() in ([0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0])


@each_body
def test_at_least_as_many_clusters_as_vectors_leaves_each_alone(body: Body) -> None:
    vectors = np.repeat(_unit_vectors(1, 8, 0), 3, axis=0)  # even equal ones: nothing is asked to merge
    assert body.ward_labels(vectors, 3).tolist() == [0, 1, 2]
    assert body.ward_labels(vectors[:1], 5).tolist() == [0]
    assert body.ward_labels(vectors[:0], 1).shape == (0,)


@each_body
def test_same_input_same_labels_and_input_untouched(body: Body) -> None:
    vectors = _unit_vectors(60, 16, 1)
    before = vectors.copy()
    assert np.array_equal(body.ward_labels(vectors, 20), body.ward_labels(vectors, 20))
    assert np.array_equal(vectors, before)


@each_native
@given(
    n=st.sampled_from([2, 3, 15, 16, 17, 31, 48, 64, 65, 80, 127, 128, 129, 130, 270]),
    dim=st.sampled_from([4, 8, 33, 128, 384]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_scipys(body: Body, n: int, dim: int, share: float, seed: int) -> None:
    vectors, n_clusters = _unit_vectors(n, dim, seed), 1 + round(share * (n - 1))
    labels = body.ward_labels(vectors, n_clusters)
    assert np.array_equal(labels, reference.ward_labels(vectors, n_clusters))  # random vectors: no two distances tie


@each_body
@given(copies=st.lists(st.integers(1, 6), min_size=2, max_size=8), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_equal_vectors_are_never_parted_for_the_sake_of_different_ones(
    body: Body, copies: list[int], share: float
) -> None:
    vectors = np.repeat(np.eye(8, dtype=np.float32)[: len(copies)], copies, axis=0)
    wanted = 1 + round(share * (len(copies) - 1))
    labels = body.ward_labels(vectors, wanted)
    if wanted < len(vectors):
        assert len(np.unique(labels)) <= wanted
        assert all(len(set(labels[vectors[:, axis] == 1].tolist())) == 1 for axis in range(len(copies)))


@each_native
def test_documents_of_any_length_one_after_the_other(body: Body) -> None:
    """A long one has memory of its own; what one left behind is nothing to the next."""
    for n in (900, 40, 300, 2):
        vectors = _unit_vectors(n, 16, n)
        assert np.array_equal(body.ward_labels(vectors, n // 2), reference.ward_labels(vectors, n // 2))


@each_native
def test_a_document_as_long_as_is_clustered_at_once(body: Body) -> None:
    vectors = _unit_vectors(700, 16, 0)
    assert np.array_equal(body.ward_labels(vectors, 350), reference.ward_labels(vectors, 350))
