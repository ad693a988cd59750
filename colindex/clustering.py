"""Centroids: where in the space token vectors gather, and which centroid stands for a vector.

Token-aware, where vectors have vocabulary ids (TACHIOM, 2026): vectors of one word lie together.

1. *Group* the sample by vocabulary id.
2. *Share* the centroids among the groups in proportion to size ** 0.75, one to each at least. (Against the square root:
   a tenth less residual energy and half the postings to walk on wiki20k; docs/LOG.md.)
3. *Train* each group alone: Lloyd's iterations from random members.
4. *Assign* a vector to the nearest centroid of its own group; a vector without a group to the nearest of all.

Without ids (two levels, as an inverted file of inverted files):

1. *Group* by the nearest of about 2 * sqrt(K) coarse cells, from faiss k-means.
2. and 3. are the same.
4. *Assign* a vector to the nearest centroid inside its 4 nearest cells.

Nearest is by Euclidean distance: the highest x·c - |c|²/2. Dot products are exact (`colindex.fixed_point`), so an
assignment depends on the vector alone: not on its batch, the threads or the machine; ties go to the lower id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from colindex.fixed_point import on_grid

__all__ = ["Clustering", "centroid_count", "cluster"]

_SHARE_POWER = 0.75
_ITERATIONS = 4
_TRAINING_MEMBERS = 128
"""A group trains on at most this many members a centroid; more moves no centroid by much."""
_NEAREST_CELLS = 4
_COARSE_MEMBERS = 128
_CHUNK = 16_384
"""Vectors in one piece of work, unless the scores of a piece would exceed `_SCORES`."""
_SCORES = 1 << 22
_FLOAT16_MAX = 65504.0

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


def centroid_count(tokens: int) -> int:
    """Centroids for an index of this many stored vectors.

    One for 60 vectors, up to the 65,536 that a 2-byte id can name; 8 * sqrt(tokens) where that is more: in small
    collections, so that rare words keep a centroid, and beyond 67 million vectors.

    >>> centroid_count(0), centroid_count(10), centroid_count(1_242_137), centroid_count(10**7)
    (1, 10, 20702, 65536)
    """
    count = max(8 * math.isqrt(tokens), min(tokens // 60, 2**16))
    return max(1, min(count, tokens))


@dataclass(frozen=True, slots=True)
class Clustering:
    """Centroids in groups, and how a vector finds its group."""

    centroids: NDArray[np.float32]
    """float32 [K, dim], each value representable in float16; those of one group side by side."""
    spreads: NDArray[np.float32]
    """Root mean square distance of the training vectors from their centroid, float32 [K]: what probing adds to a
    centroid's score for what its vectors may hold beyond it."""
    group_offsets: NDArray[np.int32]
    """int32 [G + 1]: group g owns centroids `group_offsets[g]:group_offsets[g + 1]`."""
    group_ids: NDArray[np.int32] | None
    """Token-aware: the vocabulary id of each group, rising, int32 [G]."""
    cells: NDArray[np.float32] | None
    """Otherwise: the coarse cell of each group, float32 [G, dim]."""

    def assign(self, vectors: NDArray[Any], token_ids: NDArray[np.int32] | None, *, threads: int) -> NDArray[np.uint32]:
        """The centroid of each vector.

        Args:
            vectors: float16 or float32 [n, dim].
            token_ids: int32 [n]; None, or a clustering without vocabulary ids, searches by position alone.
            threads: how many threads share the work; the result does not depend on it.

        Returns:
            uint32 [n].
        """
        assigned = np.zeros(len(vectors), np.uint32)
        if self.cells is not None:
            cells, centroids = on_grid(self.cells), on_grid(self.centroids)
            work = _ranges(np.arange(len(vectors)), len(cells))
            parts = _in_parallel(
                lambda rows: self._assign_by_cell(on_grid(vectors[rows]), cells, centroids), work, threads
            )
            return np.concatenate([assigned[:0], *parts])
        groups = self._groups(len(vectors), token_ids)
        order = np.argsort(groups, kind="stable")
        known = order[np.searchsorted(groups[order], 0) :]
        unknown = order[: len(order) - len(known)]
        _in_parallel(lambda rows: self._assign_in_group(vectors, groups, rows, assigned), _ranges(known, 1), threads)
        if len(unknown):
            assigned[unknown] = _nearest_in_pieces(vectors, unknown, self.centroids, threads)
        return assigned

    def centroids_only(self) -> Clustering:
        """The same centroids and spreads without groups or cells: what a search needs."""
        return Clustering(self.centroids, self.spreads, np.array([0, len(self.centroids)], np.int32), None, None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to store; `from_arrays` is the way back."""
        stored: dict[str, NDArray[Any]] = {
            "centroids": self.centroids.astype(np.float16),
            "spreads": self.spreads,
            "group_offsets": self.group_offsets,
        }
        if self.group_ids is not None:
            stored["group_ids"] = self.group_ids
        if self.cells is not None:
            stored["cells"] = self.cells
        return stored

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Clustering:
        """Rebuild a clustering from what `arrays` gave."""
        return cls(
            centroids=np.asarray(arrays["centroids"]).astype(np.float32),
            spreads=np.asarray(arrays["spreads"], np.float32),
            group_offsets=np.asarray(arrays["group_offsets"], np.int32),
            group_ids=np.asarray(arrays["group_ids"], np.int32) if "group_ids" in arrays else None,
            cells=np.asarray(arrays["cells"], np.float32) if "cells" in arrays else None,
        )

    def _groups(self, n: int, token_ids: NDArray[np.int32] | None) -> NDArray[np.int64]:
        """The group of each vector by its vocabulary id, -1 where there is none."""
        if token_ids is None or self.group_ids is None or not len(self.group_ids):
            return np.full(n, -1)
        groups = np.minimum(np.searchsorted(self.group_ids, token_ids), len(self.group_ids) - 1)
        return np.where(self.group_ids[groups] == token_ids, groups, -1)

    def _assign_in_group(
        self, vectors: NDArray[Any], groups: NDArray[np.int64], rows: NDArray[np.int64], assigned: NDArray[np.uint32]
    ) -> None:
        """Rows sorted by group: each to the nearest centroid of its group."""
        of_rows = groups[rows]
        bounds = np.flatnonzero(np.diff(of_rows, prepend=-1, append=-1))
        for first, last in pairwise(bounds):
            start, end = self.group_offsets[of_rows[first] : of_rows[first] + 2]
            members = rows[first:last]
            assigned[members] = start
            if end - start > 1:
                ids, _ = _nearest(on_grid(vectors[members]), on_grid(self.centroids[start:end]))
                assigned[members] += ids.astype(np.uint32)

    def _assign_by_cell(
        self,
        members: NDArray[np.float64],
        cells: NDArray[np.float64],
        centroids: NDArray[np.float64],
    ) -> NDArray[np.uint32]:
        """The nearest centroid of each vector inside its nearest cells; all on the grid."""
        nearest = _nearest_cells(members, cells)
        order = np.argsort(nearest, axis=None, kind="stable")
        bounds = np.searchsorted(nearest.ravel()[order], np.arange(len(cells) + 1))
        best = np.full(len(members), -np.inf)
        assigned = np.zeros(len(members), np.uint32)
        for cell in range(len(cells)):  # rising, and a tie moves nothing: the lower centroid id wins
            inside = order[bounds[cell] : bounds[cell + 1]] // nearest.shape[1]
            start, end = self.group_offsets[cell : cell + 2]
            ids, scores = _nearest(members[inside], centroids[start:end])
            better = scores > best[inside]
            best[inside[better]] = scores[better]
            assigned[inside[better]] = start + ids[better]
        return assigned


def cluster(
    vectors: NDArray[np.float32], token_ids: NDArray[np.int32] | None, n_centroids: int, *, seed: int, threads: int
) -> Clustering:
    """Learn centroids from a sample.

    Args:
        vectors: float32 [n, dim], n at least 1.
        token_ids: int32 [n], the vocabulary id of each vector, or None.
        n_centroids: at most this many; fewer where the sample has fewer different vectors.
        seed: the same seed and sample give the same centroids.
        threads: how many threads share the work; the result does not depend on it.
    """
    shuffled = np.random.default_rng(seed).permutation(len(vectors))  # so that any first members are a random choice
    if token_ids is None:
        n_cells = min(2 * math.isqrt(n_centroids), n_centroids)
        cells = _coarse_cells(vectors[shuffled[: n_cells * _COARSE_MEMBERS]], n_cells, seed, threads)
        labels = _nearest_in_pieces(vectors, np.arange(len(vectors)), cells, threads)
        kept, counts = np.unique(labels, return_counts=True)
        group_ids, group_cells = None, cells[kept]
    else:
        labels = token_ids.astype(np.int64)
        kept, counts = _largest(labels, n_centroids)
        group_ids, group_cells = kept.astype(np.int32), None
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[order], kept)
    jobs = [
        (order[start : start + min(count, _TRAINING_MEMBERS * share)], int(share))
        for start, count, share in zip(starts, counts, _shares(counts, n_centroids), strict=True)
    ]
    groups = _in_parallel(lambda job: _train_group(vectors[job[0]], job[1]), jobs, threads)
    group_offsets = np.concatenate([[0], np.cumsum([len(spreads) for _, spreads in groups])]).astype(np.int32)
    centroids, spreads = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    return Clustering(centroids, spreads, group_offsets, group_ids, group_cells)


def _coarse_cells(vectors: NDArray[np.float32], n_cells: int, seed: int, threads: int) -> NDArray[np.float32]:
    """Coarse k-means of a sample, float32 [n_cells, dim]; fewer where there are fewer different vectors."""
    if len(vectors) <= n_cells:
        return np.unique(vectors, axis=0)
    import faiss  # heavy, and needed by vectors without ids alone

    kmeans = faiss.Kmeans(vectors.shape[1], n_cells, niter=10, seed=seed % 2**31, min_points_per_centroid=1)
    with threadpool_limits(limits=threads, user_api="openmp"):
        kmeans.train(np.ascontiguousarray(vectors, np.float32))
    return np.asarray(kmeans.centroids, np.float32).reshape(n_cells, -1)


def _largest(token_ids: NDArray[np.int64], n_groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most frequent ids, rising, and their counts: no more groups than centroids."""
    ids, counts = np.unique(token_ids, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:n_groups])
    return ids[kept], counts[kept]


