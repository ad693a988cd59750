"""Resampling: vectors to learn a codebook from, out of the records of an index whose encoder is not at hand.

1. Choose documents independently at random, as many as should give the wanted number of vectors.
2. Decode their records: projected vectors, as far as the codes kept them.
3. Give each the vocabulary id that it was stored under: its own, or where tokens were pooled that of the first of them.

What is coded again from decoded vectors loses twice: .6 to 2.6 points of the exact top 10 at 2 bits where every record is scored
(docs/LOG.md). Better candidates make up for it in an index that has drifted far or grown tenfold, and not in others. Vectors made
anew, from texts, lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.kernels.chosen import decode_records
from colindex.storage.scanning import Part

__all__ = ["decoded_sample", "stored_token_ids"]


def decoded_sample(
    parts: Iterable[Part], codebook: SearchCodebook, *, share: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Projected vectors of a share of the documents, float32 [n, dim], and their vocabulary ids, int32 [n].

    Args:
        parts: from `colindex.storage.scanning.scan`, of one segment after the other.
        codebook: what the records were coded with.
        share: of the documents, 0 to 1: wanted vectors over stored ones.
        seed: seed of the choice.

    Returns:
        The ids are None where a segment does not have them.
    """
    rng = np.random.default_rng(seed)
    vectors, token_ids = [np.empty((0, codebook.codes.centroids.shape[1]), np.float32)], [np.empty(0, np.int32)]
    all_have_ids = True
    for part in parts:
        rows = np.repeat(rng.random(len(part)) < share, np.diff(part.offsets))
        vectors.append(decode_records(part.records[rows], codebook.codes))
        of_part = stored_token_ids(part)
        all_have_ids &= of_part is not None
        if of_part is not None:
            token_ids.append(of_part[rows])
    return np.concatenate(vectors), np.concatenate(token_ids) if all_have_ids else None


def stored_token_ids(part: Part) -> NDArray[np.int32] | None:
    """The vocabulary id of each stored vector, int32 [n]; None where the segment has none."""
    if "token_ids" not in part.columns:
        return None
    if part.source_offsets is None:
        return part.columns["token_ids"]
    starts = np.repeat(part.offsets[:-1], np.diff(part.source_offsets))
    first = np.unique(starts + part.columns["pool_map"], return_index=True)[1]
    return part.columns["token_ids"][first]
