"""The trellis code: the encoder against brute force, the decoder against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.kernels.reference import decode_records, decode_trellis, encode_trellis, trellis_states
from colindex.kernels.tables import code_table
from tests.kernels.records import by_definition, gaussian, pack, random_records, some_table, states

WIDTHS = (1, 2, 4, 8)
GOLDEN = {
    1: "bcab",
    2: "2f76ee51",
    4: "788a1224901899b2",
    8: "6878dbebfb0b1b2b3b4b081828384858",
}


def some_levels(seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(256).astype(np.float32)


def error(scaled: NDArray[np.float32], decoded: NDArray[np.float32]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.square(scaled.astype(np.float64) - decoded).sum(axis=1)
    return distances


@given(
    bits=st.sampled_from(WIDTHS),
    dim=st.integers(1, 40),
    data=st.data(),
)
def test_a_state_is_the_last_8_bits_of_the_stream(bits: int, dim: int, data: st.DataObject) -> None:
    size = -(-dim * bits // 8)
    code = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8)[None]
    assert trellis_states(code, bits, dim)[0].tolist() == states(code[0], bits, dim)


@pytest.mark.parametrize(("bits", "dim"), [(1, 11), (2, 6), (4, 3), (8, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_code_lies_nearer(bits: int, dim: int, seed: int) -> None:
    levels, scaled = some_levels(seed), gaussian(5, dim, seed)
    symbols = np.array(list(itertools.product(range(1 << bits), repeat=dim)), np.uint8)
    spelled = (symbols[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    every_code = np.packbits(spelled.reshape(len(symbols), -1), axis=1)
    nearest = np.array([error(row[None], decode_trellis(every_code, levels, bits, dim)).min() for row in scaled])
    found = error(scaled, decode_trellis(encode_trellis(scaled, levels, bits), levels, bits, dim))
    # values are rounded to a grid before the search, which may swap two codes that are equally near but for 1e-3
    np.testing.assert_allclose(found, nearest, atol=0.02 * dim)
    assert (found <= nearest + 1e-9).mean() >= 0.8


def least_error(values: NDArray[np.float32], levels: NDArray[np.float32], bits: int) -> float:
    """The error of the best code of one vector: Viterbi in float64, states in their own order."""
    before = np.arange(256)
    after = (before[:, None] << bits | np.arange(1 << bits)) % 256  # [state, what is written]
    costs = np.where(before == 0, 0.0, np.inf)
    for value in values.astype(np.float64):
        reached = np.full(256, np.inf)
        np.minimum.at(reached, after, costs[:, None] + np.square(value - levels[after]))
        costs = reached
    return float(costs.min())


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("outliers", "slack"), [(1.0, 0.01), (20.0, 0.05)])
def test_long_vectors_take_the_best_code(bits: int, outliers: float, slack: float) -> None:
    dim = 300
    levels, scaled = some_levels(), gaussian(6, dim)
    scaled[:, ::37] *= outliers
    found = error(scaled, decode_trellis(encode_trellis(scaled, levels, bits), levels, bits, dim))
    best = np.array([least_error(row, levels, bits) for row in scaled])
    assert (found >= best * (1 - 1e-5)).all()
    assert (found <= best * (1 + slack) + 1e-3).all()  # values far outside the levels are clipped


def test_the_code_of_a_vector_never_changes() -> None:
    """Bytes in an index are for ever: the same vector takes the same code in each version and on each machine."""
    levels = ((np.arange(256) * 37 % 256 - 127.5) / 64).astype(np.float32)
    vector = ((np.arange(16) * 5 % 16 - 7.5) / 4).astype(np.float32)[None]
    codes = {bits: encode_trellis(vector, levels, bits).tobytes().hex() for bits in WIDTHS}
    assert codes == GOLDEN


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_decoded_vector_on_the_grid_is_coded_without_error(bits: int) -> None:
    levels = (np.random.default_rng(2).permutation(256) / np.float32(128) - 1).astype(np.float32)
    size = 5
    codes = np.random.default_rng(3).integers(0, 256, (50, size), dtype=np.uint8)
    directions = decode_trellis(codes, levels, bits, size * 8 // bits)
    again = decode_trellis(encode_trellis(directions, levels, bits), levels, bits, size * 8 // bits)
    assert error(directions, again).max() < 1e-3


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_code_of_a_vector_does_not_depend_on_its_neighbours(bits: int) -> None:
    levels, scaled = some_levels(), gaussian(600, 12)
    together = encode_trellis(scaled, levels, bits)
    for row in (0, 255, 256, 599):
        assert (encode_trellis(scaled[row : row + 1], levels, bits) == together[row]).all()
    assert (encode_trellis(scaled[::-1], levels, bits)[::-1] == together).all()


@pytest.mark.parametrize(("bits", "dim", "unused"), [(1, 9, 7), (2, 9, 6), (4, 9, 4), (1, 15, 1), (2, 11, 2)])
def test_bits_after_the_last_dimension_are_zero(bits: int, dim: int, unused: int) -> None:
    codes = encode_trellis(gaussian(300, dim), some_levels(), bits)
    assert codes.shape == (300, 2 if bits == 1 else -(-dim * bits // 8))
    assert (codes[:, -1] & ((1 << unused) - 1) == 0).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_no_vectors_have_no_codes(bits: int) -> None:
    codes = encode_trellis(np.empty((0, 16), np.float32), some_levels(), bits)
    assert codes.shape == (0, 2 * bits)
    assert decode_trellis(codes, some_levels(), bits, 16).shape == (0, 16)


@pytest.mark.parametrize("bits", WIDTHS)
def test_values_far_outside_the_levels_take_the_outermost(bits: int) -> None:
    levels = np.linspace(-2, 2, 256, dtype=np.float32)
    far = np.full((2, 8), 1e30, np.float32) * np.array([[1], [-1]], np.float32)
    decoded = decode_trellis(encode_trellis(far, levels, bits), levels, bits, 8)
    assert decoded[0, -1] > 1.9
    assert decoded[1, -1] < -1.9


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_the_scale_of_the_levels_does_not_matter(bits: int, scale: float) -> None:
    levels, scaled = some_levels(), gaussian(50, 16)
    shrunk = encode_trellis(scaled * np.float32(scale), levels * np.float32(scale), bits)
    same = (shrunk == encode_trellis(scaled, levels, bits)).all(axis=1)
    assert same.mean() > 0.9  # rounding of the product may move a value across a step of the grid


@pytest.mark.parametrize("bits", WIDTHS)
def test_equal_levels_cost_nothing_to_tell_apart(bits: int) -> None:
    assert (encode_trellis(gaussian(3, 16), np.zeros(256, np.float32), bits) == 0).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("centroid_bytes", [2, 4])
@pytest.mark.parametrize("unit", [False, True])
def test_a_record_is_its_centroid_and_its_scaled_direction(bits: int, centroid_bytes: int, unit: bool) -> None:
    table = some_table(12, bits, centroid_bytes=centroid_bytes, unit=unit)
    records = random_records(table, 40, residual=3)
    decoded = decode_records(records, table)
    assert (decode_records(records[7:8], table)[0] == decoded[7]).all()
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, by_definition(records, table), rtol=1e-5, atol=1e-6)


def test_more_records_than_are_decoded_at_a_time() -> None:
    table = some_table(8, 2)
    records = random_records(table, 2500)
    apart = [decode_records(records[first : first + 7], table) for first in range(0, 2500, 7)]
    assert np.array_equal(decode_records(records, table), np.concatenate(apart))


def test_a_record_of_a_zero_vector_decodes_to_zero() -> None:
    table = code_table(np.zeros((1, 16), np.float32), some_levels(), bits=2, centroid_bytes=2, unit=True)
    assert not decode_records(np.zeros((1, 8), np.uint8), table).any()


def test_a_record_of_no_centroid_is_an_error() -> None:
    table = some_table(16, 2, centroids=70)
    records = pack(table, np.array([69, 70]), np.ones(2), np.zeros((2, 4), np.uint8))
    decode_records(records[:1], table)
    with pytest.raises(IndexError):
        decode_records(records, table)


def test_a_length_that_no_encoder_writes_is_cut_to_one_that_it_does() -> None:
    table, codes = some_table(16, 2), np.arange(12, dtype=np.uint8).reshape(3, 4)
    strange, plain = (
        pack(table, np.arange(3), np.array(lengths), codes)
        for lengths in ([np.inf, -np.inf, np.nan], [65504, -65504, 0])
    )
    assert np.array_equal(decode_records(strange, table), decode_records(plain, table))


def test_arguments_are_left_as_they_are() -> None:
    scaled, levels = gaussian(10, 16), some_levels()
    scaled.flags.writeable = levels.flags.writeable = False
    codes = encode_trellis(scaled, levels, 2)
    codes.flags.writeable = False
    decode_trellis(codes, levels, 2, 16)
