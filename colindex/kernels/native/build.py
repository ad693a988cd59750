"""The kernels of a build in C++: the names, signatures and answers, to the last bit, of `colindex.kernels.reference`.

Here shapes are checked and arrays brought into one piece, so that the C++ code may trust its pointers.

One answer may differ: where two merges of `ward_labels` are equally near but for float32 rounding, BLAS decides the
reference's, and sums in order of the dimensions the native one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.native import _native
from colindex.kernels.reference.codes import level_grid
from colindex.kernels.reference.project import SIDE_BY_SIDE

__all__ = ["add_rows", "encode_residuals", "encode_trellis", "nearest", "project", "ward_labels"]

_MOST_NEAREST = 8
_MOST_DIMS = 1 << 20
_WIDTHS = (1, 2, 4, 8)


def encode_trellis(scaled: NDArray[np.float32], levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """See `colindex.kernels.reference.codes`."""
    scaled, of_levels = _rows(scaled), _levels(levels, bits)
    codes = np.empty((len(scaled), _code_bytes(scaled, bits)), np.uint8)
    _native.encode_trellis(scaled, *of_levels, bits, codes)
    return codes


def encode_residuals(
    residuals: NDArray[np.float32], levels: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """See `colindex.kernels.reference.residuals`."""
    residuals, of_levels = _rows(residuals), _levels(levels, bits)
    codes = np.empty((len(residuals), _code_bytes(residuals, bits)), np.uint8)
    lengths = np.zeros(len(residuals), np.float32)
    _native.encode_residuals(residuals, *of_levels, bits, codes, lengths)
    return codes, lengths


def nearest(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    centroids: NDArray[np.float32],
    centroid_offsets: NDArray[np.int64],
    count: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """See `colindex.kernels.reference.assign`."""
    vectors, centroids, rows = _rows(vectors), _rows(centroids), np.ascontiguousarray(rows, np.int64)
    row_offsets = _offsets(row_offsets, len(rows), "row offsets")
    centroid_offsets = _offsets(centroid_offsets, len(centroids), "centroid offsets")
    _check(vectors.shape[1] == centroids.shape[1] and len(row_offsets) == len(centroid_offsets), "groups or dims")
    _check(1 <= count <= _MOST_NEAREST, "count")
    enough = np.diff(centroid_offsets)[np.diff(row_offsets) > 0] >= count
    _check(bool(enough.all()), "group with too few centroids")
    _check_below(rows, len(vectors), "rows")
    ids, scores = np.empty((len(rows), count), np.int32), np.empty((len(rows), count), np.float64)
    _native.nearest(vectors, rows, row_offsets, centroids, centroid_offsets, ids, scores)
    return ids, scores


def add_rows(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], ids: NDArray[np.int32], n_sums: int
) -> NDArray[np.float64]:
    """See `colindex.kernels.reference.assign`."""
    vectors, rows, ids = _rows(vectors), np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(ids, np.int32)
    _check(rows.shape == ids.shape and rows.ndim == 1, "rows or ids")
    _check_below(rows, len(vectors), "rows")
    _check_below(ids, n_sums, "ids")
    sums = np.zeros((n_sums, vectors.shape[1]), np.float64)
    _native.add_rows(vectors, rows, ids, sums)
    return sums


def project(vectors: NDArray[Any], columns: NDArray[np.float64], dim: int, unit: bool) -> NDArray[np.float32]:
    """See `colindex.kernels.reference.project`."""
    half = vectors.dtype == np.float16
    vectors = np.ascontiguousarray(vectors, np.float16 if half else np.float32)
    _check(columns.shape == (-(-dim // SIDE_BY_SIDE), vectors.shape[-1], SIDE_BY_SIDE), "columns")
    _check(vectors.ndim == 2, "vectors")
    projected = np.empty((len(vectors), dim), np.float32)
    _native.project(vectors, half, columns, unit, projected)
    return projected


def ward_labels(vectors: NDArray[np.float32], n_clusters: int) -> NDArray[np.int32]:
    """See `colindex.kernels.reference.ward`."""
    vectors = _rows(vectors)
    if n_clusters >= len(vectors):
        return np.arange(len(vectors), dtype=np.int32)
    labels = np.zeros(len(vectors), np.int32)
    if n_clusters > 1:
        _native.ward_labels(vectors, n_clusters, labels)
    return labels


def _levels(levels: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float32], NDArray[np.int32], float, float]:
    """The levels, the same in whole numbers, steps in one unit, and how far values may lie from zero."""
    _check(levels.shape == (256,) and bits in _WIDTHS and bool(np.isfinite(levels).all()), "levels or bits")
    levels = np.ascontiguousarray(levels, np.float32)
    step, reach = level_grid(levels, bits)
    return levels, np.rint(levels.astype(np.float64) * step).astype(np.int32), step, reach


def _code_bytes(rows: NDArray[np.float32], bits: int) -> int:
    return int(-(-rows.shape[1] * bits // 8))


def _rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    _check(rows.ndim == 2 and rows.shape[1] < _MOST_DIMS, "rows")
    return np.ascontiguousarray(rows, np.float32)


def _offsets(offsets: NDArray[Any], end: int, what: str) -> NDArray[np.int64]:
    offsets = np.ascontiguousarray(offsets, np.int64)
    fits = offsets.ndim == 1 and len(offsets) >= 1 and bool(offsets[0] >= 0 and offsets[-1] <= end)
    _check(fits and bool((np.diff(offsets) >= 0).all()), what)
    return offsets


def _check_below(numbers: NDArray[Any], bound: int, what: str) -> None:
    _check(not numbers.size or 0 <= int(numbers.min()) <= int(numbers.max()) < bound, what)


def _check(fits: bool, what: str) -> None:
    """A wrong shape is a mistake in colindex, not in its input: but it must not become a wild pointer."""
    if not fits:
        raise ValueError(f"native kernel: {what} of another shape or type than it takes")
