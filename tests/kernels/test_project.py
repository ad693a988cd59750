"""Rows times a matrix: correctly rounded products, the same on each body and in any batch."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from colindex.kernels.reference import grid_columns
from colindex.kernels.reference.grid import on_grid
from tests.kernels.bodies import BODIES, Body, each_body, each_native
from tests.kernels.records import gaussian, unit_rows

REFERENCE = BODIES[0]
DIMS = (1, 3, 7, 8, 9, 16, 31, 32, 33, 64, 128, 130, 384)


def projected(body: Body, vectors: NDArray[Any], matrix: NDArray[np.float32], unit: bool) -> NDArray[np.float32]:
    found: NDArray[np.float32] = body.project(vectors, grid_columns(matrix), matrix.shape[1], unit)
    return found


@each_native
@given(
    n=st.integers(0, 20),
    input_dim=st.sampled_from(DIMS),
    dim=st.sampled_from(DIMS),
    dtype=st.sampled_from([np.float16, np.float32]),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e4, 1e15]),
    unit=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_products_are_the_references_to_the_last_bit(
    body: Body, n: int, input_dim: int, dim: int, dtype: DTypeLike, scale: float, unit: bool
) -> None:
    vectors = (gaussian(n, input_dim) * (scale if dtype == np.float32 else max(min(scale, 1e3), 1e-7))).astype(dtype)
    vectors[::4] = 0
    matrix = gaussian(input_dim, dim, 1)
    found = projected(body, vectors, matrix, unit)
    assert found.dtype == np.float32
    assert np.array_equal(found, projected(REFERENCE, vectors, matrix, unit))


@each_body
def test_a_product_is_the_exact_one_rounded_once(body: Body) -> None:
    vectors, matrix = unit_rows(4, 24, 1), gaussian(24, 5, 2)
    rows, columns = on_grid(vectors), on_grid(matrix.T)
    found = projected(body, vectors, matrix, False)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            exact = sum(Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True))
            assert found[i, j] == np.float32(float(exact))


@each_body
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_asked_for_unit_length_rows_have_it_but_for_zeros(body: Body, dtype: DTypeLike) -> None:
    vectors = gaussian(20, 40).astype(dtype)
    vectors[3] = 0
    lengths = np.linalg.norm(projected(body, vectors, gaussian(40, 12, 1), True), axis=1)
    np.testing.assert_allclose(np.delete(lengths, 3), 1, atol=1e-6)
    assert lengths[3] == 0


@each_body
def test_a_row_knows_nothing_of_its_neighbours(body: Body) -> None:
    vectors, matrix = gaussian(30, 48), gaussian(48, 33, 1)
    together = projected(body, vectors, matrix, True)
    for part in (slice(0, 1), slice(5, 17), slice(29, 30)):
        assert np.array_equal(projected(body, vectors[part], matrix, True), together[part])


@each_body
def test_every_finite_half_is_read_as_it_is(body: Body) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    vectors = halves[np.isfinite(halves)].reshape(-1, 1)
    assert np.array_equal(projected(body, vectors, np.ones((1, 1), np.float32), False), vectors.astype(np.float32))


@each_body
def test_layouts_and_other_kinds_of_numbers_do_not_matter(body: Body) -> None:
    vectors, matrix = gaussian(20, 24), gaussian(24, 8, 1)
    expected = projected(body, vectors, matrix, False)
    assert np.array_equal(projected(body, np.asfortranarray(vectors), np.asfortranarray(matrix), False), expected)


@each_native
def test_another_dim_is_refused(body: Body) -> None:
    columns = grid_columns(gaussian(8, 8))
    wrong = [(gaussian(2, 9), columns, 8), (gaussian(2, 8)[0], columns, 8), (gaussian(2, 8), columns, 33)]
    for vectors, of_matrix, dim in [*wrong, (gaussian(2, 8), columns[0], 8)]:
        with pytest.raises(ValueError, match="native kernel"):
            body.project(vectors, of_matrix, dim, False)


def test_columns_on_the_grid_are_those_of_the_matrix_and_zeros() -> None:
    matrix = unit_rows(20, 40)
    columns = grid_columns(matrix)
    assert columns.shape == (2, 20, 32)
    np.testing.assert_allclose(np.hstack(list(columns))[:, :40], matrix, atol=2.0**-24)
    assert not columns[1, :, 8:].any()


@pytest.mark.parametrize("dim", [8, 128, 300, 1024])
def test_products_on_the_grid_are_exact_in_any_order(dim: int) -> None:
    rows: NDArray[np.float64] = on_grid(unit_rows(2, dim))
    exact = float(sum(Fraction(a) * Fraction(b) for a, b in zip(*rows, strict=True)))
    order = np.random.default_rng(0).permutation(dim)
    assert rows[0] @ rows[1] == rows[0, order] @ rows[1, order] == exact
