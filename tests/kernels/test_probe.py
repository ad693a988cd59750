"""Probing and selection: falling score, ties by lower position, any length; and how far 8 bits may take a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.reference import best
from colindex.kernels.tables import ProbeTable, in_blocks, probe_table
from tests.kernels.bodies import BODIES, Body, each_body, each_native
from tests.kernels.records import gaussian, unit_rows

BEYOND = 0.3
TOKENS = (0, 1, 7, 8, 9, 16, 17, 31, 32, 33, 100)

# few different values, so that ties are the rule
scores_lists = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, float("-inf")]), max_size=40)


def bare(centroids: NDArray[np.float32]) -> ProbeTable:
    """Without spreads."""
    return probe_table(centroids, np.zeros(len(centroids), np.float32))


def whole_table(values: NDArray[Any]) -> ProbeTable:
    """Centroids of whole numbers from -127 to 127, exactly."""
    count = len(values)
    return ProbeTable(
        in_blocks((values + 128).astype(np.uint8)), np.ones(count, np.float32), np.zeros(count, np.float32)
    )


def whole_query(tokens: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Whole numbers of which each token's largest is 127: 8 bits hold them exactly."""
    query = np.random.default_rng(seed).integers(-127, 128, (tokens, dim)).astype(np.float32)
    query[:, 0] = 127
    return query


def exact(query: NDArray[np.float32], table: ProbeTable) -> NDArray[np.float64]:
    """Scores of all pairs, float64 [q, K]."""
    tokens = query.astype(np.float64)
    centroids = (table.rows()[:, : query.shape[1]].astype(np.float64) - 128) * table.steps[:, None]
    return np.asarray(tokens @ centroids.T + BEYOND * np.linalg.norm(tokens, axis=1)[:, None] * table.spreads)


def margins(query: NDArray[np.float32], table: ProbeTable) -> NDArray[np.float64]:
    """What rounding to 8 bits may cost a pair at the very most: half a step of the token in each value of the centroid."""
    largest = np.abs(query).max(axis=1, initial=0).astype(np.float64)
    sizes = (np.abs(table.rows().astype(np.float64) - 128).sum(axis=1) * table.steps).astype(np.float64)
    return np.asarray(0.5001 / 127 * largest[:, None] * sizes)


def check(
    query: NDArray[np.float32], table: ProbeTable, nprobe: int, found: tuple[Any, Any], slack: float = 1e-5
) -> None:
    """Scores are near the exact ones, fall, and no centroid is left out that is clearly better than one that is in."""
    ids, scores = found
    kept = min(nprobe, len(table.steps))
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (len(query), kept)
    assert (np.diff(scores, axis=1) <= 0).all()
    true, allowed = exact(query, table), margins(query, table)
    allowed += (
        slack * (np.abs(true) + np.linalg.norm(query.astype(np.float64), axis=1)[:, None] * table.spreads) + 1e-44
    )
    for row in range(len(query)):
        chosen = ids[row]
        assert len(set(chosen.tolist())) == kept
        assert (np.abs(scores[row] - true[row, chosen]) <= allowed[row, chosen]).all()
        ties = np.diff(scores[row]) == 0
        assert (np.diff(chosen)[ties] > 0).all()
        left = np.setdiff1d(np.arange(len(table.steps)), chosen)
        if kept and len(left):
            assert ((true[row] - allowed[row])[left] <= scores[row, -1]).all()


@given(scores_lists, st.integers(0, 50))
def test_best_is_a_full_stable_sort_cut_short(values: list[float], k: int) -> None:
    expected = sorted(range(len(values)), key=lambda position: (-values[position], position))[:k]
    assert best(np.array(values, np.float32), k).tolist() == expected


def test_best_of_nothing_is_nothing() -> None:
    assert best(np.empty(0, np.float32), 10).tolist() == []


@each_body
def test_equal_centroids_come_in_order_of_id(body: Body) -> None:
    ids, scores = body.top_centroids(np.ones((1, 8), np.float32), bare(np.ones((5, 8), np.float32)), 3)
    assert ids.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(scores, [[8, 8, 8]], rtol=1e-6)


