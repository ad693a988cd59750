"""Token pooling: how do fewer vectors stand for a document with little loss?

Each document is pooled alone (Clavié, Chaffin and Adams, 2024: "Reducing the Footprint of Multi-Vector Retrieval
with Minimal Performance Impact via Token Pooling"):

1. **Protect.** The first tokens (a document marker, where the model has one) stay alone, first, and bit for bit.
2. **Cluster.** The `n` others into `max(1, n // factor)` clusters by Ward linkage on cosine distance
   (`ward_labels` of `colindex.kernels`). Documents of more than 4,096 tokens are cut into runs of about equal
   length and each run is clustered alone, which bounds memory.
3. **Average.** A cluster becomes the mean of its members, clusters in the order of their first members.
4. **Renormalise.** Where all tokens of a document have unit length, so have its stored vectors: a dot product stays a
   cosine, and merged tokens compete with lone ones on direction alone. Where the model gives lengths of its own, means
   are left as they are.
5. **Map.** For each source token, remember which stored vector stands for it: inspection goes back to the text by it.

Clusters and means agree with `HierarchicalTokenPooling` of sentence-transformers 6 and, but for step 4, with
PyLate > 1.3.4; the order of clusters is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.errors import ParameterError
from colindex.kernels.chosen import ward_labels
from colindex.types import PooledBatch, SourceTokens, TokenBatch

__all__ = ["merge", "pool"]

UNIT_TOLERANCE = 2e-3
"""How far from 1 the length of a unit vector may lie after a trip through float16."""
MAX_CLUSTERED = 4096
"""Tokens clustered together at most: 64 MiB of distances in float32, and as much again in Ward's working copy."""


def pool(batch: TokenBatch, factor: int, protected: int = 1) -> PooledBatch:
    """Merge the tokens of each document to about one vector in `factor`.

    Args:
        batch: documents with vectors [tokens, dim]; token ids and spans are optional.
        factor: 1 leaves the batch as it is, and does no work.
        protected: this many first tokens of each document stay alone.

    Returns:
        float32 vectors of each document, protected tokens first, and the map from source tokens to them. The token id
        and the span of a stored vector are those of its first source token. Documents without tokens stay without.

    Raises:
        ParameterError: `factor` < 1 or `protected` < 0.
    """
    if factor < 1 or protected < 0:
        raise ParameterError(f"pooling: expected factor >= 1 and protected >= 0, got {factor} and {protected}.")
    if factor == 1:
        return PooledBatch(tokens=batch, source=None)
    stored = np.empty(len(batch.vectors), dtype=np.int32)
    means, firsts = [np.empty((0, batch.dim), np.float32)], [np.empty(0, np.int64)]
    lengths = np.zeros(len(batch), dtype=np.int64)
    for position in range(len(batch)):
        start, stop = batch.offsets[position], batch.offsets[position + 1]
        vectors = batch.vectors[start:stop].astype(np.float32)
        stored[start:stop] = _stored_vector_of_each_token(vectors, factor, protected)
        first = np.unique(stored[start:stop], return_index=True)[1]
        means.append(merge(vectors, stored[start:stop]))
        firsts.append(start + first)
        lengths[position] = len(first)
    source = SourceTokens(offsets=batch.offsets, stored=stored, token_ids=batch.token_ids, spans=batch.spans)
    return PooledBatch(tokens=_pooled(batch, np.concatenate(means), np.concatenate(firsts), lengths), source=source)


def _stored_vector_of_each_token(vectors: NDArray[np.float32], factor: int, protected: int) -> NDArray[np.int32]:
    """Steps 1 and 2 for one document: int32 [tokens], numbered in the order of first members."""
    protected = min(protected, len(vectors))
    labels = [np.arange(protected, dtype=np.int32)]
    count = protected
    rest = _unit(vectors[protected:])
    runs: list[NDArray[np.float32]] = np.array_split(rest, -(-len(rest) // MAX_CLUSTERED)) if len(rest) else []
    for run in runs:
        found = ward_labels(run, max(1, len(run) // factor))
        labels.append(found + np.int32(count))
        count += int(found.max()) + 1
    return np.concatenate(labels)


def merge(vectors: NDArray[np.float32], stored: NDArray[np.int32]) -> NDArray[np.float32]:
    """Steps 3 and 4 for one document.

    Args:
        vectors: float32 [tokens, dim].
        stored: int32 [tokens], the stored vector of each token; every number from 0 to the largest is taken.

    Returns:
        float32 [stored vectors, dim].
    """
    first = np.unique(stored, return_index=True)[1]
    sizes = np.bincount(stored)
    sums = np.zeros((len(first), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, stored, vectors)
    means = (sums / sizes[:, None]).astype(np.float32)
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max(initial=0) <= UNIT_TOLERANCE:
        means = _unit(means)
    means[sizes == 1] = vectors[first[sizes == 1]]
    return means


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
    return unit


def _pooled(
    batch: TokenBatch, vectors: NDArray[np.float32], firsts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> TokenBatch:
    return TokenBatch(
        ids=batch.ids,
        vectors=vectors,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        token_ids=None if batch.token_ids is None else batch.token_ids[firsts],
        spans=None if batch.spans is None else batch.spans[firsts],
    )
