"""Growth: centroids for what is added to an index, where it has become large for those that it has.

1. *Count*: an index has about one centroid for so many vectors (`clustering.centroid_count`). While an addition leaves it short
   by less than a 32nd, nothing is done: a codebook is written whole. What is short adds up over additions.
2. *Sample*: get the vectors of all chunks, keep them in the spool, so that no text is encoded twice, and take a share of them
   at random, bounded by memory.
3. *Expand* the codebook by what the sample needs (`colindex.expansion`): old centroids keep their numbers and old segments stay
   as they are.

A build that was told its number of centroids keeps it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.clustering import centroid_count
from colindex.codebook import Codebook
from colindex.params import BuildParams, parse_bytes
from colindex.progress import Report, Rising
from colindex.segmenting import thread_count
from colindex.sources import Source
from colindex.spool import Spool

__all__ = ["grown"]

LEAST_SHARE = 1 / 32
"""Missing centroids, over those that there are, from which on a codebook is expanded."""
_MEMORY_SHARE = 8  # the sample takes an eighth of the memory; clustering it, as much again


def grown(
    source: Source, spool: Spool, codebook: Codebook, *, documents: int, before: int, added: int, report: Report
) -> Codebook:
    """The codebook for an index of `before` stored vectors to which the spool's `documents` bring `added`, about.

    The codebook itself comes back where it is large enough, or nothing is far from its centroids.
    """
    params, there = source.params, len(codebook.centroids)
    wanted = min(centroid_count(before + added), codebook.layout.most_centroids)
    if params.centroids is not None or wanted - there < LEAST_SHARE * there:
        return codebook
    limit = parse_bytes(params.memory) // _MEMORY_SHARE // (4 * codebook.dim)
    vectors, token_ids = _sample(source, spool, codebook, min(1.0, limit / max(1, added)), documents, report)
    if not len(vectors):
        return codebook
    return codebook.expanded(vectors, token_ids, n_centroids=wanted, seed=params.seed, threads=thread_count(params))


def _sample(
    source: Source, spool: Spool, codebook: Codebook, share: float, documents: int, report: Report
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Step 2: projected vectors, float32 [n, dim], and their vocabulary ids where all have them."""
    vectors, token_ids, done = [np.empty((0, codebook.dim), np.float32)], [], 0
    told = Rising("sample", documents, report)
    for chunk in range(spool.chunk_count()):
        batch = source.tokens(spool, chunk, told.beyond(done))
        if not spool.has_tokens(chunk):
            spool.write_tokens(chunk, batch)
        tokens = batch.tokens
        chosen = np.flatnonzero(_draws(source.params, chunk, len(tokens.vectors)) < share)
        vectors.append(codebook.project(tokens.vectors[chosen]))
        if tokens.token_ids is not None:
            token_ids.append(tokens.token_ids[chosen])
        done += len(tokens)
        told.at_least(done)
    return np.concatenate(vectors), np.concatenate(token_ids) if len(token_ids) == len(vectors) - 1 else None


def _draws(params: BuildParams, chunk: int, count: int) -> NDArray[np.float64]:
    """A number from 0 to 1 for each vector of a chunk; the same each time."""
    return np.random.default_rng([params.seed, chunk]).random(count)
