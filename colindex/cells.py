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
    rows, step = _wholes(centroids)
    seeds = rows[::_CELL]
    sample = rows[::_SAMPLED]
    sums, counts = _sums(sample, kernels.nearest_cells(sample, seeds), len(seeds))
    means = np.where(counts[:, None] > 0, np.rint(sums / np.maximum(counts, 1)[:, None]), seeds).astype(np.int8)
    cells = kernels.nearest_cells(rows, means)
    numbers = np.argsort(cells, kind="stable").astype(np.int32)
    return probe_table(centroids, spreads, numbers)._replace(cells=_table(rows, step, spreads, cells, numbers))


def _wholes(centroids: NDArray[np.floating]) -> tuple[NDArray[np.int8], float]:
    """Centroids in whole steps, int8 [K, dim], and the step."""
    largest = max(float(np.abs(centroids[rows]).max(initial=0)) for rows in parts(len(centroids)))
    step = float(np.float32(largest / _BYTE)) or 1.0
    wholes = np.empty(centroids.shape, np.int8)
    for rows in parts(len(centroids)):
        wholes[rows] = np.clip(np.rint(centroids[rows].astype(np.float32) / np.float32(step)), -_BYTE, _BYTE)
    return wholes, step


def _sums(
    rows: NDArray[np.int8], cells: NDArray[np.int32], n_cells: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The sum of each cell's rows, and their number."""
    sums = np.zeros((n_cells, rows.shape[1]))
    for part in parts(len(rows)):
        some = rows[part].astype(np.float32)
        sums += kernels.add_rows(some, np.arange(len(some)), cells[part], n_cells)
    return sums, np.bincount(cells, minlength=n_cells)


def _table(
    rows: NDArray[np.int8],
    step: float,
    spreads: NDArray[np.float32],
    cells: NDArray[np.int32],
    numbers: NDArray[np.int32],
) -> CellTable:
    """Step 4."""
    sums, counts = _sums(rows, cells, int(cells.max()) + 1)
    kept = np.flatnonzero(counts)
    sums, counts = sums[kept], counts[kept]
    means = sums / counts[:, None]
    starts = np.cumsum(counts) - counts
    squares = np.concatenate([np.square(rows[part].astype(np.float64)).sum(axis=1) for part in parts(len(rows))])
    squares = squares * step**2 + np.square(spreads.astype(np.float64))
    around = np.add.reduceat(squares[numbers], starts) / counts - np.square(means * step).sum(axis=1)
    centres = probe_table((means * step).astype(np.float32), np.sqrt(np.maximum(around, 0)).astype(np.float32))
    return CellTable(centres, starts.astype(np.int32), counts.astype(np.int32), numbers)
