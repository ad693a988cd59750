"""Centroids: where in the space token vectors gather, and which centroid stands for a vector.

Token-aware, where vectors have vocabulary ids (TACHIOM, 2026): vectors of one word lie together.

1. *Group* the sample by vocabulary id.
2. *Share* the centroids among the groups in proportion to size ** 0.75, one to each at least. (Against the square root:
   a tenth less residual energy and half the postings to walk on wiki20k; docs/LOG.md.)
3. *Train* each group alone: Lloyd's iterations from random members.
4. *Assign* a vector to the nearest centroid of its own group; a vector without a group to the nearest of all.
   (Once expanded, `colindex.expansion`, an id may have several groups: then to the nearest of them all.)

Without ids (two levels, as an inverted file of inverted files):

1. *Group* by the nearest of about 2 * sqrt(K) coarse cells, from faiss k-means.
2. and 3. are the same.
4. *Assign* a vector to the nearest centroid inside its 4 nearest cells.

Nearest is by Euclidean distance: the highest x·c - |c|²/2. Dot products are exact (`colindex.kernels.reference.grid`) and
means are added up in float64, member by member: nothing depends on the batch, the threads or the machine; ties go to the
lower id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from colindex.kernels import chosen as kernels
from colindex.threads import one_blas_thread

__all__ = ["Clustering", "centroid_count", "cluster"]

_SHARE_POWER = 0.75
_ITERATIONS = 4
_TRAINING_MEMBERS = 128
"""A group trains on at most this many members a centroid; more moves no centroid by much."""
_NEAREST_CELLS = 4
_COARSE_MEMBERS = 128
_PIECES = 4
"""Pieces of work a thread: so that none waits long for the last one."""
_PIECE_MEMBERS = 1 << 15
"""Members that are trained on together, about: their copy is small beside the sample."""
_PACKING = 20
"""What a vector costs beside its scores, in scores."""
_BLOCK = 4096
"""Vectors that are widened to float64 at a time."""
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
    """Token-aware: the vocabulary id of each group, int32 [G]. Rising as trained; expansions append their own, and there an
    id may come again: its vectors choose among the centroids of all its groups."""
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
        vectors = np.asarray(vectors, np.float32)
        if self.cells is not None:
            return self._assign_by_cell(vectors, self.cells, self.group_offsets.astype(np.int64), threads)
        assigned = np.zeros(len(vectors), np.uint32)
        unknown = np.arange(len(vectors))
        if token_ids is not None and self.knows(token_ids, len(token_ids)).any():
            ids, numbers, offsets = self._words(token_ids)
            words = np.where(np.isin(token_ids, ids), np.searchsorted(ids, token_ids), -1)
            order = np.argsort(words, kind="stable")
            bounds = np.searchsorted(words[order], np.arange(len(offsets)))
            unknown, known = np.split(order, bounds[:1])
            found = _nearest(vectors, known, bounds - bounds[0], self.centroids[numbers], offsets, threads)[0][:, 0]
            assigned[known] = numbers[found]
        assigned[unknown] = _nearest_of_all(vectors, unknown, self.centroids, threads)[:, 0]
        return assigned

    def knows(self, token_ids: NDArray[np.int32] | None, count: int) -> NDArray[np.bool_]:
        """Whether each of `count` vectors has a group by its vocabulary id; cells take in every vector."""
        if self.group_ids is None:
            return np.ones(count, np.bool_)
        return np.zeros(count, np.bool_) if token_ids is None else np.isin(token_ids, self.group_ids)

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

    def _words(self, token_ids: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """The ids among these that have a group, rising; the numbers of their centroids, id by id; where each id begins."""
        owners = np.zeros(0, np.int32) if self.group_ids is None else self.group_ids.repeat(np.diff(self.group_offsets))
        numbers = np.flatnonzero(np.isin(owners, token_ids))
        numbers = numbers[
            np.argsort(owners[numbers], kind="stable")
        ]  # rising inside an id: ties go to the lower number
        ids, counts = np.unique(owners[numbers], return_counts=True)
        return ids, numbers, _offsets(counts)

    def _assign_by_cell(
        self, vectors: NDArray[np.float32], cells: NDArray[np.float32], offsets: NDArray[np.int64], threads: int
    ) -> NDArray[np.uint32]:
        """The nearest centroid of each vector inside its nearest cells; the lower id among equals."""
        wanted = min(_NEAREST_CELLS, len(cells))
        near = _nearest_of_all(vectors, np.arange(len(vectors)), cells, threads, wanted).ravel()
        order = np.argsort(near, kind="stable")
        bounds = np.searchsorted(near[order], np.arange(len(offsets)))
        ids, scores = np.empty(len(near), np.int32), np.empty(len(near), np.float64)
        found = _nearest(vectors, order // wanted, bounds, self.centroids, offsets, threads)
        ids[order], scores[order] = found[0][:, 0], found[1][:, 0]
        of_each = scores.reshape(-1, wanted)
        best = of_each == of_each.max(axis=1, keepdims=True)
        lowest = np.where(best, ids.reshape(-1, wanted), np.iinfo(np.int32).max).min(axis=1)
        return np.asarray(lowest, np.uint32)


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
        labels = _nearest_of_all(vectors, np.arange(len(vectors)), cells, threads)[:, 0].astype(np.int64)
        kept, counts = np.unique(labels, return_counts=True)
        group_ids, group_cells = None, cells[kept]
    else:
        labels = token_ids.astype(np.int64)
        kept, counts = _largest(labels, n_centroids)
        group_ids, group_cells = kept.astype(np.int32), None
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    shares = _shares(counts, n_centroids)
    used = np.minimum(counts, _TRAINING_MEMBERS * shares)
    members = _Members(order[_runs(np.searchsorted(labels[order], kept), used)], _offsets(used))
    pieces = max(threads * _PIECES, len(members.rows) // _PIECE_MEMBERS)
    work = _split(used * (shares + _PACKING), pieces)
    groups = _in_parallel(lambda part: _train(vectors, members.groups(part), shares[part]), work, threads)
    centroids, spreads, shares = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    return Clustering(centroids, spreads, _offsets(shares).astype(np.int32), group_ids, group_cells)


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


@dataclass(frozen=True, slots=True)
class _Members:
    """The vectors that each group trains on, in random order."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """Group g has `rows[offsets[g]:offsets[g + 1]]`."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Members of each group."""
        return np.diff(self.offsets)

    def groups(self, part: slice) -> _Members:
        """Some groups next to each other."""
        offsets = self.offsets[part.start : part.stop + 1]
        return _Members(self.rows[offsets[0] : offsets[-1]], offsets - offsets[0])

    def chosen(self, groups: NDArray[np.bool_]) -> _Members:
        """Some groups."""
        return _Members(self.rows[np.repeat(groups, self.counts)], _offsets(self.counts[groups]))


