"""What a search multiplies with: centroids and levels, in whole numbers.

A centroid is kept twice, once for each use, in less room than float32 takes once:

- For probing, in 8 bits with a step of its own: an error of some 1e-3 of its length, which the choice of candidates does not
  notice. Where there are many centroids, those that lie near each other stand side by side, in *cells* (`colindex.cells`), and
  probing scores those of the best cells only.
- For decoding codes of 1, 2 and 4 bits, in 8 bits with a step of its own: half the memory and half the time of 16 bits. Codes of
  2 bits lose ten times what that loses, codes of 4 bits three times.
- For decoding codes of 8 bits, in 16 bits, in one step for all: the longest centroid is 8,191 steps long, so that a vector four
  times as long fits 16 bits, and its dot product with a query of 16 bits fits 32. An error of some 1e-4.
- Records of 32 bits hold the vectors: nothing is decoded, and centroids stand here only to be counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "PLAIN_BITS",
    "CellTable",
    "CodeTable",
    "ProbeTable",
    "blocks_for",
    "code_table",
    "in_blocks",
    "parts",
    "probe_table",
]

BLOCK = 16
"""Centroids side by side in a table for probing."""

PLAIN_BITS = 32
"""Bits a dimension of records that hold the vectors themselves."""

_BYTE = 127
_MIDDLE = 128
_LONGEST = 8191
_LINE = 64  # bytes
_FEW_BITS = 4  # a dimension
_ROWS = 256 * BLOCK  # whole pairs of blocks
_SMALLEST = float(np.finfo(np.float32).tiny)  # of steps: C++ takes them as float32, and divides by them


class ProbeTable(NamedTuple):
    """Centroids as probing takes them: at *places*, in the order of their numbers, or of their cells where there are any."""

    values: NDArray[np.uint8]
    """uint8 [blocks of 16 centroids, dim / 4, 16, 4]: whole steps, 128 too large; dim rounded up to whole fours, blocks to
    pairs, 128 there. Four values of 16 centroids lie side by side, as a processor multiplies them."""
    steps: NDArray[np.float32]
    """float32 [places]: the step of each centroid."""
    spreads: NDArray[np.float32]
    """float32 [places]: root mean square distance of each centroid's vectors from it."""
    cells: CellTable | None = None

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        own = self.values.nbytes + self.steps.nbytes + self.spreads.nbytes
        return own if self.cells is None else own + self.cells.nbytes

    def rows(self) -> NDArray[np.uint8]:
        """The values place by place: uint8 [places, dim rounded up to a multiple of 4]."""
        blocks, quads = self.values.shape[:2]
        return self.values.transpose(0, 2, 1, 3).reshape(blocks * BLOCK, 4 * quads)[: len(self.steps)]


