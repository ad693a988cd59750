"""The records of some documents, by number: what looking at a document, or scoring it once more, begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.errors import CorruptIndexError
from colindex.kernels import chosen as kernels
from colindex.search import Snapshot

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of documents, end to end."""

    codebook: SearchCodebook
    records: NDArray[np.uint8]
    """uint8 [stored vectors, record bytes]."""
    offsets: NDArray[np.int64]
    """Document i owns `records[offsets[i]:offsets[i + 1]]`, int64 [documents + 1]."""

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score that a search gives each document for a projected query, float32 [documents]; -inf without vectors."""
        with _readable(self.codebook):
            return kernels.score_records(query, self.records, self.offsets, self.codebook.codes)

    def scores_of(self, query: NDArray[np.float32], parts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """The same for parts of documents, each given as the rows of its records, float32 [parts]."""
        rows = np.concatenate([np.empty(0, np.int64), *parts])
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        with _readable(self.codebook):
            return kernels.score_records(query, self.records[rows], offsets, self.codebook.codes)

    def similarities(self, query: NDArray[np.float32], position: int) -> NDArray[np.float32]:
        """Of a projected query's tokens and one document's stored vectors, float32 [query tokens, stored vectors]."""
        own = self.records[self.offsets[position] : self.offsets[position + 1]]
        with _readable(self.codebook):
            return kernels.similarities(query, own, self.codebook.codes)

    def centroids(self, position: int) -> NDArray[np.uint32]:
        """The centroid of each of one document's stored vectors, uint32 [stored vectors]."""
        return self.codebook.layout.unpack(self.records[self.offsets[position] : self.offsets[position + 1]])[0]


def fetch(snapshot: Snapshot, documents: NDArray[np.int64]) -> Fetched:
    """Read the records of documents, numbered through all segments, from the cache or the disk."""
    ranges = snapshot.ranges(documents)
    content, _ = snapshot.store.fetch_ranges(ranges.starts, ranges.ends)
    return Fetched(snapshot.codebook, content.reshape(-1, snapshot.codebook.layout.record_bytes), ranges.rows)


@contextmanager
def _readable(codebook: SearchCodebook) -> Iterator[None]:
    try:
        yield
    except IndexError as error:  # the bytes are those that were written: whoever wrote them did not know this codebook
        raise CorruptIndexError(
            f"a record: expected one of {codebook.n_centroids:,} centroids, got another; run `colindex verify`."
        ) from error
