"""MaxSim against six lines of NumPy, and that no document's score knows its neighbours."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.reference import maxsim
from tests.oracles import exact_maxsim


def documents(lengths: list[int], dim: int = 16, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return np.random.default_rng(seed).standard_normal((offsets[-1], dim), np.float32), offsets


def queries(tokens: int, dim: int = 16) -> NDArray[np.float32]:
    return np.random.default_rng(99).standard_normal((tokens, dim), np.float32)


@given(st.lists(st.integers(0, 70), max_size=12), st.integers(1, 40), st.sampled_from([8, 13, 128]))
def test_scores_are_the_exact_ones(lengths: list[int], tokens: int, dim: int) -> None:
    vectors, offsets = documents(lengths, dim)
    query = queries(tokens, dim)
    scores = maxsim(query, vectors, offsets)
    assert scores.dtype == np.float32
    # float32 sums of dim products and of tokens maxima
    np.testing.assert_allclose(scores, exact_maxsim(query, vectors, offsets), rtol=1e-5, atol=1e-5 * tokens)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=12), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_score_has_the_same_bits_whichever_documents_stand_beside_it(
    lengths: list[int], tokens: int, order: random.Random
) -> None:
    vectors, offsets = documents(lengths, 128)
    query = queries(tokens, 128)
    together = maxsim(query, vectors, offsets)
    chosen = order.sample(range(len(lengths)), order.randint(1, len(lengths)))
    parts = [vectors[offsets[i] : offsets[i + 1]] for i in chosen]
    apart = maxsim(query, np.concatenate(parts), np.cumsum([0, *map(len, parts)]))
    assert apart.tobytes() == together[chosen].tobytes()


def test_documents_longer_than_one_pass_keep_their_maximum() -> None:
    vectors, offsets = documents([20_000, 3, 9_000])
    vectors[15_000] = 5 * queries(1)[0]
    scores = maxsim(queries(1), vectors, offsets)
    np.testing.assert_allclose(scores, exact_maxsim(queries(1), vectors, offsets), rtol=1e-5)


def test_negative_maxima_stay_negative() -> None:
    assert maxsim(np.ones((2, 8), np.float32), -np.ones((3, 8), np.float32), np.array([0, 3])).tolist() == [-16]


def test_empty_documents_get_minus_infinity() -> None:
    vectors, offsets = documents([0, 2, 0])
    assert np.isneginf(maxsim(queries(3), vectors, offsets)).tolist() == [True, False, True]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_no_vectors_at_all(lengths: list[int]) -> None:
    vectors, offsets = documents(lengths)
    assert maxsim(queries(3), vectors, offsets).tolist() == [-np.inf] * len(lengths)


def test_a_query_without_tokens_scores_zero() -> None:
    vectors, offsets = documents([2, 1])
    assert maxsim(queries(0), vectors, offsets).tolist() == [0, 0]


def test_a_query_of_a_thousand_tokens() -> None:
    vectors, offsets = documents([40, 1, 100])
    query = queries(1000)
    np.testing.assert_allclose(maxsim(query, vectors, offsets), exact_maxsim(query, vectors, offsets), rtol=1e-5)