class CellTable(NamedTuple):
    """Cells of centroids that lie near each other."""

    centres: ProbeTable
    """The means of the cells, and how far their vectors spread."""
    starts: NDArray[np.int32]
    """int32 [cells]: the first place of each."""
    sizes: NDArray[np.int32]
    """int32 [cells]: how many places from there on are of the cell."""
    numbers: NDArray[np.int32]
    """int32 [places]: the number of the centroid there, rising inside a cell."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.centres.nbytes + self.starts.nbytes + self.sizes.nbytes + self.numbers.nbytes


class CodeTable(NamedTuple):
    """What turns records into vectors."""

    centroids: NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32]
    """[K, dim]: whole steps. Int8 means that searching decodes and multiplies in 8 bits, int16 in 16; float32, at 32 bits a
    dimension, that records hold the vectors."""
    steps: NDArray[np.float32]
    """float32 [K]: the step of each centroid; of int16 ones the same."""
    levels: NDArray[np.float32]
    """float32 [256]: the value of each state of a code; [0] at 32 bits."""
    bits: int
    """Bits a dimension: 1, 2, 4, 8 or 32."""
    centroid_bytes: int
    """Bytes of a centroid's number in a record: 2 or 4."""
    unit: bool
    """Whether the stored vectors had unit length; if so, decoded ones are brought back to it, which takes away the error
    along the vector itself, the one that shifts its best scores."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.centroids.nbytes + self.steps.nbytes + self.levels.nbytes


def probe_table(
    centroids: NDArray[np.floating], spreads: NDArray[np.float32], numbers: NDArray[np.int32] | None = None
) -> ProbeTable:
    """Centroids, float16 or float32 [K, dim], and their spreads, float32 [K], for probing.

    `numbers`, int32 [K]: the centroid at each place; None leaves them in order.
    """
    count, dim = centroids.shape
    steps = np.empty(count, np.float32)
    values = np.empty((blocks_for(count), -(-dim // 4), BLOCK, 4), np.uint8)
    for rows in parts(count):
        wholes, steps[rows] = _in_bytes(centroids[rows if numbers is None else numbers[rows]])
        values[rows.start // BLOCK : blocks_for(rows.stop)] = in_blocks((wholes + _MIDDLE).astype(np.uint8))
    return ProbeTable(values, steps, np.ascontiguousarray(spreads if numbers is None else spreads[numbers], np.float32))


def blocks_for(count: int) -> int:
    """Blocks of so many centroids, in pairs."""
    return -(-count // (2 * BLOCK)) * 2


def in_blocks(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values of centroids, 128 too large, uint8 [n, dim], as a table for probing holds them."""
    count, dim = rows.shape
    padded = np.full((blocks_for(count) * BLOCK, -(-dim // 4) * 4), _MIDDLE, np.uint8)
    padded[:count, :dim] = rows
    return np.ascontiguousarray(padded.reshape(-1, BLOCK, padded.shape[1] // 4, 4).transpose(0, 2, 1, 3))


def code_table(
    centroids: NDArray[np.floating], levels: NDArray[np.float32], *, bits: int, centroid_bytes: int, unit: bool
) -> CodeTable:
    """Centroids, float16 or float32 [K, dim], and levels, float32 [256], for decoding; no levels at 32 bits."""
    wholes, steps = _whole_steps(centroids, bits)
    return CodeTable(wholes, steps, np.ascontiguousarray(levels, np.float32), bits, centroid_bytes, unit)


def _whole_steps(
    centroids: NDArray[np.floating], bits: int
) -> tuple[NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32], NDArray[np.float32]]:
    """Centroids in what codes of these bits are decoded in, and the step of each."""
    if bits <= _FEW_BITS:
        return _bytes(centroids)
    if bits == PLAIN_BITS:
        return centroids.astype(np.float32), np.ones(len(centroids), np.float32)
    return _words(centroids)


def _bytes(centroids: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Centroids in 8 bits, and the step of each."""
    wholes, steps = _in_lines(centroids.shape), np.empty(len(centroids), np.float32)
    for rows in parts(len(centroids)):
        wholes[rows], steps[rows] = _in_bytes(centroids[rows])
    return wholes, steps


def _in_lines(shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Room that begins where a line of the cache does: a centroid of 128 values lies in two, not in three."""
    size = math.prod(shape)
    room = np.empty(size + _LINE, np.int8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size].reshape(shape)


def _words(centroids: NDArray[np.floating]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Centroids in 16 bits, and the step of all."""
    square = 0.0
    for rows in parts(len(centroids)):
        some = centroids[rows].astype(np.float64)
        square = max(square, float(np.einsum("ij,ij->i", some, some).max(initial=0)))
    step = max(float(np.sqrt(square)) / _LONGEST, _SMALLEST) if square > 0 else 1.0
    wholes = np.empty(centroids.shape, np.int16)
    for rows in parts(len(centroids)):
        wholes[rows] = np.rint(centroids[rows].astype(np.float32) / step)
    return wholes, np.full(len(centroids), step, np.float32)


def _in_bytes(centroids: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Whole steps, -127 to 127, and the step of each centroid."""
    some = centroids.astype(np.float32)
    steps = np.abs(some).max(axis=1, initial=0) / np.float32(_BYTE)
    wholes = np.rint(some / np.where(steps > 0, steps, 1)[:, None])
    return np.clip(wholes, -_BYTE, _BYTE), steps  # a step below float32's smallest normal is not exact


def parts(count: int) -> Iterator[slice]:
    """A few rows at a time: an index opens inside its budget, temporaries included."""
    return (slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS))
