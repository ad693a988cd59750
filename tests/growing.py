"""Words in two places each, a codebook of some of them, and the others as they come later."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import Codebook, train_codebook
from colindex.projection import learn_projection

__all__ = ["ALL", "DIM", "KNOWN", "LATER", "codebook", "words"]

DIM = 16
ALL, KNOWN, LATER = range(20), range(12), range(12, 20)


def words(
    n: int, ids: range = ALL, *, seed: int = 0, length: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vectors of this length, each near one of the two places of its word, and the words' ids."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(1).standard_normal((len(ALL), 2, DIM))
    token_ids = rng.integers(ids.start, ids.stop, n).astype(np.int32)
    vectors = places[token_ids, rng.integers(0, 2, n)] + 0.15 * rng.standard_normal((n, DIM))
    return (length * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), token_ids


@cache
def codebook(*, ids: bool = True, n_centroids: int = 30, length: float = 1.0) -> Codebook:
    """Learned from the known words alone."""
    vectors, token_ids = words(1500, KNOWN, length=length)
    projection = learn_projection(vectors, None, 0)
    projected = projection.apply(vectors)
    return train_codebook(
        projected, token_ids if ids else None, projection, n_centroids=n_centroids, bits=2, seed=0, threads=1
    )
