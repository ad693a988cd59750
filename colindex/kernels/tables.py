"""What a search multiplies with: centroids and levels, in whole numbers.

A centroid is kept twice, once for each use, in less room than float32 takes once:

- for probing in 8 bits, with a step of its own: an error of some 1e-3 of its length, which the choice of candidates does not
  notice;
- for decoding in 16 bits, in one step for all: the longest centroid is 8,191 steps long, so that a vector four times as long
  fits 16 bits, and its dot product with a query of 16 bits fits 32. An error of some 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CodeTable", "ProbeTable", "code_table", "probe_table"]

_BYTE = 127
_MIDDLE = 128
_LONGEST = 8191
_ROWS = 4096
_SMALLEST = float(np.finfo(np.float32).tiny)  # of steps: C++ takes them as float32, and divides by them


class ProbeTable(NamedTuple):
    """Centroids as probing takes them."""

    values: NDArray[np.uint8]
    """uint8 [K, dim rounded up to a multiple of 4]: whole steps, 128 too large."""
    steps: NDArray[np.float32]
    """float32 [K]: the step of each centroid."""
    spreads: NDArray[np.float32]
    """float32 [K]: root mean square distance of each centroid's vectors from it."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.values.nbytes + self.steps.nbytes + self.spreads.nbytes


class CodeTable(NamedTuple):
    """What turns records into vectors."""

    centroids: NDArray[np.int16]
    """int16 [K, dim]: whole steps."""
    step: float
    """The step of all centroids."""
    levels: NDArray[np.float32]
    """float32 [256]: the value of each state of a code."""
    bits: int
    """Bits a dimension: 1, 2, 4 or 8."""
    centroid_bytes: int
    """Bytes of a centroid's number in a record: 2 or 4."""
    unit: bool
    """Whether the stored vectors had unit length; if so, decoded ones are brought back to it, which takes away the error
    along the vector itself, the one that shifts its best scores."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.centroids.nbytes + self.levels.nbytes


def probe_table(centroids: NDArray[np.floating], spreads: NDArray[np.float32]) -> ProbeTable:
    """Centroids, float16 or float32 [K, dim], and their spreads, float32 [K], for probing."""
    count, dim = centroids.shape
    steps = np.empty(count, np.float32)
    values = np.full((count, -(-dim // 4) * 4), _MIDDLE, np.uint8)
    for rows in _parts(count):
        some = centroids[rows].astype(np.float32)
        steps[rows] = np.abs(some).max(axis=1, initial=0) / _BYTE
        wholes = np.rint(some / np.where(steps[rows] > 0, steps[rows], 1)[:, None])
        values[rows, :dim] = (
            np.clip(wholes, -_BYTE, _BYTE) + _MIDDLE
        )  # a step below float32's smallest normal is not exact
    return ProbeTable(values, steps, np.ascontiguousarray(spreads, np.float32))


def code_table(
    centroids: NDArray[np.floating], levels: NDArray[np.float32], *, bits: int, centroid_bytes: int, unit: bool
) -> CodeTable:
    """Centroids, float16 or float32 [K, dim], and levels, float32 [256], for decoding."""
    square = 0.0
    for rows in _parts(len(centroids)):
        some = centroids[rows].astype(np.float64)
        square = max(square, float(np.einsum("ij,ij->i", some, some).max(initial=0)))
    step = max(float(np.sqrt(square)) / _LONGEST, _SMALLEST) if square > 0 else 1.0
    wholes = np.empty(centroids.shape, np.int16)
    for rows in _parts(len(centroids)):
        wholes[rows] = np.rint(centroids[rows].astype(np.float32) / step)
    return CodeTable(wholes, step, np.ascontiguousarray(levels, np.float32), bits, centroid_bytes, unit)


def _parts(count: int) -> Iterator[slice]:
    """A few rows at a time: an index opens inside its budget, temporaries included."""
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))
