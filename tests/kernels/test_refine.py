"""Scores from records: what they are, how far rounding may take them, and that no document's score knows its neighbours."""

from __future__ import annotations

import ctypes
import mmap
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.tables import CodeTable, code_table
from tests.kernels.bodies import BODIES, Body, each_body, each_native
from tests.kernels.records import (
    by_definition,
    exact_scores,
    gaussian,
    margins,
    offsets_of,
    pack,
    random_records,
    some_table,
    unit_rows,
)

WIDTHS = (1, 2, 4, 8)
ALL_WIDTHS = (*WIDTHS, 32)
TOKENS = (0, 1, 7, 8, 9, 16, 17, 31, 33, 100)
DIMS = (8, 9, 12, 13, 16, 24, 31, 32, 33, 63, 64, 65, 96, 127, 128, 136)


@st.composite
def tables(draw: st.DrawFn) -> CodeTable:
    dim, bits = draw(st.sampled_from(DIMS)), draw(st.sampled_from(ALL_WIDTHS))
    centroid_bytes, unit = draw(st.sampled_from([2, 4])), draw(st.booleans())
    scale = 1.0 if unit else draw(st.sampled_from([1e-20, 1e-3, 1.0, 100.0, 1e18]))
    return some_table(dim, bits, centroid_bytes=centroid_bytes, unit=unit, scale=scale)


@each_body
@given(
    table=tables(),
    tokens=st.sampled_from(TOKENS),
    lengths=st.lists(st.integers(0, 20), max_size=5),
    residual=st.sampled_from([0.0, 1e-3, 0.5, 3.0, 1e3, 1e9]),
    asked=st.sampled_from([1e-20, 1.0, 1e18]),
)
@settings(max_examples=60)
def test_scores_are_the_exact_ones_but_for_rounding(
    body: Body, table: CodeTable, tokens: int, lengths: list[int], residual: float, asked: float
) -> None:
    records, offsets = random_records(table, sum(lengths), residual=residual), offsets_of(lengths)
    query = gaussian(tokens, table.centroids.shape[1], 99) * np.float32(asked)
    scores = body.score_records(query, records, offsets, table)
    expected = exact_scores(query, by_definition(records, table), offsets)
    assert scores.dtype == np.float32
    assert np.isneginf(scores).tolist() == (np.diff(offsets) == 0).tolist()
    present = np.diff(offsets) > 0
    allowed = margins(query, records, offsets, table)[present] + 1e-5 * np.abs(expected[present]) + 1e-42
    assert (np.abs(scores[present] - expected[present]) <= allowed).all()


A_TOKEN = {np.dtype(np.int8): 1.5e-3, np.dtype(np.int16): 3e-4, np.dtype(np.float32): 1e-6}
"""What rounding may cost a query token, for vectors as encoders give them: the bounds of the docstrings."""


@each_native
@pytest.mark.parametrize("bits", ALL_WIDTHS)
@pytest.mark.parametrize("dim", [64, 128, 384, 768, 1024])
def test_rounding_costs_little(body: Body, bits: int, dim: int) -> None:
    table = some_table(dim, bits, centroids=500, unit=True)
    records, offsets, query = random_records(table, 600), offsets_of([60] * 10), unit_rows(32, dim)
    found, expected = (of.score_records(query, records, offsets, table) for of in (body, BODIES[0]))
    assert np.abs(found - expected).max() < 32 * A_TOKEN[table.centroids.dtype]


@each_native
@given(
    table=tables(),
    tokens=st.sampled_from(TOKENS),
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    residual=st.sampled_from([1e-3, 0.5, 3.0, 1e3, 1e9]),
)
@settings(max_examples=40)
def test_each_instruction_set_gives_the_same_bits(
    body: Body, table: CodeTable, tokens: int, lengths: list[int], residual: float
) -> None:
    records, offsets = random_records(table, sum(lengths), residual=residual), offsets_of(lengths)
    query = gaussian(tokens, table.centroids.shape[1], 99)
    plainest = BODIES[1].score_records(query, records, offsets, table)
    assert body.score_records(query, records, offsets, table).tobytes() == plainest.tobytes()


