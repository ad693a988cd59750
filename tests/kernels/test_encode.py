"""Coding on each body: the same codes and lengths to the last bit, whatever the values, the levels and the number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels import reference
from colindex.kernels.reference import decode_trellis
from colindex.kernels.reference.residuals import scaled_rows
from tests.kernels.bodies import Body, each_body, each_native
from tests.kernels.records import gaussian

WIDTHS = (1, 2, 4, 8)
DIMS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 64, 127, 128, 129, 136, 300)
ROWS = (0, 1, 4, 15, 16, 17, 37)

levels_of = st.sampled_from(["gaussian", "few values", "two values", "equal", "tiny", "huge"])


def some_levels(kind: str) -> NDArray[np.float32]:
    levels: NDArray[np.float32] = gaussian(1, 256, seed=1)[0]
    if kind == "few values":  # ties all over
        return np.asarray(np.round(levels * 2) / 2, np.float32)
    if kind == "two values":
        return np.asarray(np.sign(levels))
    return np.asarray(levels * np.float32({"equal": 0, "tiny": 1e-30, "huge": 1e15}.get(kind, 1)))


@st.composite
def rows_to_code(draw: st.DrawFn) -> NDArray[np.float32]:
    rows = gaussian(draw(st.sampled_from(ROWS)), draw(st.sampled_from(DIMS)), draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["plain", "few values", "far outside", "zeros among them", "tiny"]))
    if kind == "few values":
        rows = np.asarray(np.round(rows * 2) / 2, np.float32)
    if kind == "far outside":
        rows *= np.float32(1e20)
    if kind == "zeros among them":
        rows[::3] = 0
    return rows * np.float32(1e-30) if kind == "tiny" else rows


@each_native
@given(rows=rows_to_code(), kind=levels_of, bits=st.sampled_from(WIDTHS))
@settings(max_examples=60)
def test_codes_are_the_references(body: Body, rows: NDArray[np.float32], kind: str, bits: int) -> None:
    levels = some_levels(kind)
    codes = body.encode_trellis(rows, levels, bits)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, reference.encode_trellis(rows, levels, bits))


@each_native
@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_of_many_rows_are_the_references(body: Body, bits: int) -> None:
    rows, levels = gaussian(1000, 128), some_levels("gaussian")
    assert np.array_equal(body.encode_trellis(rows, levels, bits), reference.encode_trellis(rows, levels, bits))


@each_native
@given(
    rows=rows_to_code(),
    bits=st.sampled_from(WIDTHS),
    scale=st.sampled_from([1e-38, 1e-20, 1e-3, 1.0, 1e3, 1e18]),
)
@settings(max_examples=60)
def test_lengths_are_the_references_to_the_last_bit(
    body: Body, rows: NDArray[np.float32], bits: int, scale: float
) -> None:
    with np.errstate(over="ignore"):
        rows = np.nan_to_num(rows * np.float32(scale))
    levels = some_levels("gaussian")
    codes, lengths = body.encode_residuals(rows, levels, bits)
    expected_codes, expected = reference.encode_residuals(rows, levels, bits)
    assert lengths.dtype == expected.dtype == np.float32
    assert np.array_equal(codes, expected_codes)
    assert np.array_equal(lengths, expected, equal_nan=True)


@each_body
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_decoded_residual_has_the_length_of_the_residual(body: Body, bits: int) -> None:
    residuals = gaussian(50, 64) * np.float32(0.01)
    codes, lengths = body.encode_residuals(residuals, some_levels("gaussian"), bits)
    decoded = lengths[:, None] * decode_trellis(codes, some_levels("gaussian"), bits, 64)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), np.linalg.norm(residuals, axis=1), rtol=1e-5)


@each_body
def test_a_residual_of_zeros_has_no_length(body: Body) -> None:
    _, lengths = body.encode_residuals(np.zeros((3, 16), np.float32), some_levels("gaussian"), 2)
    assert not lengths.any()


@each_body
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_row_knows_nothing_of_its_neighbours(body: Body, bits: int) -> None:
    rows, levels = gaussian(40, 24), some_levels("few values")
    codes, lengths = body.encode_residuals(rows, levels, bits)
    for part in (slice(0, 1), slice(3, 20), slice(17, 40)):
        some_codes, some_lengths = body.encode_residuals(rows[part], levels, bits)
        assert np.array_equal(some_codes, codes[part])
        assert np.array_equal(some_lengths, lengths[part])


@each_body
def test_rows_in_pieces_are_coded_as_rows_in_one(body: Body) -> None:
    rows, levels = gaussian(20, 40), some_levels("gaussian")
    assert np.array_equal(body.encode_trellis(np.asfortranarray(rows), levels, 2), body.encode_trellis(rows, levels, 2))
    for found, expected in zip(
        body.encode_residuals(np.asfortranarray(rows), levels, 2), body.encode_residuals(rows, levels, 2), strict=True
    ):
        assert np.array_equal(found, expected)


@each_native
@pytest.mark.parametrize(
    ("rows", "levels", "bits"),
    [
        (np.zeros(8), np.zeros(256), 2),
        (np.zeros((2, 8)), np.zeros(255), 2),
        (np.zeros((2, 8)), np.zeros(256), 3),
        (np.zeros((2, 8)), np.full(256, np.inf), 2),
    ],
)
def test_other_shapes_are_refused(
    body: Body, rows: NDArray[np.float64], levels: NDArray[np.float64], bits: int
) -> None:
    for kernel in (body.encode_trellis, body.encode_residuals):
        with pytest.raises(ValueError, match="native kernel"):
            kernel(rows.astype(np.float32), levels.astype(np.float32), bits)


def test_scaled_rows_have_root_mean_square_one() -> None:
    scaled, divisors = scaled_rows(gaussian(20, 33) * np.float32(1e-20))
    np.testing.assert_allclose(np.square(scaled).mean(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(scaled * divisors[:, None], gaussian(20, 33) * np.float32(1e-20), rtol=1e-5)
