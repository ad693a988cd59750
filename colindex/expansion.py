"""Expansion: centroids for what an index was not built on, behind those that it has.

An index that grows keeps one centroid for about as many vectors as at its build, and gets the new ones where it has none near:

1. *Choose* the vectors that lie farther from their centroid, for their length, than those of the build did. Of a new word
   these are nearly all; of a word that the build knew, those whose senses it did not.
2. *Cluster* them as a build would (`colindex.clustering`): by word where there are vocabulary ids, else by position.
3. *Shorten* a centroid that is longer than the longest of the build. Where codes have 8 bits a dimension, searching counts in
   steps of the longest one (`colindex.kernels.tables`): so the step stays, and old records decode to the same bits.
4. *Append* centroids and groups. Old ones keep their numbers, so that no record and no posting changes.
5. *Measure the spreads* of the new ones among all vectors that come to them.

New centroids for all vectors, near and far, find no better candidates than none do (docs/LOG.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from colindex.clustering import Clustering, cluster

__all__ = ["expand", "squared_residuals"]

_Value = TypeVar("_Value", bound=np.generic)

_BLOCK = 4096
"""Vectors whose residuals are in memory at a time."""
_SHORTER = 1 - 2**-20
"""Of the longest length, so that no rounding of a sum makes a new centroid the longest."""


def expand(
    clustering: Clustering,
    vectors: NDArray[np.float32],
    token_ids: NDArray[np.int32] | None,
    count: int,
    *,
    energy: float,
    seed: int,
    threads: int,
) -> Clustering:
    """The clustering with up to `count` centroids more, learned from a sample of what is being added.

    Args:
        clustering: what there is; its centroids come first and unchanged.
        vectors: float32 [n, dim].
        token_ids: int32 [n], the vocabulary id of each vector, or None. A clustering by vocabulary ids stays as it is
            without them.
        count: new centroids, at most.
        energy: mean squared residual over mean squared length at the build.
        seed: the same seed and sample give the same centroids.
        threads: how many threads share the work; the result does not depend on it.
    """
    if clustering.group_ids is None:
        token_ids = None
    elif token_ids is None:
        return clustering
    assigned = clustering.assign(vectors, token_ids, threads=threads)
    residuals, lengths = squared_residuals(vectors, clustering.centroids, assigned)
    far = residuals > energy * lengths
    if count < 1 or not far.any():
        return clustering
    learned = cluster(vectors[far], None if token_ids is None else token_ids[far], count, seed=seed, threads=threads)
    shortened = replace(learned, centroids=_shortened(learned.centroids, clustering.centroids))
    expanded = _appended(clustering, shortened)
    return replace(expanded, spreads=_spreads(expanded, len(clustering.centroids), vectors, token_ids, threads))


def squared_residuals(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], assigned: NDArray[np.uint32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The squared length of each vector's residual, and of each vector, float64 [n]."""
    residuals, lengths = np.empty(len(vectors)), np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        some = slice(start, start + _BLOCK)
        residual = vectors[some] - centroids[assigned[some]]
        residuals[some] = np.square(residual, dtype=np.float64).sum(axis=1)
        lengths[some] = np.square(vectors[some], dtype=np.float64).sum(axis=1)
    return residuals, lengths


def _shortened(centroids: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centroids in values of float16, none as long as the longest of the known ones."""
    lengths = np.maximum(_lengths(centroids), np.finfo(np.float32).tiny)
    exact = centroids * np.minimum(1, _SHORTER * _lengths(known).max() / lengths)[:, None]
    half = exact.astype(np.float16)
    longer = np.abs(half) > np.abs(exact)  # rounded up
    return np.asarray(np.where(longer, np.nextafter(half, np.float16(0)), half), np.float32)


def _lengths(centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    blocks = (centroids[start : start + _BLOCK] for start in range(0, len(centroids), _BLOCK))
    return np.concatenate([np.sqrt(np.square(block, dtype=np.float64).sum(axis=1)) for block in blocks])


def _appended(first: Clustering, then: Clustering) -> Clustering:
    """The centroids and groups of both."""
    return Clustering(
        centroids=np.concatenate([first.centroids, then.centroids]),
        spreads=np.concatenate([first.spreads, then.spreads]),
        group_offsets=np.concatenate([first.group_offsets, first.group_offsets[-1] + then.group_offsets[1:]]),
        group_ids=_both(first.group_ids, then.group_ids),
        cells=_both(first.cells, then.cells),
    )


def _both(first: NDArray[_Value] | None, then: NDArray[_Value] | None) -> NDArray[_Value] | None:
    return None if first is None or then is None else np.concatenate([first, then])


def _spreads(
    clustering: Clustering,
    old: int,
    vectors: NDArray[np.float32],
    token_ids: NDArray[np.int32] | None,
    threads: int,
) -> NDArray[np.float32]:
    """The spreads of an expanded clustering: as they are for its old centroids, and for new ones to which no vector comes."""
    assigned = clustering.assign(vectors, token_ids, threads=threads)
    residuals, _ = squared_residuals(vectors, clustering.centroids, assigned)
    counts = np.bincount(assigned, minlength=len(clustering.centroids))
    means = np.bincount(assigned, residuals, minlength=len(clustering.centroids)) / np.maximum(counts, 1)
    measured = counts > 0
    measured[:old] = False
    return np.where(measured, np.sqrt(means), clustering.spreads).astype(np.float32)
