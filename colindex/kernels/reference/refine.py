"""How well do the documents that these records stand for answer the query?

1. *Decode* a bounded number of documents (`codes`): centroid + length * levels, brought to unit length where vectors had it.
2. *Score* them (`maxsim`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.reference.codes import decode_records
from colindex.kernels.reference.maxsim import maxsim
from colindex.kernels.tables import CodeTable

__all__ = ["score_records"]

_VECTORS_AT_ONCE = 8192  # 4 MiB at 128 dims, which stays in the processor's cache


def score_records(
    query: NDArray[np.float32], records: NDArray[np.uint8], offsets: NDArray[np.int64], table: CodeTable
) -> NDArray[np.float32]:
    """MaxSim of one query with each document, from records.

    Args:
        query: float32 [q, dim].
        records: uint8 [t, record bytes], see `colindex.records`.
        offsets: int64 [m + 1], from 0; document i owns `records[offsets[i]:offsets[i + 1]]`.
        table: what the records were coded with.

    Returns:
        float32 [m]; -inf for a document without records. A document's score does not depend on the others.

    Raises:
        IndexError: a record names a centroid that the table does not have.
    """
    scores = np.empty(len(offsets) - 1, np.float32)
    for begin, stop in _groups(offsets):
        vectors = decode_records(records[int(offsets[begin]) : int(offsets[stop])], table)
        scores[begin:stop] = maxsim(query, vectors, offsets[begin : stop + 1] - offsets[begin])
    return scores


def _groups(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most `_VECTORS_AT_ONCE` vectors; a longer document stands alone."""
    begin = 0
    while begin < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[begin] + _VECTORS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, begin + 1), len(offsets) - 1)
        yield begin, stop
        begin = stop
