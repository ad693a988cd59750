"""Synthetic documents of any number: windows of a collection's real token vectors, with noise, and their vocabulary ids.

Real vectors keep the shape of the space: few directions, many near neighbours. Noise keeps windows of the same place apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import growth_data
from benchmarks.vectors import Vectors, load
from colindex import TokenBatch

__all__ = ["DIM", "projected", "synthetic"]

NOISE = 0.35
DIM = 128
_BATCH = 512


def projected(vectors: Path) -> tuple[Vectors, list[NDArray[np.float32]]]:
    """The collection's vectors and queries at 128 dims."""
    docs, queries = load(vectors / "docs.npz"), load(vectors / "queries.npz")
    projection = growth_data.pca(docs, DIM)
    return growth_data.projected(docs, projection), [projection.apply(query) for query in queries.each()[:300]]


def synthetic(
    docs: Vectors, tokens: int, *, seed: int = 1, shortest: int = 100, longest: int = 250
) -> Iterator[TokenBatch]:
    """Batches of windows of real vectors with noise, until there are so many tokens."""
    rng, made, number = np.random.default_rng(seed), 0, 0
    while made < tokens:
        lengths = rng.integers(shortest, longest + 1, _BATCH)
        starts = rng.integers(0, len(docs.vectors) - longest, _BATCH)
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(starts, lengths, strict=True)])
        vectors = docs.vectors[rows].astype(np.float32)
        vectors += rng.standard_normal(vectors.shape, np.float32) * np.float32(NOISE / np.sqrt(DIM))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield TokenBatch(
            ids=tuple(f"s{n}" for n in range(number, number + _BATCH)),
            vectors=vectors.astype(np.float16),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            token_ids=docs.token_ids[rows],
        )
        made, number = made + len(rows), number + _BATCH
