"""Cells: which centroids lie near each other, so that probing need not look at them all?

1. *Seeds*: every 32nd centroid. Those of one word stand side by side, so that a word of many centroids has several seeds.
2. *Means*: every second centroid goes to its nearest seed, and each seed moves to the mean of those that came.
3. *Assign* every centroid to its nearest mean: a cell. Without a centroid it is none.
4. *Table*: centroids cell by cell; for each cell the mean of its centroids, and as its spread the root mean square distance
   of its vectors from there.

All in whole numbers of 8 bits, in one step for all values: sums are exact, so that every machine finds the same cells, with any
instruction set. Fewer centroids than `FEW` have no cells: probing scores them all in less time than it would take to choose.
Another round of means would find hardly more of the best centroids, and take as long again (docs/LOG.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.kernels import chosen as kernels
from colindex.kernels.tables import CellTable, ProbeTable, parts, probe_table

__all__ = ["FEW", "in_cells"]

FEW = 4096
_CELL = 32
"""Centroids to a cell, on average."""
_SAMPLED = 2
"""One centroid in so many moves the seeds."""
_BYTE = 127


def in_cells(centroids: NDArray[np.floating], spreads: NDArray[np.float32]) -> ProbeTable:
    """Centroids, float16 or float32 [K, dim], and their spreads, float32 [K], for probing: in cells where there are many."""
    if len(centroids) < FEW:
        return probe_table(centroids, spreads)
    wholes = _Wholes(centroids)
    seeds = wholes.rows(slice(0, len(centroids), _CELL))
    means = _moved(wholes, seeds)
    cells = np.concatenate([kernels.nearest_cells(wholes.rows(part), means) for part in parts(len(centroids))])
    numbers = np.argsort(cells, kind="stable").astype(np.int32)
    return probe_table(centroids, spreads, numbers)._replace(cells=_table(wholes, spreads, cells, numbers))


class _Wholes:
    """Centroids in whole steps, some at a time: an index opens inside its budget, temporaries included."""

    def __init__(self, centroids: NDArray[np.floating]) -> None:
        self._centroids = centroids
        largest = max(float(np.abs(centroids[part]).max(initial=0)) for part in parts(len(centroids)))
        self.step = float(np.float32(largest / _BYTE)) or 1.0

    def __len__(self) -> int:
        return len(self._centroids)

    @property
    def dim(self) -> int:
        return int(self._centroids.shape[1])

    def rows(self, some: slice) -> NDArray[np.int8]:
        """Int8 [some, dim]."""
        steps = np.rint(self._centroids[some].astype(np.float32) / np.float32(self.step))
        return np.asarray(np.clip(steps, -_BYTE, _BYTE), np.int8)


def _moved(wholes: _Wholes, seeds: NDArray[np.int8]) -> NDArray[np.int8]:
    """Step 2."""
    sums, counts = _none(len(seeds), wholes.dim)
    for part in parts(len(wholes)):
        sample = wholes.rows(slice(part.start, part.stop, _SAMPLED))
        _add(sample, kernels.nearest_cells(sample, seeds), sums, counts)
    return np.where(counts[:, None] > 0, np.rint(sums / np.maximum(counts, 1)[:, None]), seeds).astype(np.int8)


def _none(n_cells: int, dim: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums and numbers of the rows of cells that have none."""
    return np.zeros((n_cells, dim)), np.zeros(n_cells, np.int64)


def _add(
    rows: NDArray[np.int8], cells: NDArray[np.int32], sums: NDArray[np.float64], counts: NDArray[np.int64]
) -> None:
    """Some rows to the sum and the number of each cell."""
    sums += kernels.add_rows(rows.astype(np.float32), np.arange(len(rows)), cells, len(sums))
    counts += np.bincount(cells, minlength=len(counts))


def _table(
    wholes: _Wholes, spreads: NDArray[np.float32], cells: NDArray[np.int32], numbers: NDArray[np.int32]
) -> CellTable:
    """Step 4."""
    sums, counts = _none(int(cells.max()) + 1, wholes.dim)
    squares = np.empty(len(wholes))
    for part in parts(len(wholes)):
        rows = wholes.rows(part)
        _add(rows, cells[part], sums, counts)
        squares[part] = np.square(rows.astype(np.int32)).sum(axis=1)
    kept, step = np.flatnonzero(counts), wholes.step
    sums, counts = sums[kept], counts[kept]
    means = sums / counts[:, None]
    starts = np.cumsum(counts) - counts
    squares = squares * step**2 + np.square(spreads.astype(np.float64))
    around = np.add.reduceat(squares[numbers], starts) / counts - np.square(means * step).sum(axis=1)
    centres = probe_table((means * step).astype(np.float32), np.sqrt(np.maximum(around, 0)).astype(np.float32))
    return CellTable(centres, starts.astype(np.int32), counts.astype(np.int32), numbers)
