"""Postings and gathering, against a walk in plain Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.reference import gather, invert
from tests.oracles import exact_gather

Case = tuple[NDArray[np.uint32], NDArray[np.int64], int]


@st.composite
def coded_documents(draw: st.DrawFn) -> Case:
    """Centroids of the vectors of some documents (empty ones among them), offsets, and the number of centroids."""
    n_centroids = draw(st.integers(1, 12))
    documents = draw(st.lists(st.lists(st.integers(0, n_centroids - 1), max_size=6), max_size=10))
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return np.array([c for document in documents for c in document], np.uint32), offsets, n_centroids


def lists(case: Case) -> list[list[int]]:
    """The documents of each centroid, in plain Python."""
    centroids, offsets, n_centroids = case
    spans = [set(centroids[a:b].tolist()) for a, b in pairwise(offsets)]
    return [[document for document, held in enumerate(spans) if centroid in held] for centroid in range(n_centroids)]


@given(coded_documents())
def test_postings_hold_each_document_of_a_centroid_once_in_order(case: Case) -> None:
    postings, bounds = invert(*case)
    assert [postings[a:b].tolist() for a, b in pairwise(bounds)] == lists(case)


@pytest.mark.parametrize(("documents", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_postings_are_as_narrow_as_the_document_numbers(documents: int, dtype: type) -> None:
    offsets = np.arange(documents + 1, dtype=np.int64)
    postings, _ = invert(np.zeros(documents, np.uint32), offsets, 1)
    assert postings.dtype == dtype
    assert np.array_equal(postings, np.arange(documents))


def test_pairs_beyond_four_bytes_do_not_wrap() -> None:
    offsets = np.arange(2**16 + 1, dtype=np.int64)
    centroids = np.arange(2**16, dtype=np.uint32) * 7
    postings, bounds = invert(centroids, offsets, 2**19)
    assert np.array_equal(postings, np.arange(2**16))
    assert np.array_equal(np.repeat(np.arange(2**19), np.diff(bounds)), centroids)


@given(coded_documents(), st.data())
def test_gathered_scores_are_those_of_a_plain_walk(case: Case, data: st.DataObject) -> None:
    n_centroids = case[2]
    tokens, probes = data.draw(st.integers(1, 5)), data.draw(st.integers(1, n_centroids))
    orders = [data.draw(st.permutations(range(n_centroids)))[:probes] for _ in range(tokens)]
    # quarters add up exactly in float32; equal neighbours are likely
    drawn = [data.draw(st.lists(st.integers(-8, 8), min_size=probes, max_size=probes)) for _ in range(tokens)]
    ids = np.array(orders, np.int32)
    scores = np.sort(np.array(drawn, np.float32) / np.float32(4), axis=1)[:, ::-1]
    documents, gathered, walked = gather(ids, scores, *invert(*case), len(case[1]) - 1)
    expected, expected_walked = exact_gather(ids, scores, lists(case))
    assert dict(zip(documents.tolist(), gathered.tolist(), strict=True)) == pytest.approx(expected, abs=1e-20)
    assert documents.tolist() == sorted(expected)
    assert walked == expected_walked


def test_a_document_met_only_at_the_floor_is_returned() -> None:
    postings, bounds = invert(np.array([0, 1], np.uint32), np.array([0, 1, 2, 2]), 3)
    documents, scores, _ = gather(np.array([[0, 1]], np.int32), np.array([[2.0, 2.0]], np.float32), postings, bounds, 3)
    assert documents.tolist() == [0, 1]
    assert scores.tolist() == [2.0, 2.0]


def test_a_missed_token_credits_a_quarter_of_the_probed_range_below_the_last() -> None:
    postings, bounds = invert(np.array([0, 1], np.uint32), np.array([0, 1, 2]), 3)
    ids, scores = np.array([[0, 2], [1, 0]], np.int32), np.array([[2.0, 1.0], [3.0, -1.0]], np.float32)
    documents, gathered, _ = gather(ids, scores, postings, bounds, 2)
    assert dict(zip(documents.tolist(), gathered.tolist(), strict=True)) == {0: 2.0 - 1.0, 1: (1.0 - 0.25) + 3.0}


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_a_query_that_probes_nothing_meets_nothing(shape: tuple[int, int]) -> None:
    postings, bounds = invert(np.zeros(3, np.uint32), np.array([0, 3]), 4)
    documents, scores, walked = gather(np.zeros(shape, np.int32), np.zeros(shape, np.float32), postings, bounds, 1)
    assert (documents.tolist(), scores.tolist(), walked) == ([], [], 0)


def test_a_segment_without_documents_gathers_nothing() -> None:
    postings, bounds = invert(np.empty(0, np.uint32), np.zeros(1, np.int64), 4)
    documents, _, walked = gather(np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32), postings, bounds, 0)
    assert (documents.tolist(), walked) == ([], 0)