@each_body
@given(
    table=tables(),
    tokens=st.sampled_from(TOKENS),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_a_score_has_the_same_bits_whichever_documents_stand_beside_it(
    body: Body, table: CodeTable, tokens: int, lengths: list[int], order: random.Random
) -> None:
    records, offsets = random_records(table, sum(lengths)), offsets_of(lengths)
    query = gaussian(tokens, table.centroids.shape[1], 99)
    together = body.score_records(query, records, offsets, table)
    chosen = order.sample(range(len(lengths)), order.randint(1, len(lengths)))
    parts = [records[offsets[i] : offsets[i + 1]] for i in chosen]
    apart = body.score_records(query, np.concatenate(parts), offsets_of([*map(len, parts)]), table)
    assert apart.tobytes() == together[chosen].tobytes()


@each_body
@pytest.mark.parametrize("bits", ALL_WIDTHS)
def test_a_score_has_the_same_bits_wherever_its_records_lie(body: Body, bits: int) -> None:
    table = some_table(100, bits)
    records, offsets, query = random_records(table, 50), offsets_of([20, 3, 27]), gaussian(20, 100)
    expected = body.score_records(query, records, offsets, table).tobytes()
    for shift in (1, 2, 3, 7, 31, 63):
        room = np.empty(records.nbytes + shift, np.uint8)
        moved = room[shift:].reshape(records.shape)
        moved[:] = records
        assert body.score_records(query, moved, offsets, table).tobytes() == expected


@each_body
def test_rows_of_a_wider_array_score_as_their_own(body: Body) -> None:
    table = some_table(64, 2)
    records, query = random_records(table, 30), gaussian(9, 64)
    offsets = offsets_of([10, 20])
    wide_records, wide_query = np.repeat(records, 2, axis=0)[::2], np.repeat(query, 2, axis=1)[:, ::2]
    expected = body.score_records(query, records, offsets, table)
    assert np.array_equal(body.score_records(wide_query, wide_records, offsets, table), expected)


@each_body
@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize("centroid_bytes", [2, 4])
@pytest.mark.parametrize("place", [0, 7, 8, 20])
def test_a_record_of_no_centroid_is_an_error(body: Body, bits: int, centroid_bytes: int, place: int) -> None:
    table = some_table(32, bits, centroids=70, centroid_bytes=centroid_bytes)
    for wrong in (70, 2 ** (8 * centroid_bytes) - 1):
        ids = np.arange(21) % 70
        ids[place] = wrong
        records = pack(table, ids, np.ones(21), np.zeros((21, 4 * bits), np.uint8))
        with pytest.raises(IndexError):
            body.score_records(gaussian(4, 32), records, offsets_of([10, 11]), table)


@each_body
@pytest.mark.parametrize("unit", [False, True])
def test_zero_vectors_and_zero_tokens_score_zero(body: Body, unit: bool) -> None:
    rows = np.stack([np.zeros(16, np.float32), np.full(16, 0.25, np.float32)])
    table = code_table(rows, gaussian(1, 256)[0], bits=2, centroid_bytes=2, unit=unit)
    records = pack(table, np.array([0, 1]), np.zeros(2), np.zeros((2, 4), np.uint8))
    query = np.stack([np.zeros(16, np.float32), np.full(16, -0.25, np.float32)])
    scores = body.score_records(query, records, offsets_of([1, 1]), table)
    np.testing.assert_allclose(scores, [0, -1], atol=5e-3)
    assert scores[0] == 0


@each_body
def test_without_tokens_every_document_scores_zero_but_the_empty_one(body: Body) -> None:
    table = some_table(16, 2)
    scores = body.score_records(np.empty((0, 16), np.float32), random_records(table, 3), offsets_of([2, 0, 1]), table)
    assert scores.tolist() == [0, -np.inf, 0]


@each_body
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_no_records_at_all(body: Body, lengths: list[int]) -> None:
    table = some_table(16, 2)
    scores = body.score_records(gaussian(3, 16), np.empty((0, 8), np.uint8), offsets_of(lengths), table)
    assert scores.tolist() == [-np.inf] * len(lengths)


@each_body
def test_equal_documents_score_equal(body: Body) -> None:
    table = some_table(128, 2, unit=True)
    records = random_records(table, 37)
    scores = body.score_records(gaussian(32, 128), np.tile(records, (5, 1)), offsets_of([37] * 5), table)
    assert len(set(scores.tolist())) == 1


@each_body
def test_a_repeated_record_changes_no_score(body: Body) -> None:
    table = some_table(128, 4)
    records, query = random_records(table, 9), gaussian(12, 128)
    once = body.score_records(query, records, offsets_of([9]), table)
    assert np.array_equal(body.score_records(query, np.repeat(records, 3, axis=0), offsets_of([27]), table), once)


@each_body
def test_documents_longer_than_one_pass_keep_their_maximum(body: Body) -> None:
    table = some_table(16, 2, unit=True)
    records, query = random_records(table, 29_000), unit_rows(3, 16)
    best = by_definition(records[15_000:15_001], table)[0]
    query[0] = best
    scores = body.score_records(query, records, offsets_of([20_000, 0, 9_000]), table)
    expected = exact_scores(query, body_vectors(records, table), offsets_of([20_000, 0, 9_000]))
    np.testing.assert_allclose(scores, expected, atol=0.03)


def body_vectors(records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float64]:
    return np.asarray(BODIES[0].decode_records(records, table), np.float64)


@each_body
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("unit", [False, True])
def test_a_length_that_no_encoder_writes_is_cut_to_one_that_it_does(body: Body, bits: int, unit: bool) -> None:
    table = some_table(40, bits, unit=unit)
    codes, query = np.random.default_rng(0).integers(0, 256, (4, 5 * bits), dtype=np.uint8), gaussian(17, 40)

    def scores(*lengths: float) -> Any:
        records = pack(table, np.arange(4), np.array(lengths), codes)
        return body.score_records(query, records, offsets_of([1, 1, 1, 1]), table)

    assert np.array_equal(scores(np.inf, -np.inf, np.nan, -np.nan), scores(65504, -65504, 0, 0))
    assert np.isfinite(scores(np.inf, -np.inf, np.nan, -np.nan)).all()


@each_body
def test_levels_of_zero_leave_the_centroids(body: Body) -> None:
    rows = gaussian(5, 24)
    table = code_table(rows, np.zeros(256, np.float32), bits=2, centroid_bytes=2, unit=False)
    records = pack(table, np.arange(5), np.full(5, 65504), np.full((5, 6), 255, np.uint8))
    query, offsets = gaussian(3, 24, 1), offsets_of([1] * 5)
    scores = body.score_records(query, records, offsets, table)
    assert (np.abs(scores - (query @ rows.T).sum(axis=0)) <= margins(query, records, offsets, table) + 1e-5).all()


@each_body
def test_the_smallest_values_do_no_harm(body: Body) -> None:
    tiny = np.full((3, 16), np.finfo(np.float32).smallest_subnormal)
    table = code_table(tiny, tiny[0].repeat(16), bits=1, centroid_bytes=2, unit=False)
    records = pack(table, np.arange(3), np.array([0, 1, 65504]), np.zeros((3, 2), np.uint8))
    assert np.isfinite(body.score_records(tiny, records, offsets_of([1, 1, 1]), table)).all()


@each_body
@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("tokens", [1, 8, 9])
def test_a_residual_may_be_much_longer_than_its_centroid(body: Body, bits: int, tokens: int) -> None:
    """Around the length where 16 bits end and floating point begins."""
    dim = 48
    table = some_table(dim, bits, scale=1e-3)
    codes = np.random.default_rng(0).integers(0, 256, (400, dim * bits // 8), dtype=np.uint8)
    records = pack(table, np.arange(400) % 70, np.geomspace(1e-5, 1e-2, 400), codes)
    offsets, query = offsets_of([1] * 400), gaussian(tokens, dim)
    scores = body.score_records(query, records, offsets, table)
    expected = exact_scores(query, by_definition(records, table), offsets)
    assert (np.abs(scores - expected) <= margins(query, records, offsets, table) + 1e-5 * np.abs(expected)).all()


@each_body
@pytest.mark.parametrize("dim", [8, 48, 128, 1000])
def test_a_residual_may_be_largest_in_every_dimension(body: Body, dim: int) -> None:
    """Values that fit 16 bits, of vectors that do not: their squares fit 32 bits no more."""
    table = some_table(dim, 8, scale=1e-3)
    largest = [int(table.levels.argmax()), int(table.levels.argmin())]
    codes = np.repeat(np.array(largest, np.uint8), 200)[:, None].repeat(dim, axis=1)
    lengths = np.tile(np.geomspace(1e-6, 1e-1, 100), 4) * np.repeat([1, -1, 1, -1], 100)
    records, offsets, query = pack(table, np.arange(400) % 70, lengths, codes), offsets_of([1] * 400), gaussian(9, dim)
    scores = body.score_records(query, records, offsets, table)
    expected = exact_scores(query, by_definition(records, table), offsets)
    assert (np.abs(scores - expected) <= margins(query, records, offsets, table) + 1e-5 * np.abs(expected)).all()
    if body.instruction_set is not None:
        assert scores.tobytes() == BODIES[1].score_records(query, records, offsets, table).tobytes()


@each_body
def test_threads_at_the_same_time_score_as_one(body: Body) -> None:
    table = some_table(64, 2)
    records, queries = random_records(table, 900), [gaussian(tokens, 64, tokens) for tokens in range(1, 40)]
    offsets = offsets_of([9] * 100)

    def scores(query: NDArray[np.float32]) -> bytes:
        return bytes(body.score_records(query, records, offsets, table).tobytes())

    with body.in_use(), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(scores, queries)) == [scores(query) for query in queries]


@each_body
def test_arguments_are_left_as_they_are(body: Body) -> None:
    table, query = some_table(16, 2), gaussian(3, 16)
    records, offsets = random_records(table, 9), offsets_of([4, 5])
    for array in (query, records, offsets, table.centroids, table.levels):
        array.flags.writeable = False
    body.score_records(query, records, offsets, table)


class Edged:
    """Room that ends where no memory is: reading one byte beyond ends the process."""

    def __init__(self) -> None:
        self._size = 16 * mmap.PAGESIZE
        self._map = mmap.mmap(-1, self._size)
        self._bytes = np.frombuffer(self._map, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        edge = ctypes.c_void_p(self._bytes.ctypes.data + self._size - mmap.PAGESIZE)
        assert libc.mprotect(edge, mmap.PAGESIZE, 0) == 0

    def holding(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy that ends at the edge."""
        end = self._size - mmap.PAGESIZE
        copy = self._bytes[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
        copy[:] = array
        return copy


@each_native
@pytest.mark.parametrize("bits", ALL_WIDTHS)
@pytest.mark.parametrize("dim", [8, 9, 31, 33, 64, 100, 128])
def test_nothing_behind_the_arrays_is_read(body: Body, bits: int, dim: int) -> None:
    table = some_table(dim, bits, centroids=5)
    records, offsets, query = random_records(table, 5, residual=1e9), offsets_of([2, 3]), gaussian(9, dim)
    expected = body.score_records(query, records, offsets, table)
    rooms = [Edged() for _ in range(6)]
    moved = table._replace(centroids=rooms[0].holding(table.centroids), levels=rooms[1].holding(table.levels))
    moved = moved._replace(steps=rooms[5].holding(table.steps))
    query, records, offsets = rooms[2].holding(query), rooms[3].holding(records), rooms[4].holding(offsets)
    assert np.array_equal(body.score_records(query, records, offsets, moved), expected)


@each_native
def test_what_does_not_fit_is_refused_before_it_is_read(body: Body) -> None:
    table = some_table(16, 2)
    records, offsets, query = random_records(table, 9), offsets_of([4, 5]), gaussian(3, 16)
    wrong = [
        (query[:, :15], records, offsets, table),
        (query[0], records, offsets, table),
        (query, records[:, :-1], offsets, table),
        (query, records, np.array([0, 4, 10]), table),
        (query, records, np.array([-1, 4, 9]), table),
        (query, records, np.array([0, 400, 9]), table),
        (query, records, offsets, table._replace(bits=3)),
        (query, records, offsets, table._replace(bits=4)),
        (query, records, offsets, table._replace(bits=32)),
        (query, records, offsets, table._replace(bits=32, levels=table.levels[:0])),
        (query, records, offsets, table._replace(centroids=table.centroids.astype(np.float32))),
        (query, records, offsets, table._replace(centroid_bytes=4)),
        (query, records, offsets, table._replace(centroid_bytes=3)),
        (query, records, offsets, table._replace(levels=table.levels[:255])),
        (query, records, offsets, table._replace(steps=table.steps[:-1])),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match="native kernel"):
            body.score_records(*arguments)
    with pytest.raises(TypeError):
        body.score_records(query, records.astype(np.uint16), offsets, table)
    longer: Any = table.centroids.astype(np.int32)
    with pytest.raises(TypeError):
        body.score_records(query, records, offsets, table._replace(centroids=longer))
