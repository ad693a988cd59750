"""Postings and gathering, against a walk in plain Python."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.reference import invert
from tests.kernels.bodies import BODIES, Body, each_body, each_native
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


def ranked(scores: dict[int, float], limit: int) -> list[int]:
    """Documents in falling score, ties by lower number."""
    return sorted(scores, key=lambda document: (-scores[document], document))[:limit]


def probed(rows: list[list[int]], scores: list[list[float]]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return np.array(rows, np.int32), np.array(scores, np.float32)


@each_body
@given(case=coded_documents(), posting=st.sampled_from([np.uint16, np.uint32]), data=st.data())
def test_gathered_scores_are_those_of_a_plain_walk(body: Body, case: Case, posting: type, data: st.DataObject) -> None:
    n_centroids = case[2]
    tokens, probes = data.draw(st.integers(1, 5)), data.draw(st.integers(1, n_centroids))
    limit = data.draw(st.sampled_from([1, 3, 1000]))
    orders = [data.draw(st.permutations(range(n_centroids)))[:probes] for _ in range(tokens)]
    # quarters add up exactly in float32; equal neighbours are likely
    drawn = [data.draw(st.lists(st.integers(-8, 8), min_size=probes, max_size=probes)) for _ in range(tokens)]
    ids = np.array(orders, np.int32)
    scores = np.sort(np.array(drawn, np.float32) / np.float32(4), axis=1)[:, ::-1]
    postings, bounds = invert(*case)
    found = body.gather(ids, scores, postings.astype(posting), bounds, len(case[1]) - 1, limit)
    expected, expected_walked = exact_gather(ids, scores, lists(case))
    documents, gathered, met, walked = found
    assert (documents.dtype, gathered.dtype) == (np.int32, np.float32)
    of_best = [expected[document] for document in ranked(expected, limit)]
    assert len(set(documents.tolist())) == len(documents)
    assert [expected[document] for document in documents.tolist()] == pytest.approx(of_best, abs=1e-20)
    assert gathered.tolist() == pytest.approx([expected[document] for document in documents.tolist()], abs=1e-20)
    assert (met, walked) == (len(expected), expected_walked)


def random_case(documents: int, tokens: int, vectors_each: int = 20) -> tuple[Any, ...]:
    """A segment of some size, and a query that probes it: ids, scores, postings, offsets, documents."""
    rng = np.random.default_rng(documents)
    centroids = rng.integers(0, 300, vectors_each * documents).astype(np.uint32)
    postings, bounds = invert(centroids, np.arange(documents + 1) * vectors_each, 300)
    ids = np.array([rng.permutation(300)[:16] for _ in range(tokens)], np.int32).reshape(tokens, 16)
    scores = np.sort(rng.standard_normal((tokens, 16)).astype(np.float32), axis=1)[:, ::-1]
    return ids, np.ascontiguousarray(scores), postings, bounds, documents


@each_native
@pytest.mark.parametrize("tokens", [1, 32, 100])
@pytest.mark.parametrize("limit", [1, 10, 512, 25_000])
@pytest.mark.parametrize(("documents", "vectors_each"), [(3001, 20), (20_000, 1), (140_001, 1)])
def test_the_native_body_ranks_a_segment_as_the_reference_does(
    body: Body, tokens: int, limit: int, documents: int, vectors_each: int
) -> None:
    """Where a token meets nearly all documents, where it meets one in twenty, and where two bytes cannot number them."""
    arguments = (*random_case(documents, tokens, vectors_each), limit)
    (found, scores, *counts), (others, other_scores, *other_counts) = (
        of.gather(*arguments) for of in (body, BODIES[0])
    )
    assert np.array_equal(found, others)  # both add up what lies above the floors in float32, token by token
    np.testing.assert_allclose(scores, other_scores, atol=1e-4)  # the floors' sum is rounded in another place
    assert counts == other_counts


@each_body
@pytest.mark.parametrize("places", [np.uint32, np.int64])
@pytest.mark.parametrize("posting", [np.uint16, np.uint32])
def test_postings_of_either_width_give_the_same_answers(body: Body, posting: type, places: type) -> None:
    ids, scores, postings, bounds, documents = random_case(200, 5)
    expected = body.gather(ids, scores, postings, bounds, documents, 50)
    found = body.gather(ids, scores, postings.astype(posting), bounds.astype(places), documents, 50)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert found[2:] == expected[2:]


@each_body
def test_a_limit_keeps_the_best_and_counts_them_all(body: Body) -> None:
    arguments = random_case(500, 8)
    everything = body.gather(*arguments, 500)
    some = body.gather(*arguments, 20)
    assert np.array_equal(some[0], everything[0][:20])
    assert np.array_equal(some[1], everything[1][:20])
    assert some[2:] == everything[2:]


@each_body
def test_of_equal_documents_the_first_are_kept_however_many_there_are(body: Body) -> None:
    documents, last = 20_000, 19_999
    centroids = np.zeros(documents + 1, np.uint32)
    centroids[-1] = 1  # the last document has this one too
    postings, bounds = invert(centroids, np.append(np.arange(documents), documents + 1), 2)
    found, scores, met, _ = body.gather(*probed([[1, 0]], [[2.0, 1.0]]), postings, bounds, documents, 12)
    assert found.tolist() == [last, *range(11)]
    assert scores.tolist() == [2.0] + [1.0] * 11
    assert met == documents


@each_body
def test_a_limit_may_be_far_beyond_the_documents(body: Body) -> None:
    arguments = random_case(50, 8)
    assert np.array_equal(body.gather(*arguments, 2**40)[0], body.gather(*arguments, 50)[0])


@each_body
def test_a_document_met_only_at_the_floor_is_returned(body: Body) -> None:
    postings, bounds = invert(np.array([0, 1], np.uint32), np.array([0, 1, 2, 2]), 3)
    documents, scores, met, _ = body.gather(*probed([[0, 1]], [[2.0, 2.0]]), postings, bounds, 3, 9)
    assert documents.tolist() == [0, 1]
    assert scores.tolist() == [2.0, 2.0]
    assert met == 2


@each_body
def test_a_missed_token_credits_a_quarter_of_the_probed_range_below_the_last(body: Body) -> None:
    postings, bounds = invert(np.array([0, 1], np.uint32), np.array([0, 1, 2]), 3)
    ids, scores = probed([[0, 2], [1, 0]], [[2.0, 1.0], [3.0, -1.0]])
    documents, gathered, *_ = body.gather(ids, scores, postings, bounds, 2, 9)
    assert dict(zip(documents.tolist(), gathered.tolist(), strict=True)) == {0: 2.0 - 1.0, 1: (1.0 - 0.25) + 3.0}


@each_body
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_a_query_that_probes_nothing_meets_nothing(body: Body, shape: tuple[int, int]) -> None:
    postings, bounds = invert(np.zeros(3, np.uint32), np.array([0, 3]), 4)
    found = body.gather(np.zeros(shape, np.int32), np.zeros(shape, np.float32), postings, bounds, 1, 9)
    assert (found[0].tolist(), found[1].tolist(), found[2], found[3]) == ([], [], 0, 0)


@each_body
def test_a_segment_without_documents_gathers_nothing(body: Body) -> None:
    postings, bounds = invert(np.empty(0, np.uint32), np.zeros(1, np.int64), 4)
    documents, _, met, walked = body.gather(*probed([[0], [0]], [[1.0], [1.0]]), postings, bounds, 0, 9)
    assert (documents.tolist(), met, walked) == ([], 0, 0)


@each_body
@pytest.mark.parametrize("beyond", [4, 5, 2**31 - 1])
def test_a_centroid_beyond_the_postings_has_none(body: Body, beyond: int) -> None:
    """A codebook that has grown since the segment was written."""
    postings, bounds = invert(np.array([0, 3], np.uint32), np.array([0, 1, 2]), 4)
    found = body.gather(*probed([[0, beyond], [beyond, 3]], [[1.0, 0.0], [3.0, 2.0]]), postings, bounds, 2, 9)
    assert dict(zip(found[0].tolist(), found[1].tolist(), strict=True)) == {0: 1.0 + 1.75, 1: -0.25 + 2.0}
    assert found[2:] == (2, 2)


@each_body
@pytest.mark.parametrize("wrong", [-1, -4, -(2**31)])
def test_centroids_are_not_counted_from_the_end(body: Body, wrong: int) -> None:
    postings, bounds = invert(np.zeros(3, np.uint32), np.array([0, 3]), 4)
    with pytest.raises(IndexError):
        body.gather(*probed([[0, wrong]], [[1.0, 0.0]]), postings, bounds, 1, 9)


def packed(allowed: Any) -> NDArray[np.uint8]:
    return np.packbits(np.asarray(allowed, bool), bitorder="little")


def among(everything: tuple[Any, ...], allowed: Any, limit: int) -> tuple[list[int], list[float], int, int]:
    """What is left of all documents met where only some are allowed."""
    documents, scores, _, walked = everything
    kept = np.asarray(allowed, bool)[documents]
    return documents[kept][:limit].tolist(), scores[kept][:limit].tolist(), int(kept.sum()), walked


@each_body
@given(
    documents=st.integers(0, 40),
    limit=st.sampled_from([1, 3, 50]),
    ratio=st.sampled_from([0, 0.3, 0.9, 1]),
    data=st.data(),
)
def test_only_allowed_documents_are_met(
    body: Body, documents: int, limit: int, ratio: float, data: st.DataObject
) -> None:
    allowed = np.random.default_rng(data.draw(st.integers(0, 99))).random(documents) < ratio
    arguments = random_case(documents, 4, vectors_each=3)
    found = body.gather(*arguments, limit, allowed=packed(allowed))
    expected = among(body.gather(*arguments, 50), allowed, limit)
    assert (found[0].tolist(), found[1].tolist(), *found[2:]) == expected


@each_native
@pytest.mark.parametrize("posting", [np.uint16, np.uint32])
@pytest.mark.parametrize("documents", [1, 15, 16, 17, 3001, 3007, 3008, 65_536, 65_537, 140_001])
@pytest.mark.parametrize("each", [2, 3, 8, 500])
def test_the_native_body_leaves_out_what_the_reference_does(
    body: Body, posting: type, documents: int, each: int
) -> None:
    """One document in so many is not allowed; numbers of documents that fill their last byte and that do not."""
    ids, scores, postings, bounds, _ = random_case(documents, 20)
    arguments = (ids, scores, postings.astype(posting), bounds, documents, 100)
    allowed = np.arange(documents) % each != 0
    found, others = (of.gather(*arguments, allowed=packed(allowed)) for of in (body, BODIES[0]))
    assert np.array_equal(found[0], others[0])
    assert allowed[found[0]].all()
    np.testing.assert_allclose(found[1], others[1], atol=1e-4)
    assert found[2:] == others[2:]


@each_body
@pytest.mark.parametrize("documents", [1, 7, 8, 9, 100])
def test_bits_past_the_last_document_are_not_looked_at(body: Body, documents: int) -> None:
    arguments = (*random_case(documents, 3), 200)
    everything = np.full(-(-documents // 8), 0xFF, np.uint8)
    found, unasked = body.gather(*arguments, allowed=everything), body.gather(*arguments)
    assert np.array_equal(found[0], unasked[0])
    assert found[2:] == unasked[2:]
    nothing = packed(np.arange(8 * len(everything)) >= documents)
    assert body.gather(*arguments, allowed=nothing)[0].tolist() == []


@each_body
def test_one_allowed_document_is_found_behind_many(body: Body) -> None:
    arguments = random_case(3001, 8)
    worst = int(body.gather(*arguments, 3001)[0][-1])
    documents, _, met, _ = body.gather(*arguments, 1, allowed=packed(np.arange(3001) == worst))
    assert (documents.tolist(), met) == ([worst], 1)


@each_native
def test_a_forbidden_document_of_infinite_score_is_left_out(body: Body) -> None:
    postings, bounds = invert(np.array([0, 1], np.uint32), np.array([0, 1, 2]), 2)
    given_scores = probed([[0, 1]], [[np.inf, 2.0]])
    found = body.gather(*given_scores, postings, bounds, 2, 9, allowed=packed([False, True]))
    assert found[0].tolist() == [1]


@each_body
@pytest.mark.parametrize("shape", [(0,), (6,), (8,), (7, 1)])
def test_bits_for_another_number_of_documents_are_refused(body: Body, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="documents"):
        body.gather(*random_case(50, 3), 10, allowed=np.zeros(shape, np.uint8))


@each_native
def test_a_list_out_of_order_names_the_same_documents(body: Body) -> None:
    documents = 140_001
    falling = np.arange(documents, dtype=np.uint32)[::-1].copy()
    found, _, met, walked = body.gather(*probed([[0]], [[1.0]]), falling, np.array([0, documents]), documents, 5)
    assert (found.tolist(), met, walked) == ([0, 1, 2, 3, 4], documents, documents)


@each_body
@pytest.mark.parametrize("posting", [np.uint16, np.uint32])
@pytest.mark.parametrize(("probe", "documents"), [(0, 2), (1, 3), (1, 700)])
def test_a_posting_of_no_document_is_an_error_or_nothing(body: Body, posting: type, probe: int, documents: int) -> None:
    """An index from a stranger may hold anything, with the right checksums."""
    postings: NDArray[Any] = np.array([0, 1, 2, 700], posting)
    try:
        found = body.gather(*probed([[probe]], [[1.0]]), postings, np.array([0, 3, 4]), documents, 9)[0]
    except IndexError:
        return
    assert posting is np.uint16, "rows for all that two bytes can name are few; for four bytes they are not"
    assert found.tolist() == list(range(documents))[: 3 * (probe == 0)]


@each_native
@pytest.mark.parametrize("bounds", [[0, 3, 5], [0, 4, 3], [-1, 3, 4], [0, -4, 4], [2**62, 3, 4]])
def test_postings_that_lie_outside_are_an_error(body: Body, bounds: list[int]) -> None:
    with pytest.raises(IndexError):
        body.gather(*probed([[0, 1]], [[1.0, 1.0]]), np.zeros(4, np.uint16), np.array(bounds), 1, 9)


@each_native
def test_scores_beyond_float32_do_no_harm(body: Body) -> None:
    arguments = random_case(100, 3)
    arguments[1][:, 0], arguments[1][1, 1:] = np.inf, -np.inf
    documents, _, met, _ = body.gather(*arguments, 100)
    assert sorted(documents.tolist()) == sorted(set(documents.tolist()))
    assert len(documents) == met <= 100


@each_body
def test_arguments_are_left_as_they_are(body: Body) -> None:
    arguments = random_case(50, 3)
    for array in arguments[:4]:
        array.flags.writeable = False
    body.gather(*arguments, 10)


@each_native
def test_what_does_not_fit_is_refused_before_it_is_read(body: Body) -> None:
    ids, scores, postings, bounds, documents = random_case(50, 3)
    wrong = [
        (ids[:, :-1], scores, postings, bounds, documents, 10),
        (ids[0], scores[0], postings, bounds, documents, 10),
        (ids, scores, postings.astype(np.int64), bounds, documents, 10),
        (ids, scores, postings, bounds.astype(np.int16), documents, 10),
        (ids, scores, postings[:, None], bounds, documents, 10),
        (ids, scores, postings, bounds, documents, 0),
        (ids, scores, postings, bounds, -1, 10),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match="native kernel"):
            body.gather(*arguments)


@each_native
def test_one_segment_leaves_nothing_to_the_next(body: Body) -> None:
    """Not one whose postings name documents that it does not have, nor one at which the kernel gave up."""
    ids, scores, postings, bounds, documents = random_case(3001, 8)
    expected = BODIES[0].gather(ids, scores, postings, bounds, documents, 50)
    for few in (10, 100):  # its tokens meet nearly all of them: both ways of adding up
        body.gather(ids, scores, postings.astype(np.uint16), bounds, few, 50)
        body.gather(ids[:, :1], scores[:, :1], postings.astype(np.uint16), bounds, few, 50)
        with pytest.raises(IndexError):
            body.gather(ids, scores, postings.astype(np.uint32), bounds, few, 50)
        found = body.gather(ids, scores, postings, bounds, documents, 50)
        assert np.array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
        assert found[2:] == expected[2:]
