"""Projection: geometry kept, rows independent to the last bit, unit length restored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.errors import VectorError
from colindex.kernels.reference.grid import on_grid
from colindex.projection import Projection, learn_projection


def sample(n: int = 500, dim: int = 24, *, unit: bool = True) -> NDArray[np.float32]:
    """Vectors whose first axes carry most of the energy."""
    vectors = np.random.default_rng(0).standard_normal((n, dim)) / np.arange(1, dim + 1)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if unit else vectors).astype(np.float32)


@pytest.mark.parametrize("dim", [None, 24])
def test_without_pca_dot_products_stay(dim: int | None) -> None:
    vectors = sample(unit=False)
    projection = learn_projection(vectors, dim, seed=1)
    projected = projection.apply(vectors)
    assert not projection.renormalize
    np.testing.assert_allclose(projected @ projected.T, vectors @ vectors.T, atol=1e-5)
    assert not np.allclose(projected, vectors, atol=0.1)  # it does rotate


def test_pca_keeps_the_axes_that_carry_the_energy() -> None:
    vectors = sample(unit=False)
    projected = learn_projection(vectors, 8, seed=0).apply(vectors)
    values = np.linalg.eigvalsh(vectors.T.astype(np.float64) @ vectors)[::-1]
    assert projected.shape == (500, 8)
    assert (projected.astype(np.float64) ** 2).sum() == pytest.approx(values[:8].sum(), rel=1e-4)


def test_rotation_spreads_the_energy() -> None:
    vectors = sample(2000, unit=False)
    energy = (learn_projection(vectors, 8, seed=0).apply(vectors) ** 2).mean(axis=0)
    before = np.sort((vectors**2).mean(axis=0))[::-1][:8]
    assert energy.max() / energy.min() < before.max() / before.min() / 3


def test_unit_vectors_are_unit_again_after_pca() -> None:
    projection = learn_projection(sample(), 8, seed=0)
    assert projection.renormalize
    np.testing.assert_allclose(np.linalg.norm(projection.apply(sample()), axis=1), 1, atol=1e-6)


def test_other_vectors_keep_the_length_that_pca_leaves() -> None:
    projection = learn_projection(sample(unit=False), 8, seed=0)
    assert not projection.renormalize


def test_a_zero_vector_stays_zero() -> None:
    assert not learn_projection(sample(), 8, seed=0).apply(np.zeros((1, 24), np.float32)).any()


def test_columns_are_orthonormal_and_follow_the_seed() -> None:
    first, again, other = (learn_projection(sample(), 8, seed=seed).matrix for seed in (3, 3, 4))
    np.testing.assert_allclose(first.T @ first, np.eye(8), atol=1e-5)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@given(st.lists(st.integers(0, 499), min_size=1, max_size=40), st.sampled_from([np.float16, np.float32]))
def test_a_row_has_the_same_bits_in_any_company(rows: list[int], dtype: type) -> None:
    vectors: NDArray[np.floating] = sample().astype(dtype)
    projection = learn_projection(vectors, 8, seed=0)
    assert projection.apply(vectors[rows]).tobytes() == projection.apply(vectors)[rows].tobytes()


def test_blocks_join_without_a_seam() -> None:
    projection = Projection(np.eye(8, dtype=np.float32), renormalize=False)
    vectors = sample(20_000, 8)
    np.testing.assert_allclose(projection.apply(vectors), vectors, atol=1e-7)


def test_no_rows_give_no_rows() -> None:
    assert learn_projection(sample(), 8, seed=0).apply(np.empty((0, 24), np.float32)).shape == (0, 8)


def test_another_dim_is_refused_with_both() -> None:
    projection = learn_projection(sample(), 8, seed=0)
    with pytest.raises(VectorError, match=r"\[tokens, 24\], got \(3, 25\)"):
        projection.apply(np.ones((3, 25), np.float32))
    with pytest.raises(VectorError, match="at most 24"):
        learn_projection(sample(), 25, seed=0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e4]))
def test_products_on_the_grid_are_exact_in_any_order(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    left, right = (on_grid((scale * rng.standard_normal((3, 64))).astype(np.float32)) for _ in range(2))
    order = rng.permutation(64)
    assert np.array_equal(left @ right.T, left[:, order] @ right[:, order].T)


def test_the_grid_is_as_fine_as_float32() -> None:
    vectors = sample(unit=False)
    errors = np.abs(on_grid(vectors) - vectors).max(axis=1)
    assert (errors <= np.linalg.norm(vectors, axis=1) * 2.0**-25).all()
    assert not on_grid(np.zeros((2, 8), np.float16)).any()
