"""Drift: sums over what was added, and the advice that follows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.codebook import Codebook
from colindex.drift import GROWN_AT, RETRAIN_AT, Drift, measure
from tests.growing import KNOWN, LATER, codebook, words

DRIFTS = st.builds(
    Drift,
    tokens=st.integers(1, 10**9),
    unknown=st.just(0),
    squared_residuals=st.floats(0, 1e9),
    squared_lengths=st.floats(1e-3, 1e9),
    built_energy=st.just(0.25),
    built_tokens=st.sampled_from([0, 7000]),
)


def measured(book: Codebook, vectors: NDArray[np.float32], token_ids: NDArray[np.int32] | None) -> Drift:
    projected = book.project(vectors)
    return measure(book, projected, book.clustering.assign(projected, token_ids, threads=1), token_ids)


def of_ratio(ratio: float, tokens: int = 100) -> Drift:
    return Drift(
        tokens=tokens, unknown=0, squared_residuals=ratio * 0.25 * tokens, squared_lengths=tokens, built_energy=0.25
    )


class TestMeasure:
    @pytest.mark.parametrize("ids", [True, False], ids=["words", "cells"])
    def test_more_of_the_same_has_the_energy_of_the_build(self, ids: bool) -> None:
        book = codebook(ids=ids)
        drift = measured(book, *words(2000, KNOWN, seed=4))
        assert drift.ratio == pytest.approx(1, abs=0.1)
        assert (drift.tokens, drift.unknown, drift.advice(drift.tokens)) == (2000, 0, None)

    def test_is_the_mean_squared_residual_over_the_mean_squared_length(self) -> None:
        book, (vectors, token_ids) = codebook(), words(900, seed=4, length=2.0)
        projected = book.project(vectors)
        centroids = book.clustering.assign(projected, token_ids, threads=1)
        residuals = (projected - book.centroids[centroids]).astype(np.float64)
        drift = measure(book, projected, centroids, token_ids)
        assert drift.energy == pytest.approx(float((residuals**2).mean() / (projected**2).mean()))
        assert drift.ratio == pytest.approx(drift.energy / book.residual_energy)

    def test_new_words_are_unknown_and_far(self) -> None:
        vectors, token_ids = (np.concatenate(both) for both in zip(words(300, KNOWN), words(100, LATER), strict=True))
        drift = measured(codebook(), vectors, token_ids)
        assert (drift.unknown, drift.unknown_share) == (100, 0.25)
        assert drift.ratio > RETRAIN_AT
        assert drift.advice(drift.tokens) is not None

    def test_expansion_makes_them_known_and_near(self) -> None:
        book, (vectors, token_ids) = codebook(), words(1000, LATER, seed=4)
        grown = book.expanded(book.project(vectors), token_ids, n_centroids=60, seed=0, threads=1)
        drift = measured(grown, *words(500, LATER, seed=5))
        assert drift.unknown == 0
        assert drift.built_energy == book.residual_energy
        assert drift.advice(drift.tokens) is None

    def test_vectors_without_ids(self) -> None:
        vectors, _ = words(50, KNOWN)
        assert measured(codebook(), vectors, None).unknown_share == 1  # where the build had ids
        assert measured(codebook(ids=False), vectors, None).unknown_share == 0

    def test_nothing_at_all(self) -> None:
        vectors, token_ids = words(0)
        drift = measured(codebook(), vectors, token_ids)
        assert (drift.tokens, drift.energy, drift.unknown_share, drift.advice(drift.tokens)) == (0, 0, 0, None)


class TestMerging:
    @given(st.lists(st.integers(0, 400), max_size=4))
    def test_chunks_together_are_the_whole(self, cuts: list[int]) -> None:
        book, (vectors, token_ids) = codebook(), words(400, seed=4)
        parts = [
            measured(book, *rows)
            for rows in zip(np.split(vectors, sorted(cuts)), np.split(token_ids, sorted(cuts)), strict=True)
        ]
        together = parts[0]
        for part in parts[1:]:
            together = together.merged(part)
        whole = measured(book, vectors, token_ids)
        assert (together.tokens, together.unknown) == (whole.tokens, whole.unknown)
        assert together.energy == pytest.approx(whole.energy)

    @given(DRIFTS, DRIFTS)
    def test_the_order_does_not_matter_and_the_energy_lies_between(self, one: Drift, other: Drift) -> None:
        together = one.merged(other)
        assert together == other.merged(one)
        low, high = sorted((one.energy, other.energy))
        assert low * (1 - 1e-9) <= together.energy <= high * (1 + 1e-9)

    @given(DRIFTS)
    def test_json_brings_it_back(self, drift: Drift) -> None:
        assert Drift.from_json(json.loads(json.dumps(drift.to_json()))) == drift
        assert Drift.from_json({**drift.to_json(), "later": 1}) == drift

    def test_an_earlier_version_did_not_note_where_growth_began(self) -> None:
        stored = replace(of_ratio(1), built_tokens=10).to_json()
        del stored["built_tokens"]
        drift = Drift.from_json(stored)
        assert drift.growth(10**9) == 1
        assert drift.advice(10**9) is None


class TestAdvice:
    def test_names_the_ratio_and_the_command_from_the_threshold_on(self) -> None:
        assert of_ratio(RETRAIN_AT - 0.01).advice(1000) is None
        advice = of_ratio(1.84).advice(1000)
        assert advice is not None
        assert "1.84 times the build's" in advice
        assert "`colindex compact --retrain`" in advice

    def test_a_build_without_residuals(self) -> None:
        assert replace(of_ratio(0), built_energy=0).advice(1000) is None
        assert replace(of_ratio(1), built_energy=0).advice(1000) is not None

    def test_an_index_that_has_grown_to_a_multiple_is_worth_building_anew(self) -> None:
        grown = replace(of_ratio(0.7), built_tokens=10**6)
        assert grown.growth(3 * 10**6) == 3
        assert grown.advice(GROWN_AT * 10**6 - 1) is None
        advice = grown.advice(10**7)
        assert advice is not None
        assert "10.0 times the vectors" in advice
        assert "`colindex compact --retrain`" in advice

    def test_a_small_index_grows_without_advice(self) -> None:
        assert replace(of_ratio(1), built_tokens=10).advice(1000) is None

    def test_drift_comes_before_growth(self) -> None:
        advice = replace(of_ratio(2), built_tokens=10**6).advice(10**7)
        assert advice is not None
        assert "2.00 times the build's" in advice
