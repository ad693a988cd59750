"""Where documents' records lie: from document numbers to byte ranges of a block store's address space.

Documents are numbered through all segments in order. For each one:
1. find its segment, the last that begins at it or before;
2. take its first row and the next document's from the segment's resident offsets;
3. its bytes are those rows, from where the segment begins.

Two bodies with the same answers, as in `blocks`: native, or NumPy where the extension was not compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from colindex.storage.reads import Int64s

try:
    from colindex.storage._reads import Places
except ImportError:
    HAS_NATIVE = False
else:
    HAS_NATIVE = True

__all__ = ["HAS_NATIVE", "Finder", "NumpyPlaces", "RecordRanges", "find_records"]


class RecordRanges(NamedTuple):
    """Where the records of some documents lie."""

    starts: Int64s
    """First byte of each document, [documents]."""
    ends: Int64s
    """The byte after its last, [documents]."""
    rows: Int64s
    """Row at which each document begins when they are laid end to end, and the number of all: [documents + 1]."""

    def part(self, begin: int, stop: int) -> RecordRanges:
        """Documents [begin, stop) alone."""
        rows = self.rows[begin : stop + 1]
        return RecordRanges(self.starts[begin:stop], self.ends[begin:stop], rows - rows[0] if begin else rows)


class Finder(Protocol):
    """A body."""

    def find(self, documents: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """The fields of `RecordRanges` of documents that are there; IndexError for others."""
        ...


def find_records(offsets: Sequence[NDArray[Any]], bases: Sequence[int], record_bytes: int) -> Finder:
    """The best body for segments with these offsets, uint32 or uint64 [documents + 1], that begin at these bytes."""
    firsts = np.cumsum([0, *(len(each) - 1 for each in offsets)])[:-1].tolist()
    return (Places if HAS_NATIVE else NumpyPlaces)(firsts, offsets, bases, record_bytes)


class NumpyPlaces:
    """The body in NumPy."""

    def __init__(
        self, firsts: Sequence[int], offsets: Sequence[NDArray[Any]], bases: Sequence[int], record_bytes: int
    ) -> None:
        self._firsts, self._offsets, self._bases, self._record_bytes = np.array(firsts), offsets, bases, record_bytes
        self._documents = sum(len(each) - 1 for each in offsets)

    def find(self, documents: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """The fields of `RecordRanges`."""
        if len(documents) and not 0 <= int(documents.min()) <= int(documents.max()) < self._documents:
            raise IndexError(
                f"documents: expected 0 to {self._documents - 1}, got {documents.min()}, {documents.max()}"
            )
        starts, ends = np.empty(len(documents), np.int64), np.empty(len(documents), np.int64)
        segments = np.searchsorted(self._firsts, documents, side="right") - 1
        for segment in np.unique(segments).tolist():
            here = segments == segment
            local = documents[here] - self._firsts[segment]
            starts[here] = self._bases[segment] + self._rows(segment, local) * self._record_bytes
            ends[here] = self._bases[segment] + self._rows(segment, local + 1) * self._record_bytes
        rows = np.zeros(len(documents) + 1, np.int64)
        np.cumsum((ends - starts) // self._record_bytes, out=rows[1:])
        return starts, ends, rows

    def _rows(self, segment: int, places: Int64s) -> Int64s:
        return self._offsets[segment][places].astype(np.int64)
