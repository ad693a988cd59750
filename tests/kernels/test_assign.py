"""The nearest centroids of each vector: against plain distances in float64, and each body against the reference, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels import reference
from tests.kernels.bodies import Body, each_body, each_native
from tests.kernels.records import gaussian, offsets_of, unit_rows

DIMS = (1, 3, 7, 8, 9, 16, 33, 64, 128, 129, 257)
SIZES = (1, 2, 3, 5, 15, 16, 17, 33, 64, 65, 100, 130)


@dataclass(frozen=True)
class Groups:
    """The arguments of `nearest`."""

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    row_offsets: NDArray[np.int64]
    centroids: NDArray[np.float32]
    centroid_offsets: NDArray[np.int64]
    count: int

    def arguments(self) -> tuple[object, ...]:
        return (self.vectors, self.rows, self.row_offsets, self.centroids, self.centroid_offsets, self.count)


@st.composite
def groups(draw: st.DrawFn) -> Groups:
    dim, count = draw(st.sampled_from(DIMS)), draw(st.sampled_from([1, 1, 2, 4, 8]))
    sizes = [max(size, count) for size in draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4))]
    asked = [draw(st.integers(0, 30)) for _ in sizes]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    centroids, vectors = gaussian(sum(sizes), dim, 1), gaussian(40, dim, 2)
    kind = draw(st.sampled_from(["plain", "signs", "unit", "equal centroids", "vectors are centroids", "zeros"]))
    if kind == "signs":  # many exact ties
        centroids, vectors = np.sign(centroids), np.sign(vectors)
    if kind == "unit":  # lengths at a power of two, where the grid changes
        centroids, vectors = unit_rows(len(centroids), dim, 1), unit_rows(40, dim, 2)
    if kind == "equal centroids":
        centroids[rng.random(len(centroids)) < 0.7] = centroids[0]
    if kind == "vectors are centroids":
        vectors = centroids[rng.integers(0, len(centroids), 40)]
    if kind == "zeros":
        vectors[::2], centroids[::3] = 0, 0
    scale = np.float32(draw(st.sampled_from([1e-30, 1e-18, 1e-3, 1.0, 1e3, 1e18, 1e25])))
    rows = rng.integers(0, 40, sum(asked))
    return Groups(vectors * scale, rows, offsets_of(asked), centroids * scale, offsets_of(sizes), count)


@each_native
@given(groups())
@settings(max_examples=80, deadline=None)
def test_ids_and_scores_are_the_references_to_the_last_bit(body: Body, given_: Groups) -> None:
    ids, scores = body.nearest(*given_.arguments())
    expected_ids, expected = reference.nearest(*given_.arguments())  # type: ignore[arg-type]
    assert (ids.dtype, scores.dtype) == (expected_ids.dtype, expected.dtype)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected)


@each_body
@pytest.mark.parametrize("count", [1, 3])
def test_the_nearest_are_those_of_the_definition(body: Body, count: int) -> None:
    vectors, centroids = gaussian(50, 24, 1), gaussian(60, 24, 2)
    starts = np.array([0, 20, 60])
    ids, scores = body.nearest(vectors, np.arange(50), np.array([0, 30, 50]), centroids, starts, count)
    distances = np.square(vectors[:, None].astype(np.float64) - centroids[None]).sum(axis=2)
    distances[:30, 20:] = distances[30:, :20] = np.inf
    assert np.array_equal(ids, np.argsort(distances, axis=1)[:, :count])
    near = np.take_along_axis(distances, ids.astype(np.int64), axis=1)
    squares = np.square(vectors, dtype=np.float64).sum(axis=1)[:, None]
    np.testing.assert_allclose(squares - 2 * scores, near, atol=1e-5)


@each_body
def test_ties_go_to_the_lower_number(body: Body) -> None:
    centroids = np.repeat(np.eye(2, 8, dtype=np.float32), 20, axis=0)
    ids, _ = body.nearest(
        np.eye(2, 8, dtype=np.float32), np.arange(2), np.array([0, 2]), centroids, np.array([0, 40]), 3
    )
    assert ids.tolist() == [[0, 1, 2], [20, 21, 22]]


@each_body
def test_an_answer_knows_nothing_of_the_other_rows(body: Body) -> None:
    vectors, centroids = unit_rows(50, 24, 1), unit_rows(90, 24, 2)
    bounds = np.array([0, 90])
    together, scores = body.nearest(vectors, np.arange(50), np.array([0, 50]), centroids, bounds, 2)
    for row in (0, 7, 49):
        alone, of_row = body.nearest(
            vectors[row : row + 1], np.zeros(1, np.int64), np.array([0, 1]), centroids, bounds, 2
        )
        assert np.array_equal(alone[0], together[row])
        assert np.array_equal(of_row[0], scores[row])


@each_body
def test_groups_without_rows_and_no_rows_at_all(body: Body) -> None:
    vectors, centroids = gaussian(3, 8, 1), gaussian(4, 8, 2)
    ids, _ = body.nearest(vectors, np.array([2]), np.array([0, 0, 1, 1]), centroids, np.array([0, 0, 4, 4]), 1)
    assert ids.shape == (1, 1)
    nothing, scores = body.nearest(vectors, np.empty(0, np.int64), np.array([0, 0]), centroids, np.array([0, 4]), 2)
    assert nothing.shape == scores.shape == (0, 2)


@each_native
@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": np.array([40])},
        {"rows": np.array([-1])},
        {"row_offsets": np.array([0, 2])},
        {"row_offsets": np.array([1, 0])},
        {"centroid_offsets": np.array([0, 6])},
        {"centroid_offsets": np.array([0, 2])},
        {"centroid_offsets": np.array([0, 2, 5])},
        {"centroids": np.zeros((5, 9), np.float32)},
        {"count": 9},
        {"count": 0},
    ],
)
def test_numbers_out_of_bounds_are_refused(body: Body, wrong: dict[str, object]) -> None:
    right = {
        "vectors": gaussian(40, 8),
        "rows": np.array([3]),
        "row_offsets": np.array([0, 1]),
        "centroids": gaussian(5, 8),
        "centroid_offsets": np.array([0, 5]),
        "count": 3,
    }
    with pytest.raises(ValueError, match="native kernel"):
        body.nearest(*(right | wrong).values())


@each_body
@given(dim=st.sampled_from(DIMS), m=st.integers(0, 200), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_sums_are_added_in_order(body: Body, dim: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, rows, ids = gaussian(30, dim, seed), rng.integers(0, 30, m), rng.integers(0, 5, m).astype(np.int32)
    expected = np.zeros((7, dim))
    for row, id_ in zip(rows, ids, strict=True):
        expected[id_] += vectors[row]
    assert np.array_equal(body.add_rows(vectors, rows, ids, 7), expected)


@each_native
@pytest.mark.parametrize(("rows", "ids"), [([30], [0]), ([-1], [0]), ([0], [5]), ([0], [-1]), ([0, 1], [0])])
def test_sums_refuse_numbers_out_of_bounds(body: Body, rows: list[int], ids: list[int]) -> None:
    with pytest.raises(ValueError, match="native kernel"):
        body.add_rows(gaussian(30, 8), np.array(rows), np.array(ids, np.int32), 5)
