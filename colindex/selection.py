"""Selections: which documents a search may return, as bits, segment by segment.

1. Documents that are deleted are not in the selection of a generation (`Selection.live`).
2. A filter on metadata, or a list of ids, makes a smaller one of it (`also`).
3. The gather kernel takes the bits of one segment; stages that need numbers take `documents`.

Bits are packed, uint8 [ceil(documents / 8)], document `d` in bit `d % 8` of byte `d // 8`; a set bit may be returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Selection"]

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents of each segment may be returned."""

    sizes: tuple[int, ...]
    """Documents of each segment, deleted or not."""
    bits: tuple[Bits | None, ...]
    """Packed bits of each segment; None where all may be."""
    count: int
    """How many documents may be returned."""

    @classmethod
    def of(cls, sizes: Sequence[int], bits: Sequence[Bits | None]) -> Selection:
        """Count, and leave out bits that are all set; bits beyond the last document of a segment are 0."""
        counts = [
            size if each is None else int(np.bitwise_count(each).sum()) for size, each in zip(sizes, bits, strict=True)
        ]
        kept = (None if count == size else each for count, size, each in zip(counts, sizes, bits, strict=True))
        return cls(tuple(sizes), tuple(kept), sum(counts))

    def also(self, bits: Sequence[Bits | None]) -> Selection:
        """The documents that are in both."""
        both = [
            mine if theirs is None else theirs if mine is None else mine & theirs
            for mine, theirs in zip(self.bits, bits, strict=True)
        ]
        return Selection.of(self.sizes, both)

    def by_segment(self) -> Iterator[NDArray[np.int64]]:
        """Numbers of the documents, through all segments, rising: one array for each segment that has any."""
        first = 0
        for size, bits in zip(self.sizes, self.bits, strict=True):
            marks = (
                np.arange(size) if bits is None else np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little"))
            )
            if len(marks):
                yield marks.astype(np.int64) + first
            first += size

    def documents(self) -> NDArray[np.int64]:
        """Numbers of all documents, rising."""
        return np.concatenate([np.empty(0, np.int64), *self.by_segment()])

    def __contains__(self, place: tuple[int, int]) -> bool:
        """Whether the document at (position of its segment, number within it) may be returned."""
        segment, document = place
        bits = self.bits[segment]
        return bits is None or bool(bits[document >> 3] >> (document & 7) & 1)

    @property
    def nbytes(self) -> int:
        """Memory of the bits."""
        return sum(bits.nbytes for bits in self.bits if bits is not None)
