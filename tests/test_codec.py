"""The residual codec and the record layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from colindex.codec import Codec, codec_from_arrays, train_codec
from colindex.errors import ParameterError, VectorError
from colindex.records import RecordLayout

WIDTHS = (1, 2, 4, 8)
# Squared error of the best scalar levels for a Gaussian (Max, 1960): what a trellis code has to beat.
LLOYD_MAX = {1: 0.3634, 2: 0.1175, 4: 0.0095}


def gaussian(rows: int, dim: int = 64, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def codecs() -> dict[int, Codec]:
    return {bits: train_codec(gaussian(2000), bits, seed=0, threads=2) for bits in WIDTHS}


def relative_error(codec: Codec, residuals: NDArray[np.float32]) -> float:
    decoded = codec.decode(*codec.encode(residuals))
    return float(np.square(decoded - residuals).sum() / np.square(residuals).sum())


@pytest.mark.parametrize(("bits", "bound"), [(1, 0.32), (2, 0.083), (4, 0.0066), (8, 1e-4)])
def test_the_error_on_gaussian_residuals(codecs: dict[int, Codec], bits: int, bound: float) -> None:
    error = relative_error(codecs[bits], gaussian(500, seed=7))
    assert error < bound
    assert bits not in LLOYD_MAX or error < 0.88 * LLOYD_MAX[bits]


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_depend_on_neither_neighbours_nor_threads(codecs: dict[int, Codec], bits: int) -> None:
    residuals = gaussian(5000 if bits == 2 else 300)
    codes, lengths = codecs[bits].encode(residuals)
    for rows in (slice(0, 1), slice(3, 260), slice(len(residuals) - 1, None)):
        some_codes, some_lengths = codecs[bits].encode(residuals[rows], threads=3)
        assert (some_codes == codes[rows]).all()
        assert (some_lengths == lengths[rows]).all()
    other_order, _ = codecs[bits].encode(np.asfortranarray(residuals), threads=2)
    assert (other_order == codes).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_training_is_repeatable(bits: int) -> None:
    sample = gaussian(300)
    first, second = (train_codec(sample, bits, seed=3, threads=threads) for threads in (1, 3))
    assert (first.arrays()["levels"] == second.arrays()["levels"]).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_codec_comes_back_from_its_arrays(codecs: dict[int, Codec], bits: int) -> None:
    codec = codecs[bits]
    again = codec_from_arrays(codec.name, bits, codec.dim, codec.arrays())
    codes, lengths = codec.encode(gaussian(20))
    assert (again.decode(codes, lengths) == codec.decode(codes, lengths)).all()
    assert (again.encode(gaussian(20))[0] == codes).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_zero_residuals_decode_to_zero(codecs: dict[int, Codec], bits: int) -> None:
    residuals = gaussian(5)
    residuals[2] = 0
    codes, lengths = codecs[bits].encode(residuals)
    assert lengths[2] == 0
    assert not codes[2].any()
    assert not codecs[bits].decode(codes, lengths)[2].any()
    assert lengths[[0, 1, 3, 4]].all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_error_does_not_depend_on_the_length(codecs: dict[int, Codec], scale: float) -> None:
    assert relative_error(codecs[2], gaussian(200) * np.float32(scale)) == pytest.approx(
        relative_error(codecs[2], gaussian(200)), rel=0.02
    )


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-9, 1e6, 1e30, 3e37])
def test_lengths_beyond_float16_saturate(codecs: dict[int, Codec], bits: int, scale: float) -> None:
    codes, lengths = codecs[bits].encode(gaussian(10) * np.float32(scale))
    decoded = codecs[bits].decode(codes, lengths)
    assert np.isfinite(decoded).all()
    assert (lengths == 0).all() if scale < 1 else (lengths == np.float16(65504)).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dim", [8, 9, 13, 31, 1024])
def test_any_dim_round_trips(bits: int, dim: int) -> None:
    residuals = gaussian(40, dim)
    codec = train_codec(residuals, bits, seed=0, threads=1)
    codes, _ = codec.encode(residuals)
    assert codes.shape == (40, codec.code_bytes) == (40, -(-dim * bits // 8))
    assert relative_error(codec, residuals) < {1: 0.55, 2: 0.2, 4: 0.02, 8: 1e-3}[bits]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_constant_residuals(bits: int, value: float) -> None:
    residuals = np.full((50, 16), value, np.float32)
    codec = train_codec(residuals, bits, seed=0, threads=1)
    np.testing.assert_allclose(codec.decode(*codec.encode(residuals)), residuals, rtol=0.1)


@pytest.mark.parametrize("bits", WIDTHS)
def test_one_residual_is_enough_to_train(bits: int) -> None:
    codec = train_codec(gaussian(1, 8), bits, seed=0, threads=1)
    assert np.isfinite(codec.decode(*codec.encode(gaussian(10, 8)))).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_no_residuals_have_no_codes(codecs: dict[int, Codec], bits: int) -> None:
    codes, lengths = codecs[bits].encode(np.empty((0, 64), np.float32), threads=2)
    assert codes.shape == (0, codecs[bits].code_bytes)
    assert codecs[bits].decode(codes, lengths).shape == (0, 64)


@given(
    bits=st.sampled_from(WIDTHS),
    rows=st.lists(st.lists(st.floats(-100, 100, width=32), min_size=8, max_size=8), min_size=1, max_size=5),
)
def test_a_decoded_residual_has_the_length_of_the_residual(
    codecs: dict[int, Codec], bits: int, rows: list[list[float]]
) -> None:
    residuals = np.array(rows, np.float32)
    codec = codec_from_arrays("trellis", bits, 8, codecs[bits].arrays())
    decoded = codec.decode(*codec.encode(residuals))
    expected = np.linalg.norm(residuals.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("bits", [0, 3, 16, -1])
def test_an_odd_number_of_bits_is_refused(bits: int) -> None:
    with pytest.raises(ParameterError, match="expected one of 1, 2, 4, 8, 32"):
        train_codec(gaussian(3), bits, seed=0, threads=1)


def test_residuals_of_another_dim_are_refused(codecs: dict[int, Codec]) -> None:
    with pytest.raises(VectorError, match=r"expected shape \[n, 64\], got \(3, 32\)"):
        codecs[2].encode(gaussian(3, 32))


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(VectorError, match="n >= 1"):
        train_codec(np.empty((0, 16), np.float32), 2, seed=0, threads=1)


def test_arrays_of_another_codec_are_refused(codecs: dict[int, Codec]) -> None:
    with pytest.raises(ParameterError, match="expected 'trellis', or 'plain' at 32 bits, got 'pq' at 2"):
        codec_from_arrays("pq", 2, 64, codecs[2].arrays())
    with pytest.raises(ParameterError, match="expected an array 'levels'"):
        codec_from_arrays("trellis", 2, 64, {})
    with pytest.raises(ParameterError, match="expected 256 finite float32"):
        codec_from_arrays("trellis", 2, 64, {"levels": np.zeros(16, np.float32)})


class TestPlainCodec:
    """32 bits: nothing is coded."""

    def test_vectors_come_back_to_the_bit_whatever_their_centroids(self) -> None:
        codec, vectors = train_codec(gaussian(3), 32, seed=0, threads=1), gaussian(70)
        vectors[0] = 0
        centroids, assigned = gaussian(5, seed=1), np.arange(70, dtype=np.uint32) % 5
        codes, lengths = codec.encode_around(vectors, centroids, assigned, threads=2)
        assert codes.shape == (70, codec.code_bytes) == (70, 256)
        assert (lengths == 1).all()
        assert codec.decode(codes, lengths).tobytes() == vectors.tobytes()
        assert codec.encode(np.asfortranarray(vectors))[0].tobytes() == codes.tobytes()

    def test_it_is_made_again_from_its_name(self) -> None:
        codec = train_codec(gaussian(3), 32, seed=0, threads=1)
        assert codec_from_arrays(codec.name, codec.bits, codec.dim, codec.arrays()) == codec
        assert not len(codec.levels)
        for name, bits in (("plain", 8), ("trellis", 32)):
            with pytest.raises(ParameterError):
                codec_from_arrays(name, bits, 64, {"levels": np.zeros(256, np.float32)})

    def test_vectors_of_another_dim_are_refused(self) -> None:
        with pytest.raises(VectorError, match=r"expected shape \[n, 64\], got \(3, 32\)"):
            train_codec(gaussian(3), 32, seed=0, threads=1).encode(gaussian(3, 32))


class TestRecordLayout:
    @pytest.mark.parametrize(
        ("n_centroids", "bits", "expected"),
        [(1, 2, 36), (65_536, 2, 36), (65_537, 2, 38), (70_000, 4, 70), (9, 1, 20), (9, 32, 516)],
    )
    def test_bytes_of_a_record_at_128_dimensions(self, n_centroids: int, bits: int, expected: int) -> None:
        assert RecordLayout(dim=128, bits=bits, n_centroids=n_centroids).record_bytes == expected

    def test_the_bytes_are_little_endian_and_side_by_side(self) -> None:
        layout = RecordLayout(dim=8, bits=2, n_centroids=70_000)
        records = layout.pack(
            np.array([0x01020304 % 70_000], np.uint32), np.array([1.5], np.float16), np.array([[7, 9]], np.uint8)
        )
        assert records.tobytes() == (0x01020304 % 70_000).to_bytes(4, "little") + b"\x00\x3e" + b"\x07\x09"

    @given(
        dim=st.integers(8, 70),
        bits=st.sampled_from(WIDTHS),
        n_centroids=st.sampled_from([1, 300, 65_536, 65_537, 2**24]),
        count=st.integers(0, 20),
        seed=st.integers(0, 99),
    )
    def test_records_unpack_to_what_was_packed(
        self, dim: int, bits: int, n_centroids: int, count: int, seed: int
    ) -> None:
        layout, rng = RecordLayout(dim=dim, bits=bits, n_centroids=n_centroids), np.random.default_rng(seed)
        centroids = rng.integers(0, n_centroids, count).astype(np.uint32)
        lengths = rng.random(count).astype(np.float16)
        codes = rng.integers(0, 256, (count, layout.code_bytes), dtype=np.uint8)
        records = layout.pack(centroids, lengths, codes)
        assert records.shape == (count, layout.record_bytes)
        unpacked = layout.unpack(records)
        assert [part.dtype for part in unpacked] == [np.uint32, np.float16, np.uint8]
        for before, after in zip((centroids, lengths, codes), unpacked, strict=True):
            np.testing.assert_array_equal(after, before)

    def test_unpacking_copies_no_code(self) -> None:
        layout = RecordLayout(dim=16, bits=2, n_centroids=70_000)
        records = np.zeros((3, layout.record_bytes), np.uint8)
        assert all(np.shares_memory(part, records) for part in layout.unpack(records))

    def test_records_of_another_layout_are_refused(self) -> None:
        with pytest.raises(VectorError, match=r"expected uint8 of shape \[n, 8\]"):
            RecordLayout(dim=16, bits=2, n_centroids=10).unpack(np.zeros((3, 9), np.uint8))

    def test_parts_that_do_not_fit_are_refused(self) -> None:
        layout = RecordLayout(dim=16, bits=2, n_centroids=10)
        ids, lengths, codes = np.zeros(3, np.uint32), np.zeros(3, np.float16), np.zeros((3, 4), np.uint8)
        with pytest.raises(VectorError, match="expected 3 lengths"):
            layout.pack(ids, lengths[:2], codes)
        with pytest.raises(VectorError, match="expected below 10, got 10"):
            layout.pack(ids + np.uint32(10), lengths, codes)

    @pytest.mark.parametrize(("dim", "bits", "n_centroids"), [(0, 2, 1), (8, 3, 1), (8, 2, 0), (8, 2, 2**32 + 1)])
    def test_layouts_out_of_range_are_refused(self, dim: int, bits: int, n_centroids: int) -> None:
        with pytest.raises(ParameterError, match="record layout"):
            RecordLayout(dim=dim, bits=bits, n_centroids=n_centroids)