@each_body
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("dim", [8, 9, 13, 16, 127, 128])
def test_each_token_gets_the_centroids_of_a_full_sort(body: Body, tokens: int, dim: int) -> None:
    # whole numbers that 8 bits hold exactly: ids can be compared without tolerance, and few values make many ties
    query = whole_query(tokens, dim, seed=tokens)
    table = whole_table(np.random.default_rng(dim).integers(-2, 3, (201, dim)))
    ids, scores = body.top_centroids(query, table, 7)
    expected = exact(query, table)
    assert np.array_equal(ids, np.argsort(-expected, axis=1, kind="stable")[:, :7])
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(np.int64), axis=1), rtol=1e-6)


@each_body
@given(
    tokens=st.sampled_from(TOKENS),
    dim=st.sampled_from([8, 9, 10, 12, 15, 64, 100, 128]),
    centroids=st.integers(1, 200),
    nprobe=st.sampled_from([1, 2, 8, 64, 1000]),
    scales=st.tuples(*[st.sampled_from([1e-20, 1e-3, 1.0, 1e5, 1e18])] * 3),
)
@settings(max_examples=80)
def test_scores_are_the_exact_ones_but_for_rounding(
    body: Body, tokens: int, dim: int, centroids: int, nprobe: int, scales: tuple[float, float, float]
) -> None:
    of_query, of_centroids, of_spreads = map(np.float32, scales)
    spreads = np.abs(gaussian(1, centroids, 5)[0]) * of_spreads
    table = probe_table(gaussian(centroids, dim) * of_centroids, spreads)
    query = gaussian(tokens, dim, 1) * of_query
    check(query, table, nprobe, body.top_centroids(query, table, nprobe))


@each_body
@pytest.mark.parametrize("centroids", [4095, 4096, 4097, 4103, 5000, 8191])
@pytest.mark.parametrize("nprobe", [1, 64])
def test_any_number_of_centroids_may_be_searched(body: Body, centroids: int, nprobe: int) -> None:
    """From some number on, a sample is looked at first."""
    query = whole_query(17, 32)
    table = whole_table(np.random.default_rng(3).integers(-127, 128, (centroids, 32)))
    ids, scores = body.top_centroids(query, table, nprobe)
    expected = exact(query, table).astype(np.float32)
    assert np.array_equal(ids, np.argsort(-expected, axis=1, kind="stable")[:, :nprobe])
    np.testing.assert_allclose(scores, np.take_along_axis(expected, ids.astype(np.int64), axis=1), rtol=1e-6)


@each_body
@pytest.mark.parametrize("good", ["every sixteenth group", "outside the sample", "last", "none"])
@pytest.mark.parametrize("nprobe", [1, 100, 5000])
def test_centroids_may_lie_in_any_order(body: Body, good: str, nprobe: int) -> None:
    """The good ones all where a sample looks, or nowhere in it."""
    values = np.random.default_rng(3).integers(-5, 0, (5000, 16))
    group = np.arange(5000) // 8
    places = {
        "every sixteenth group": group % 16 == 0,
        "outside the sample": group % 16 != 0,
        "last": np.arange(5000) >= 4950,
        "none": np.zeros(5000, bool),
    }[good]
    values[places] += 100
    query, table = np.full((3, 16), 127, np.float32), whole_table(values)
    ids, _ = body.top_centroids(query, table, nprobe)
    assert np.array_equal(ids, np.argsort(-exact(query, table), axis=1, kind="stable")[:, :nprobe])


@each_body
def test_all_centroids_may_be_equal(body: Body) -> None:
    ids, _ = body.top_centroids(np.ones((9, 8), np.float32), bare(np.ones((5000, 8), np.float32)), 300)
    assert (ids == np.arange(300)).all()


@each_native
@given(
    tokens=st.sampled_from(TOKENS),
    dim=st.sampled_from([8, 9, 64, 128]),
    centroids=st.sampled_from([1, 9, 64, 65, 5000]),
)
@settings(max_examples=30)
def test_each_instruction_set_gives_the_same_bits(body: Body, tokens: int, dim: int, centroids: int) -> None:
    table = probe_table(gaussian(centroids, dim), np.abs(gaussian(1, centroids)[0]))
    query = gaussian(tokens, dim, 1)
    for found, plainest in zip(*(of.top_centroids(query, table, 50) for of in (body, BODIES[1])), strict=True):
        assert found.tobytes() == plainest.tobytes()


