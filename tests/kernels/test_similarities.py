"""Products of query tokens with stored vectors: what they are, and that their maxima are what a search adds up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.bodies import Body, each_body
from tests.kernels.records import by_definition, gaussian, margins, offsets_of, random_records, some_table


@each_body
@given(
    bits=st.sampled_from([1, 2, 4, 8, 32]),
    dim=st.sampled_from([8, 13, 33, 64, 128]),
    tokens=st.sampled_from([0, 1, 9, 33]),
    records=st.sampled_from([0, 1, 7, 31, 33, 70]),
    unit=st.booleans(),
)
@settings(max_examples=25)
def test_each_is_the_dot_product_of_the_decoded_vectors(
    body: Body, bits: int, dim: int, tokens: int, records: int, unit: bool
) -> None:
    table = some_table(dim, bits, unit=unit)
    stored, query = random_records(table, records), gaussian(tokens, dim, 99)
    found = body.similarities(query, stored, table)
    expected = query @ by_definition(stored, table).T
    assert found.shape == (tokens, records)
    assert found.dtype == np.float32
    lines = [np.abs(row - exact) for row, exact in zip(found, expected, strict=True)]
    each = offsets_of([1] * records)
    assert all((line <= margins(query[t : t + 1], stored, each, table) + 1e-5).all() for t, line in enumerate(lines))


@each_body
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("unit", [False, True])
def test_row_maxima_add_up_to_the_score(body: Body, bits: int, unit: bool) -> None:
    table = some_table(128, bits, unit=unit, centroids=300)
    offsets, query = offsets_of([1, 3, 40, 180]), gaussian(40, 128, 7)
    stored = random_records(table, 224)
    scores = body.score_records(query, stored, offsets, table)
    for score, begin, stop in zip(scores.tolist(), offsets[:-1], offsets[1:], strict=True):
        maxima = body.similarities(query, stored[begin:stop], table).max(axis=1)
        assert maxima.sum(dtype=np.float64) == pytest.approx(score, rel=1e-6)
        alone = [
            float(body.score_records(token[None], stored[begin:stop], offsets_of([stop - begin]), table)[0])
            for token in query
        ]
        assert maxima == pytest.approx(alone, rel=1e-6, abs=1e-6)
