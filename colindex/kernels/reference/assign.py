"""Which centroids of its group lie nearest to a vector, and what do the vectors of each centroid add up to?

Nearest is by Euclidean distance: the highest x·c - |c|²/2. Products are exact (`grid`) and the score is rounded once, so an
answer depends on the vector and the group's centroids alone: not on the batch, the threads or the machine; ties go to the
lower number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.reference.grid import on_grid

__all__ = ["add_rows", "nearest"]

_SCORES = 1 << 22
"""Computed at a time, at most."""


def nearest(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    centroids: NDArray[np.float32],
    centroid_offsets: NDArray[np.int64],
    count: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The nearest centroids of each vector among those of its group.

    Args:
        vectors: float32 [n, dim], dim at most 1,024.
        rows: int64 [m]: the vectors that are asked for, group by group; one may come in several groups.
        row_offsets: int64 [groups + 1]; group g asks for `rows[row_offsets[g]:row_offsets[g + 1]]`.
        centroids: float32 [K, dim].
        centroid_offsets: int64 [groups + 1]; group g owns `centroids[centroid_offsets[g]:centroid_offsets[g + 1]]`.
        count: how many, 1 to 8; each group that is asked for has at least as many centroids.

    Returns:
        ids int32 [m, count], nearest first, and their scores x·c - |c|²/2, float64 [m, count].
    """
    ids = np.empty((len(rows), count), np.int32)
    scores = np.empty((len(rows), count), np.float64)
    for group in np.flatnonzero(np.diff(row_offsets)):
        first, last = centroid_offsets[group : group + 2]
        of_group = on_grid(centroids[first:last])
        halves = (of_group * of_group).sum(axis=1) / 2
        step = max(1, _SCORES // len(of_group))
        for start in range(row_offsets[group], row_offsets[group + 1], step):
            part = slice(start, min(start + step, row_offsets[group + 1]))
            of_pairs = on_grid(vectors[rows[part]]) @ of_group.T - halves
            all_of_part = np.arange(len(of_pairs))
            for place in range(count):  # a few maxima are quicker than one partial sort
                best = of_pairs.argmax(axis=1)
                ids[part, place], scores[part, place] = first + best, of_pairs[all_of_part, best]
                of_pairs[all_of_part, best] = -np.inf
    return ids, scores


def add_rows(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], ids: NDArray[np.int32], n_sums: int
) -> NDArray[np.float64]:
    """For each id, the sum of its vectors, added in the order in which they come.

    Args:
        vectors: float32 [n, dim].
        rows: int64 [m], which vectors.
        ids: int32 [m], the sum that each goes into.
        n_sums: every id is below it.

    Returns:
        float64 [n_sums, dim]; zeros for an id without vectors.
    """
    dim = vectors.shape[1]
    sums = np.zeros(n_sums * dim, np.float64)
    step = max(1, _SCORES // dim)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        places = ids[part, None].astype(np.int64) * dim + np.arange(dim)
        np.add.at(sums, places.ravel(), vectors[rows[part]].ravel().astype(np.float64))
    return sums.reshape(n_sums, dim)
