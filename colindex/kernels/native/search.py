"""The kernels of a search in C++: the names, signatures and answers of `colindex.kernels.reference`.

Here shapes are checked and arrays brought into one piece, so that the C++ code may trust its pointers.

Answers differ from the reference's by rounding only. Probing takes query tokens in 8 bits: an error of some 6e-4 of the
lengths' product at 128 dims, and hardly ever 3e-3. Refinement takes queries and the vectors of codes of 1, 2 and 4 bits in
8 bits as well: some 1e-3 for each token, where the codes themselves are off by 1e-2 (2 bits) or 4e-3 (4 bits); and those of
8 bits in 16: some 5e-5, and hardly ever 2e-4. Records that hold their vectors are multiplied in float32. Answers are the same
for every instruction set, batch and thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex.kernels.native import _native
from colindex.kernels.reference.probe import BEYOND, scored
from colindex.kernels.tables import BLOCK, PLAIN_BITS, CodeTable, ProbeTable, blocks_for, in_blocks

__all__ = ["check", "check_codes", "gather", "nearest_cells", "score_records", "similarities", "top_centroids"]

_POSTINGS = (np.uint16, np.uint32)
_PLACES = (np.uint32, np.int64)
_MOST_DIMS = 1024
_STATES = {1: 256, 2: 256, 4: 256, 8: 256, PLAIN_BITS: 0}  # of codes, by bits a dimension


def top_centroids(
    query: NDArray[np.float32], table: ProbeTable, nprobe: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """See `colindex.kernels.reference.probe`."""
    width, cells = 4 * table.values.shape[1], table.cells
    check(_fits(table, width) and width <= _MOST_DIMS, "table")
    check(query.ndim == 2 and query.shape[1] <= width and nprobe >= 1, "query or nprobe")
    query = np.ascontiguousarray(query, np.float32)
    own, beyond = (table.values, table.steps, table.spreads), float(BEYOND)
    if cells is None:
        return _native.top_centroids(query, *own, None, nprobe, beyond)
    fits = len(cells.starts) == len(cells.sizes) == len(cells.centres.steps) and len(cells.numbers) == len(table.steps)
    check(fits and _fits(cells.centres, width), "cells")
    wanted = scored(table, nprobe)
    if wanted >= len(table.steps):
        return _native.top_centroids(query, *own, cells.numbers, nprobe, beyond)
    centres, steps, spreads, _ = cells.centres
    return _native.top_centroids_of_cells(
        query, *own, cells.numbers, centres, steps, spreads, cells.starts, cells.sizes, wanted, nprobe, beyond
    )


def nearest_cells(rows: NDArray[np.int8], centres: NDArray[np.int8]) -> NDArray[np.int32]:
    """See `colindex.kernels.reference.cells`."""
    check(rows.ndim == centres.ndim == 2 and rows.shape[1] == centres.shape[1] <= _MOST_DIMS, "rows or centres")
    check(rows.dtype == centres.dtype == np.int8 and len(centres) >= 1, "rows or centres")
    squares = np.full(blocks_for(len(centres)) * BLOCK, np.iinfo(np.int32).max, np.int32)
    np.sum(np.square(centres.astype(np.int32)), axis=1, dtype=np.int32, out=squares[: len(centres)])
    cells = np.empty(len(rows), np.int32)
    _native.nearest_cells(
        np.ascontiguousarray(rows), in_blocks((centres.astype(np.int16) + 128).astype(np.uint8)), squares, cells
    )
    return cells


def gather(
    ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    postings: NDArray[Any],
    postings_offsets: NDArray[Any],
    n_documents: int,
    limit: int,
    allowed: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], int, int]:
    """See `colindex.kernels.reference.gather`."""
    check(ids.shape == scores.shape and ids.ndim == 2 and limit >= 1, "ids, scores or limit")
    check(postings.dtype in _POSTINGS and postings_offsets.dtype in _PLACES, "postings")
    check(postings.ndim == postings_offsets.ndim == 1 and n_documents >= 0, "postings or documents")
    if allowed is not None:
        check(allowed.dtype == np.uint8 and allowed.shape == (-(-n_documents // 8),), "allowed documents")
        allowed = np.ascontiguousarray(allowed)
    ids, scores = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(scores, np.float32)
    return _native.gather(ids, scores, postings, postings_offsets, n_documents, limit, allowed)


def score_records(
    query: NDArray[np.float32], records: NDArray[np.uint8], offsets: NDArray[np.int64], table: CodeTable
) -> NDArray[np.float32]:
    """See `colindex.kernels.reference.refine`."""
    query, records, of_table = _to_refine(query, records, table)
    offsets = np.ascontiguousarray(offsets, np.int64)
    check(offsets.ndim == 1 and len(offsets) >= 1, "offsets")
    return _native.score_records(query, records, offsets, *of_table)


def similarities(query: NDArray[np.float32], records: NDArray[np.uint8], table: CodeTable) -> NDArray[np.float32]:
    """See `colindex.kernels.reference.similarities`: the products that `score_records` takes the maxima of, to the bit."""
    query, records, of_table = _to_refine(query, records, table)
    return _native.similarities(query, records, *of_table)


def check_codes(query: NDArray[np.float32], table: CodeTable) -> tuple[Any, ...]:
    """The parts of a table, if they fit each other and a query."""
    count, dim = table.centroids.shape
    fits = dim <= _MOST_DIMS and table.centroid_bytes in (2, 4) and _STATES.get(table.bits) == len(table.levels)
    held = table.centroids.dtype == np.float32
    check(fits and held == (table.bits == PLAIN_BITS) and len(table.steps) == count >= 1, "table")
    check(query.ndim == 2 and query.shape[1] == dim, "query")
    return (table.centroids, table.steps, table.levels, table.bits, table.centroid_bytes, table.unit)


def _to_refine(
    query: NDArray[np.float32], records: NDArray[np.uint8], table: CodeTable
) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[Any, ...]]:
    """A query and records in one piece, and the table's parts."""
    of_table = check_codes(query, table)
    record_bytes = table.centroid_bytes + 2 + -(-table.centroids.shape[1] * table.bits // 8)
    check(records.ndim == 2 and records.shape[1] == record_bytes, "records")
    return np.ascontiguousarray(query, np.float32), np.ascontiguousarray(records), of_table


def _fits(table: ProbeTable, width: int) -> bool:
    """Whether the arrays of a table are as large as each other say."""
    count = len(table.steps)
    return table.values.shape == (blocks_for(count), width // 4, BLOCK, 4) and len(table.spreads) == count


def check(fits: bool, what: str) -> None:
    """A wrong shape is a mistake in colindex, not in its input: but it must not become a wild pointer."""
    if not fits:
        raise ValueError(f"native kernel: {what} of another shape or type than it takes")
