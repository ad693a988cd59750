"""Tables of whole numbers: near the float32 values that they stand for, whatever those are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex.kernels.tables import CodeTable, code_table, probe_table
from tests.kernels.records import gaussian, some_table

SCALES = (1e-30, 1e-20, 1e-3, 1.0, 1e5, 1e20, 1e36)


def codes_of(centroids: NDArray[np.float32], bits: int = 8) -> CodeTable:
    return code_table(centroids, np.zeros(256, np.float32), bits=bits, centroid_bytes=2, unit=False)


@pytest.mark.parametrize("dim", [8, 9, 10, 11, 128, 1024])
@pytest.mark.parametrize("scale", SCALES)
def test_probing_keeps_each_value_to_half_a_step_of_its_centroid(dim: int, scale: float) -> None:
    centroids = gaussian(20, dim) * np.float32(scale)
    table = probe_table(centroids, np.ones(20, np.float32))
    assert table.rows().shape == (20, -(-dim // 4) * 4)
    found = (table.rows()[:, :dim].astype(np.float64) - 128) * table.steps[:, None]
    largest = np.abs(centroids).max(axis=1, keepdims=True)
    assert (np.abs(found - centroids) <= 0.501 / 127 * largest).all()
    assert (table.rows()[:, dim:] == 128).all()  # zero


def in_order(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All values of blocks, centroid by centroid."""
    return blocks.transpose(0, 2, 1, 3).reshape(-1, 4 * blocks.shape[1])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097, 8192])
def test_sixteen_centroids_lie_side_by_side(count: int) -> None:
    """In parts or at once, and with room past the last that counts as zero."""
    values = np.random.default_rng(count).integers(-127, 128, (count, 10))
    values[:, 0] = 127
    table = probe_table(values.astype(np.float32), np.zeros(count, np.float32))
    blocks = 2 * -(-count // 32)
    assert table.values.shape == (blocks, 3, 16, 4)
    assert np.array_equal(table.rows()[:, :10], values + 128)
    assert all(np.array_equal(table.values[c // 16, 1, c % 16], values[c, 4:8] + 128) for c in range(count))
    assert (in_order(table.values)[count:] == 128).all()


@pytest.mark.parametrize("dim", [8, 9, 128, 1024])
@pytest.mark.parametrize("scale", SCALES)
def test_decoding_keeps_each_value_to_half_a_step_of_the_longest(dim: int, scale: float) -> None:
    centroids = gaussian(20, dim) * np.float32(scale)
    table = codes_of(centroids)
    longest = np.linalg.norm(centroids.astype(np.float64), axis=1).max()
    assert table.centroids.dtype == np.int16
    assert (np.abs(table.centroids * table.steps[0] - centroids.astype(np.float64)) <= 0.501 / 8191 * longest).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("count", [1, 4095, 4097])
def test_decoding_codes_of_few_bits_takes_centroids_in_bytes(bits: int, scale: float, count: int) -> None:
    centroids = gaussian(count, 12) * np.float32(scale)
    table = codes_of(centroids, bits)
    assert table.centroids.dtype == np.int8
    assert table.centroids.ctypes.data % 64 == 0  # a row in as few lines of the cache as can be
    largest = np.abs(centroids).max(axis=1, keepdims=True)
    assert (
        np.abs(table.centroids * table.steps[:, None].astype(np.float64) - centroids) <= 0.501 / 127 * largest
    ).all()


@pytest.mark.parametrize("spike", [False, True])
def test_no_centroid_is_longer_than_leaves_room_for_a_residual(spike: bool) -> None:
    centroids = gaussian(50, 64)
    if spike:
        centroids[3] = np.eye(1, 64)[0] * 1000
    wholes = codes_of(centroids).centroids.astype(np.float64)
    assert np.linalg.norm(wholes, axis=1).max() <= 8191 + 64**0.5 / 2


@pytest.mark.parametrize("value", [0.0, np.finfo(np.float32).smallest_subnormal, 1e-42])
def test_vanishing_centroids_have_steps_that_can_be_divided_by(value: float) -> None:
    centroids = np.full((3, 16), value, np.float32)
    table = codes_of(centroids)
    assert table.steps.min() >= np.finfo(np.float32).tiny
    assert np.abs(table.centroids * table.steps[:, None] - centroids).max() <= np.finfo(np.float32).tiny
    probes = probe_table(centroids, np.zeros(3, np.float32))
    assert np.isfinite(probes.steps).all()
    assert np.abs((probes.rows() - 128.0) * probes.steps[:, None] - centroids).max() <= 1e-40


def test_negated_centroids_have_negated_values() -> None:
    centroids = gaussian(30, 16)
    spreads = np.zeros(30, np.float32)
    values, negated = (probe_table(rows, spreads).rows().astype(int) - 128 for rows in (centroids, -centroids))
    assert np.array_equal(values, -negated)


def test_the_room_that_tables_take_is_that_of_their_arrays() -> None:
    assert probe_table(gaussian(100, 10), np.ones(100, np.float32)).nbytes == 128 * 12 + 100 * (4 + 4)
    assert some_table(10, 2, centroids=100).nbytes == 100 * (10 + 4) + 256 * 4
    assert some_table(10, 8, centroids=100).nbytes == 100 * (20 + 4) + 256 * 4


def test_arguments_are_left_as_they_are() -> None:
    centroids = gaussian(5, 8)
    centroids.flags.writeable = False
    probe_table(centroids, np.ones(5, np.float32))
    codes_of(centroids)
