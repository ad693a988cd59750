"""The plainest possible answers, to hold the fast ones against."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact_gather", "exact_maxsim", "exact_nearest"]


def exact_maxsim(
    query: NDArray[np.float32], vectors: NDArray[np.float32], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """MaxSim of each document in float64; -inf without vectors."""
    similarities = query.astype(np.float64) @ vectors.astype(np.float64).T
    spans = list(pairwise(offsets))
    return np.array([similarities[:, a:b].max(axis=1).sum() if b > a else -np.inf for a, b in spans])


def exact_gather(
    ids: NDArray[np.int32], scores: NDArray[np.float32], documents_of: list[list[int]]
) -> tuple[dict[int, float], int]:
    """Score of each document met, and the posting entries walked; `documents_of` lists each centroid's documents."""

    def credit(document: int, row: NDArray[np.int32], values: NDArray[np.float32]) -> float:
        found = [value for centroid, value in zip(row, values, strict=True) if document in documents_of[centroid]]
        return float(found[0] if found else values[-1] - 0.25 * (values[0] - values[-1]))

    met = sorted({document for centroid in ids.ravel() for document in documents_of[centroid]})
    totals = {d: sum(credit(d, row, values) for row, values in zip(ids, scores, strict=True)) for d in met}
    return totals, sum(len(documents_of[centroid]) for centroid in ids.ravel())


def exact_nearest(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest centroid of each vector by Euclidean distance in float64."""
    differences = vectors[:, None].astype(np.float64) - centroids[None].astype(np.float64)
    return np.asarray((differences**2).sum(axis=2).argmin(axis=1))
