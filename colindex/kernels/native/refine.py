"""Refinement of candidates, all rounds of it, in C++ (rounds.h); `colindex.refinement` defines it.

Here shapes are checked, so that the C++ code may trust its pointers; arrays that are not in one piece are a TypeError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.native import _native
from colindex.kernels.native.search import check, check_codes
from colindex.kernels.rounds import Candidates, Refined, Rounds
from colindex.kernels.tables import CodeTable

__all__ = ["refine"]


def refine(
    query: NDArray[np.float32],
    candidates: Candidates,
    reader: object,
    table: CodeTable,
    k: int,
    margin: float,
    rounds: Rounds,
) -> Refined:
    """The k best of the candidates, by rounds.

    `reader` is a capsule as in storage/native/reader.h.

    Raises:
        IndexError: a record names a centroid that does not exist.
    """
    of_table = check_codes(query, table)
    documents, estimates, starts, ends = candidates
    check(documents.ndim == 1 and documents.shape == estimates.shape == starts.shape == ends.shape, "candidates")
    check(k >= 1 and min(rounds) >= 0 and rounds.first >= 1 and rounds.most >= 1, "k or rounds")
    found = _native.refine(
        np.ascontiguousarray(query, np.float32),
        documents,
        estimates,
        starts,
        ends,
        reader,
        k,
        margin,
        *rounds,
        *of_table,
    )
    return Refined(*found)