@each_native
@pytest.mark.parametrize("dim", [64, 128, 384, 1024])
def test_eight_bits_cost_a_thousandth_of_the_lengths(body: Body, dim: int) -> None:
    """The bounds of the docstrings, for vectors as encoders give them."""
    query, table = unit_rows(32, dim, 1), bare(unit_rows(3000, dim))
    ids, scores = body.top_centroids(query, table, 100)
    errors = scores - np.take_along_axis(exact(query, table), ids.astype(np.int64), axis=1)
    assert np.sqrt(np.square(errors).mean()) < 1e-3
    assert np.abs(errors).max() < 4e-3


@each_body
def test_a_token_finds_the_same_centroids_alone(body: Body) -> None:
    query, table = gaussian(33, 64), probe_table(gaussian(500, 64, 1), np.abs(gaussian(1, 500)[0]))
    ids, scores = body.top_centroids(query, table, 20)
    for token in (0, 7, 8, 15, 16, 32):
        alone = body.top_centroids(query[token : token + 1], table, 20)
        assert np.array_equal(alone[0][0], ids[token])
        np.testing.assert_allclose(alone[1][0], scores[token], rtol=1e-6)


@each_body
def test_more_probes_than_centroids_probe_them_all(body: Body) -> None:
    ids, scores = body.top_centroids(np.eye(2, 8, dtype=np.float32), bare(np.eye(3, 8, dtype=np.float32)), 99)
    assert ids.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert scores.shape == (2, 3)


@each_body
def test_spread_lifts_a_centroid_by_the_length_of_the_token(body: Body) -> None:
    query = np.array([[3.0, 4.0, 0, 0], [0.0, 0.0, 0, 0]], np.float32)
    table = probe_table(np.zeros((3, 4), np.float32), np.array([0.0, 2.0, 1.0], np.float32))
    ids, scores = body.top_centroids(query, table, 3)
    assert ids.tolist() == [[1, 2, 0], [0, 1, 2]]
    np.testing.assert_allclose(scores, [[3.0, 1.5, 0.0], [0.0, 0.0, 0.0]], rtol=1e-6)


@each_native
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_products_beyond_float32_still_find_as_many_centroids(body: Body, spread: float) -> None:
    huge = np.full((20, 16), 3e38, np.float32)
    huge[::2] *= -1
    table = probe_table(huge, np.full(20, spread * 3e38, np.float32))
    ids, scores = body.top_centroids(np.full((3, 16), 3e38, np.float32), table, 15)
    assert [len(set(row)) for row in ids.tolist()] == [15] * 3
    assert ((ids >= 0) & (ids < 20)).all()
    assert not np.isnan(scores).any()


@each_body
def test_arguments_are_left_as_they_are(body: Body) -> None:
    query, table = gaussian(3, 16), probe_table(gaussian(9, 16), np.ones(9, np.float32))
    for array in (query, table.values, table.steps, table.spreads):
        array.flags.writeable = False
    body.top_centroids(query, table, 4)


@each_native
def test_what_does_not_fit_is_refused_before_it_is_read(body: Body) -> None:
    query, table = gaussian(3, 16), bare(gaussian(9, 16))
    wrong = [
        (gaussian(3, 17), table, 4),
        (query[0], table, 4),
        (query, table, 0),
        (query, table._replace(steps=table.steps[:-1]), 4),
        (query, table._replace(spreads=table.spreads[:-1]), 4),
        (query, table._replace(values=table.values[:, :3]), 4),
        (query, table._replace(values=table.rows()), 4),
        (query, table._replace(values=np.concatenate([table.values, table.values])), 4),
        (query, bare(gaussian(2, 1028)), 4),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match="native kernel"):
            body.top_centroids(*arguments)
    with pytest.raises(TypeError):
        body.top_centroids(query, table._replace(values=table.values.astype(np.int32)), 4)
