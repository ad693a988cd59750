"""How well does each document answer the query?

MaxSim (ColBERT, Khattab & Zaharia, SIGIR 2020): the sum over query tokens of the maximum dot product with any of the
document's vectors.

1. Cut each document into blocks of 32 vectors, its last vector repeated to fill the last block (a repeated vector
   changes no maximum). A block belongs to one document and all blocks have one shape, so that BLAS rounds a document
   the same way whichever documents stand beside it.
2. Multiply some blocks at a time with 32 query tokens at a time: temporaries are bounded for any number of either.
3. Take the maximum of each block, then of each document; add up over query tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks_of", "maxsim"]

_WIDTH = 32
_BLOCKS = 256
_QUERY_TOKENS = 32


def maxsim(query: NDArray[np.float32], vectors: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """MaxSim of one query with each document.

    Args:
        query: float32 [q, dim].
        vectors: float32 [t, dim].
        offsets: int64 [m + 1]; document i owns `vectors[offsets[i]:offsets[i + 1]]`.

    Returns:
        float32 [m]; -inf for a document without vectors. A document's score does not depend on the others.
    """
    lengths = np.diff(offsets)
    present = np.flatnonzero(lengths)
    scores = np.full(len(lengths), -np.inf, np.float32)
    scores[present] = 0
    rows, owners = blocks_of(offsets[:-1][present], lengths[present])
    for start in range(0, len(query), _QUERY_TOKENS):
        tokens = np.ascontiguousarray(query[start : start + _QUERY_TOKENS].T)  # [dim, tokens]
        maxima = np.full((len(present), tokens.shape[1]), -np.inf, np.float32)
        for first in range(0, len(rows), _BLOCKS):
            part = slice(first, first + _BLOCKS)
            _raise_maxima(maxima, (vectors[rows[part]] @ tokens).max(axis=1), owners[part])
        scores[present] += maxima.sum(axis=1)
    return scores


def blocks_of(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of each block, int64 [blocks, 32], and the document each block belongs to, int64 [blocks]."""
    counts = -(-lengths // _WIDTH)
    owners = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = within[:, None] * _WIDTH + np.arange(_WIDTH)
    return starts[owners][:, None] + np.minimum(rows, lengths[owners][:, None] - 1), owners


def _raise_maxima(maxima: NDArray[np.float32], of_blocks: NDArray[np.float32], owners: NDArray[np.int64]) -> None:
    """Raise each document's maxima, float32 [m, tokens], to those of its blocks, float32 [blocks, tokens]."""
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    documents = owners[firsts]
    maxima[documents] = np.maximum(maxima[documents], np.maximum.reduceat(of_blocks, firsts, axis=0))