def _shares(counts: NDArray[np.int64], n_centroids: int) -> NDArray[np.int64]:
    """Centroids of each group, from 1 to its count, as count ** 0.75, in all as many of `n_centroids` as that allows."""
    weights = counts**_SHARE_POWER

    def shares(scale: float) -> NDArray[np.int64]:
        return np.clip((scale * weights).astype(np.int64), 1, counts)

    low, high = 0.0, float(max(n_centroids, 1))
    for _ in range(50):  # bisection: the sum rises with the scale
        middle = (low + high) / 2
        low, high = (middle, high) if shares(middle).sum() <= n_centroids else (low, middle)
    return shares(low)


def _train_group(members: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """At most k different centroids, float32 [<= k, dim], and their spreads; members come in random order."""
    centroids = members[:k].astype(np.float32)
    grid = on_grid(members)
    for _ in range(_ITERATIONS if len(members) > k else 0):
        ids, scores = _nearest(grid, on_grid(centroids))
        centroids = _means(members, ids, centroids)
        _refill_empty(centroids, np.bincount(ids, minlength=k), grid, scores)
    half = np.clip(centroids, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
    different = dict.fromkeys(row.tobytes() for row in half)  # members that repeat leave centroids that repeat
    centroids = np.frombuffer(b"".join(different), np.float16).reshape(-1, members.shape[1]).astype(np.float32)
    return centroids, _spreads(grid, centroids)


def _spreads(members: NDArray[np.float64], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square distance of each centroid's members, float32 [k]; 0 without members."""
    ids, scores = _nearest(members, on_grid(centroids))
    sums = np.bincount(ids, _distances(members, scores), minlength=len(centroids))
    counts = np.bincount(ids, minlength=len(centroids))
    return np.sqrt(np.maximum(sums, 0) / np.maximum(counts, 1)).astype(np.float32)


def _distances(members: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of each member from the centroid that gave its score."""
    return np.asarray((members * members).sum(axis=1) - 2 * scores)


def _means(members: NDArray[np.float32], ids: NDArray[np.int64], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each centroid's members; a centroid without members stays."""
    order = np.argsort(ids, kind="stable")
    firsts = np.flatnonzero(np.diff(ids[order], prepend=-1))
    present = ids[order[firsts]]
    means = centroids.copy()
    counts = np.diff(firsts, append=len(ids))
    means[present] = np.add.reduceat(members[order], firsts, axis=0) / counts[:, None]
    return means


def _refill_empty(
    centroids: NDArray[np.float32],
    counts: NDArray[np.int64],
    members: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Move each centroid without members to one of the members that are farthest from their own."""
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        centroids[empty] = members[np.argsort(-_distances(members, scores), kind="stable")[: len(empty)]]


def _nearest(
    vectors: NDArray[np.float64], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest centroid of each vector, the lower id among equals, and its x·c - |c|²/2; both on the grid."""
    scores = _scores(vectors, centroids)
    ids = scores.argmax(axis=1)
    return ids, scores[np.arange(len(ids)), ids]


def _scores(vectors: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """x·c - |c|²/2 of each pair: the higher, the nearer. Exact but for one rounding each."""
    scores = vectors @ centroids.T
    scores -= (centroids * centroids).sum(axis=1) / 2
    return np.asarray(scores)


def _nearest_cells(vectors: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest cells of each vector, int64 [n, min(4, cells)]."""
    scores = _scores(vectors, cells)
    nearest = np.empty((len(vectors), min(_NEAREST_CELLS, len(cells))), np.int64)
    for column in nearest.T:  # four maxima are quicker than one partial sort
        column[:] = scores.argmax(axis=1)
        scores[np.arange(len(scores)), column] = -np.inf
    return nearest


def _nearest_in_pieces(
    vectors: NDArray[Any], rows: NDArray[np.int64], centroids: NDArray[np.float32], threads: int
) -> NDArray[np.int64]:
    """The nearest of all centroids for some rows of the vectors, int64 [rows]."""
    grid = on_grid(centroids)
    work = _ranges(rows, len(centroids))
    return np.concatenate(_in_parallel(lambda piece: _nearest(on_grid(vectors[piece]), grid)[0], work, threads))


def _ranges(rows: NDArray[np.int64], scores_each: int) -> list[NDArray[np.int64]]:
    """Pieces of work, so small that the scores of one stay within bounds."""
    size = max(1, min(_CHUNK, _SCORES // max(scores_each, 1)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _in_parallel(task: Callable[[_Work], _Result], work: list[_Work], threads: int) -> list[_Result]:
    """The task on each piece of work, results in order; BLAS keeps to one thread, or pieces would fight for cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        if threads == 1 or len(work) < 2:
            return [task(piece) for piece in work]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(task, work))