def _train(
    sample: NDArray[np.float32], members: _Members, shares: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Different centroids for some groups, their spreads, and how many each group has: at most its share."""
    vectors = sample[members.rows]  # read over and over: side by side
    members = _Members(np.arange(len(vectors)), members.offsets)
    centroids = vectors[_runs(members.offsets[:-1], shares)]  # members come in random order
    moving = members.counts > shares  # a group of no more members than its share keeps them
    if moving.any():
        means = centroids[np.repeat(moving, shares)]
        _iterate(means, _offsets(shares[moving]), vectors, members.chosen(moving))
        centroids[np.repeat(moving, shares)] = means
    centroids, shares = _storable(centroids, shares)
    return centroids, _spreads(vectors, members, centroids, _offsets(shares)), shares


def _iterate(
    means: NDArray[np.float32], offsets: NDArray[np.int64], vectors: NDArray[np.float32], members: _Members
) -> None:
    """Lloyd's iterations: move the means of some groups, float32 [K, dim]."""
    for _ in range(_ITERATIONS):
        found, scores = kernels.nearest(vectors, members.rows, members.offsets, means, offsets)
        ids = found[:, 0]
        counts = np.bincount(ids, minlength=len(means))
        sums = kernels.add_rows(vectors, members.rows, ids, len(means))
        present = counts > 0
        means[present] = sums[present] / counts[present, None]
        _refill_empty(means, counts, offsets, vectors, members, scores[:, 0])


def _refill_empty(
    means: NDArray[np.float32],
    counts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    vectors: NDArray[np.float32],
    members: _Members,
    scores: NDArray[np.float64],
) -> None:
    """Move each centroid without members to one of its group's members that are farthest from their own."""
    empty = np.flatnonzero(counts == 0)
    groups = np.searchsorted(offsets, empty, side="right") - 1
    for group in np.unique(groups):
        part = slice(*members.offsets[group : group + 2])
        farthest = np.argsort(2 * scores[part] - _squared(vectors[members.rows[part]]), kind="stable")
        of_group = empty[groups == group]
        means[of_group] = vectors[members.rows[part][farthest[: len(of_group)]]]


def _storable(
    centroids: NDArray[np.float32], shares: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centroids in values of float16, each once in its group (members that repeat leave centroids that do), and shares."""
    half = np.clip(centroids, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
    groups = np.repeat(np.arange(len(shares)), shares)
    hashes = half.view(np.uint16) @ np.random.default_rng(0).integers(1, 2**63, half.shape[1], np.uint64)
    _, of_each, times = np.unique(hashes, return_inverse=True, return_counts=True)
    kept = np.ones(len(half), np.bool_)
    for group in np.unique(groups[times[of_each] > 1]):
        seen: set[bytes] = set()
        for row in np.flatnonzero(groups == group):
            content = half[row].tobytes()
            kept[row] = content not in seen
            seen.add(content)
    return half[kept].astype(np.float32), np.bincount(groups[kept], minlength=len(shares))


def _spreads(
    vectors: NDArray[np.float32], members: _Members, centroids: NDArray[np.float32], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Root mean square distance of each centroid's members, float32 [K]; 0 without members."""
    found, scores = kernels.nearest(vectors, members.rows, members.offsets, centroids, offsets)
    blocks = range(0, len(vectors), _BLOCK)
    squares = np.concatenate([_squared(vectors[start : start + _BLOCK]) for start in blocks])
    sums = np.bincount(found[:, 0], squares - 2 * scores[:, 0], minlength=len(centroids))
    counts = np.bincount(found[:, 0], minlength=len(centroids))
    return np.sqrt(np.maximum(sums, 0) / np.maximum(counts, 1)).astype(np.float32)


def _nearest(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    row_offsets: NDArray[np.int64],
    centroids: NDArray[np.float32],
    offsets: NDArray[np.int64],
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """`kernels.nearest`, the groups shared among threads."""

    def part(groups: slice) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        bounds = row_offsets[groups.start : groups.stop + 1]
        of_part = slice(groups.start, groups.stop + 1)
        return kernels.nearest(vectors, rows[bounds[0] : bounds[-1]], bounds - bounds[0], centroids, offsets[of_part])

    work = _split(np.diff(row_offsets) * (np.diff(offsets) + _PACKING), threads * _PIECES)
    ids, scores = zip(*_in_parallel(part, work, threads), strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def _nearest_of_all(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    centroids: NDArray[np.float32],
    threads: int,
    count: int = 1,
) -> NDArray[np.int32]:
    """The nearest of all centroids for some rows of the vectors, int32 [rows, count]."""
    everything = np.array([0, len(centroids)])

    def part(rows: NDArray[np.int64]) -> NDArray[np.int32]:
        return kernels.nearest(vectors, rows, np.array([0, len(rows)]), centroids, everything, count)[0]

    return np.concatenate(_in_parallel(part, np.array_split(rows, threads), threads))


def _squared(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The squared length of each."""
    return np.asarray(np.square(vectors, dtype=np.float64).sum(axis=1))


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some runs starts, and the end of the last, int64 [runs + 1]."""
    return np.concatenate([[0], np.cumsum(counts)])


def _runs(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(counts)
    return np.asarray(np.arange(int(counts.sum())) + np.repeat(starts - (ends - counts), counts))


def _split(costs: NDArray[np.int64], pieces: int) -> list[slice]:
    """Cut a sequence into at most so many slices of about equal cost."""
    total = np.cumsum(costs)
    inner = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces)
    bounds = np.unique(np.concatenate([[0], inner, [len(costs)]]))
    return [slice(int(start), int(stop)) for start, stop in pairwise(bounds)]


def _in_parallel(task: Callable[[_Work], _Result], work: Sequence[_Work], threads: int) -> list[_Result]:
    """The task on each piece of work, results in order; BLAS keeps to one thread, or pieces would fight for cores."""
    with one_blas_thread():
        if threads == 1 or len(work) < 2:
            return [task(piece) for piece in work]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(task, work))
