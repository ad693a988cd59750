"""How similar is each query token to each of a document's vectors?

1. *Decode* the records (`codes`).
2. *Multiply* them in the blocks in which `maxsim` multiplies them, so that BLAS rounds each product as it does there:
   the maximum of a row is, to the bit, what the token adds to the score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.reference.codes import decode_records
from colindex.kernels.reference.maxsim import blocks_of
from colindex.kernels.tables import CodeTable

__all__ = ["similarities"]

_QUERY_TOKENS = 32


def similarities(query: NDArray[np.float32], records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float32]:
    """Dot products of query tokens with the vectors of one document, as `score_records` takes them.

    Args:
        query: float32 [q, dim].
        records: uint8 [t, record bytes] of one document, see `colindex.records`.
        table: what the records were coded with.

    Returns:
        float32 [q, t]. The maxima of its rows add up to the document's score but for the rounding of the sum.

    Raises:
        IndexError: a record names a centroid that the table does not have.
    """
    vectors = decode_records(records, table)
    products = np.empty((len(query), len(records)), np.float32)
    if not len(records):
        return products
    rows, _ = blocks_of(np.zeros(1, np.int64), np.array([len(records)]))
    for start in range(0, len(query), _QUERY_TOKENS):
        tokens = np.ascontiguousarray(query[start : start + _QUERY_TOKENS].T)  # [dim, tokens]
        found = (vectors[rows] @ tokens).reshape(-1, tokens.shape[1])[: len(records)]
        products[start : start + _QUERY_TOKENS] = found.T
    return products
