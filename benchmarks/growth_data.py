"""What an index grows by, and what it should find at each size; all of it larger than memory, if need be.

1. *Arrange*: documents in random order, those of a foreign collection before all others. Blocks are read in the order in which
   they lie, projected, and written row by row to their places in a mapped file.
2. *Score* every document once for each query, by exact float32 MaxSim of what was written.
3. *Truth* at a size: the best of the documents up to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import exact_scores
from benchmarks.vectors import Vectors
from colindex.projection import Projection, learn_projection
from colindex.ranked import Ranked

__all__ = ["Growth", "Part", "arranged", "between", "growth", "pca", "projected"]

ROWS = 65_536
"""Vectors that are projected at a time, and that a PCA is learned from."""


@dataclass(frozen=True, slots=True)
class Part:
    """Documents of one collection."""

    docs: Vectors
    count: int | None = None
    """So many of them, chosen at random; None for all that have tokens."""
    prefix: str = ""
    """Before their ids, so that those of two collections differ."""

    def order(self) -> NDArray[np.int64]:
        """Numbers of the documents that are taken, in random order."""
        order = np.random.default_rng(0).permutation(np.flatnonzero(np.diff(self.docs.offsets)))
        return order[: self.count]


@dataclass(frozen=True, slots=True)
class Growth:
    """What an index grows by."""

    docs: Vectors
    """What is built on first, then what is added, in order."""
    queries: list[NDArray[np.float32]]
    sizes: list[int]
    """Documents after the build and after each step."""
    exact: dict[int, list[list[str]]]
    """The exact top of each query at each size."""


def pca(docs: Vectors, dim: int) -> Projection:
    """To `dim` dimensions, learned from a collection."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(docs.vectors))[:ROWS])
    return learn_projection(docs.vectors[chosen].astype(np.float32), dim, 0)


def projected(of: Vectors, projection: Projection) -> Vectors:
    """The same documents or queries, in fewer dimensions; in memory."""
    return Vectors(of.ids, projection.apply(of.vectors).astype(np.float16), of.token_ids, of.offsets)


def arranged(path: Path, parts: Sequence[Part], projection: Projection) -> Vectors:
    """Step 1: the documents of all parts, one part after the other; their vectors go to a file at `path`."""
    orders = [part.order() for part in parts]
    lengths = [np.diff(part.docs.offsets)[order] for part, order in zip(parts, orders, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    vectors = np.memmap(path, np.float16, "w+", shape=(int(offsets[-1]), projection.dim))
    token_ids = np.empty(len(vectors), np.int32)
    ids: list[str] = []
    for part, order in zip(parts, orders, strict=True):
        for source, rows in _moves(part.docs.offsets, order, offsets[len(ids) :]):
            vectors[rows] = projection.apply(part.docs.vectors[source])
            token_ids[rows] = part.docs.token_ids[source]
        ids += [part.prefix + part.docs.ids[number] for number in order]
    return Vectors(tuple(ids), vectors, token_ids, offsets)


def between(docs: Vectors, first: int, stop: int) -> Vectors:
    """Some documents next to each other."""
    rows = slice(int(docs.offsets[first]), int(docs.offsets[stop]))
    offsets = docs.offsets[first : stop + 1]
    return Vectors(docs.ids[first:stop], docs.vectors[rows], docs.token_ids[rows], offsets - offsets[0])


def growth(docs: Vectors, queries: Vectors, first: int, steps: int, k: int) -> Growth:
    """Sizes in equal steps, and steps 2 and 3."""
    sizes = [int(size) for size in np.linspace(first, len(docs.ids), steps + 1)]
    asked = queries.each()
    scores = exact_scores(docs.vectors, docs.offsets, asked)
    exact = {}
    for size in sizes:
        tops = [Ranked.best(np.arange(size), row[:size], k).documents for row in scores]
        exact[size] = [[docs.ids[number] for number in top] for top in tops]
    return Growth(docs, asked, sizes, exact)


def _moves(
    offsets: NDArray[np.int64], order: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to read and where each goes, some documents at a time, in the order in which they lie.

    Args:
        offsets: of the documents where they lie.
        order: which of them go, one after the other.
        starts: where each of those goes, at least as many.
    """
    taken = np.argsort(order)
    ends = np.cumsum(np.diff(offsets)[order[taken]])
    for block in np.split(taken, np.searchsorted(ends, np.arange(ROWS, ends[-1], ROWS))):
        lengths = np.diff(offsets)[order[block]]
        yield _runs(offsets[order[block]], lengths), _runs(starts[block], lengths)


def _runs(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths))
