"""Token pooling: against sentence-transformers, against the definition, and what inspection relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import colindex.pooling
from colindex.errors import ParameterError
from colindex.pooling import pool
from colindex.types import PooledBatch, TokenBatch

lengths = st.lists(st.integers(0, 25), min_size=1, max_size=5)
factors = st.integers(2, 5)


def _batch(
    lengths: list[int], *, dim: int = 8, seed: int = 0, unit: bool = True, dtype: type = np.float32
) -> TokenBatch:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((sum(lengths), dim)).astype(np.float32) + 0.5
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(sum(lengths), dtype=np.int32)
    return TokenBatch(
        ids=tuple(f"d{number}" for number in range(len(lengths))),
        vectors=vectors.astype(dtype),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        token_ids=starts + 1000,
        spans=np.stack([starts, starts + 1], axis=1),
    )


def _documents(pooled: PooledBatch, batch: TokenBatch) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """For each document: its source vectors, its stored vectors, and the map between them."""
    assert pooled.source is not None
    source, stored = pooled.source.offsets, pooled.tokens.offsets
    return [
        (
            batch.vectors[source[i] : source[i + 1]].astype(np.float32),
            pooled.tokens.vectors[stored[i] : stored[i + 1]],
            pooled.source.stored[source[i] : source[i + 1]],
        )
        for i in range(len(batch))
    ]


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("protected", [0, 1, 2])
def test_agrees_with_sentence_transformers(factor: int, protected: int) -> None:
    import torch
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    batch = _batch([40, 1, 2, 7, 100], dim=16)
    theirs = HierarchicalTokenPooling(factor, num_protected_tokens=protected)
    for vectors, stored, _ in _documents(pool(batch, factor, protected), batch):
        expected = theirs.pool_one(torch.from_numpy(vectors)).numpy()
        assert stored.shape == expected.shape
        assert stored[:protected] == pytest.approx(expected[:protected], abs=1e-6)
        # The order of clusters differs: theirs follows the library's labels, ours the first members.
        matches = stored @ expected.T
        assert np.sort(matches.argmax(axis=1)).tolist() == list(range(len(matches)))
        assert matches.max(axis=1) == pytest.approx(np.ones(len(matches)), abs=1e-5)


@given(lengths, factors, st.integers(0, 3), st.integers(0, 100))
def test_sizes_follow_the_factor(lengths: list[int], factor: int, protected: int, seed: int) -> None:
    pooled = pool(_batch(lengths, seed=seed), factor, protected)
    expected = [min(n, protected) + (max(1, (n - protected) // factor) if n > protected else 0) for n in lengths]
    assert np.diff(pooled.tokens.offsets).tolist() == expected


@given(lengths, factors, st.integers(0, 3), st.integers(0, 100))
def test_map_covers_each_source_token_and_leads_to_its_mean(
    lengths: list[int], factor: int, protected: int, seed: int
) -> None:
    batch = _batch(lengths, seed=seed)
    for vectors, stored, source in _documents(pool(batch, factor, protected), batch):
        assert sorted(set(source.tolist())) == list(range(len(stored)))
        firsts = [int(np.flatnonzero(source == at)[0]) for at in range(len(stored))]
        assert firsts == sorted(firsts)
        for at, vector in enumerate(stored):
            mean = vectors[source == at].mean(axis=0)
            assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@given(lengths, factors, st.integers(1, 4))
def test_protected_tokens_stay_first_alone_and_unchanged(lengths: list[int], factor: int, protected: int) -> None:
    batch = _batch(lengths)
    for vectors, stored, source in _documents(pool(batch, factor, protected), batch):
        head = min(protected, len(vectors))
        assert source[:head].tolist() == list(range(head))
        assert (source[head:] >= head).all()
        assert np.array_equal(stored[:head], vectors[:head])


@given(lengths, factors)
def test_token_ids_and_spans_are_those_of_the_first_member(lengths: list[int], factor: int) -> None:
    batch = _batch(lengths)
    pooled = pool(batch, factor)
    assert pooled.source is not None
    assert pooled.tokens.token_ids is not None
    assert pooled.tokens.spans is not None
    assert pooled.source.token_ids is batch.token_ids
    assert pooled.source.spans is batch.spans
    for i in range(len(batch)):
        source = pooled.source.stored[batch.offsets[i] : batch.offsets[i + 1]]
        firsts = batch.offsets[i] + np.unique(source, return_index=True)[1]
        row = slice(*pooled.tokens.offsets[i : i + 2].tolist())
        assert pooled.tokens.token_ids[row].tolist() == (firsts + 1000).tolist()
        assert pooled.tokens.spans[row, 0].tolist() == firsts.tolist()


def test_factor_one_is_the_same_batch() -> None:
    batch = _batch([5, 0, 2], dtype=np.float16)
    pooled = pool(batch, 1)
    assert pooled.tokens is batch
    assert pooled.source is None


def test_empty_and_one_token_documents() -> None:
    batch = _batch([0, 1, 0, 2])
    pooled = pool(batch, 4, protected=1)
    assert pooled.tokens.offsets.tolist() == [0, 0, 1, 1, 3]
    assert np.array_equal(pooled.tokens.vectors, batch.vectors)
    nothing = pool(_batch([0]), 2)
    assert nothing.tokens.vectors.shape == (0, 8)
    assert len(nothing.tokens) == 1


def test_a_document_is_pooled_the_same_whatever_stands_beside_it() -> None:
    batch = _batch([30, 12])
    alone = TokenBatch(ids=("d1",), vectors=batch.vectors[30:], offsets=np.array([0, 12]))
    together = pool(batch, 3)
    assert np.array_equal(together.tokens.vectors[together.tokens.offsets[1] :], pool(alone, 3).tokens.vectors)
    assert pool(alone, 3).tokens.token_ids is None


def test_half_precision_goes_in_and_float32_unit_vectors_come_out() -> None:
    pooled = pool(_batch([50], dtype=np.float16), 3, protected=0)
    assert pooled.tokens.vectors.dtype == np.float32
    assert np.linalg.norm(pooled.tokens.vectors, axis=1) == pytest.approx(np.ones(16), abs=2e-3)


def test_lengths_of_the_model_s_own_are_kept() -> None:
    batch = _batch([20], unit=False)
    for vectors, stored, source in _documents(pool(batch, 4), batch):
        for at, vector in enumerate(stored):
            assert vector == pytest.approx(vectors[source == at].mean(axis=0), abs=1e-5)


def test_opposite_vectors_have_a_mean_of_zero_and_no_direction() -> None:
    axis = np.eye(8, dtype=np.float32)[:1]
    batch = TokenBatch(ids=("a",), vectors=np.concatenate([axis, -axis]), offsets=np.array([0, 2]))
    assert pool(batch, 2, protected=0).tokens.vectors.tolist() == [[0.0] * 8]


def test_long_documents_are_clustered_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colindex.pooling, "MAX_CLUSTERED", 10)
    batch = _batch([26])
    (_, stored, source), *_ = _documents(pool(batch, 2), batch)
    assert len(stored) == 1 + 4 + 4 + 4  # 25 tokens in runs of 9, 8 and 8
    assert source[1:10].max() < source[10:18].min() <= source[10:18].max() < source[18:].min()


def test_pooling_twice_gives_the_same() -> None:
    batch = _batch([60, 33])
    assert np.array_equal(pool(batch, 3).tokens.vectors, pool(batch, 3).tokens.vectors)


@pytest.mark.parametrize(("factor", "protected"), [(0, 1), (-1, 1), (2, -1)])
def test_settings_out_of_range(factor: int, protected: int) -> None:
    with pytest.raises(ParameterError, match="pooling"):
        pool(_batch([3]), factor, protected)
