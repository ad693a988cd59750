"""Which segments a compaction writes anew, and into how many: a function of their sizes alone.

Only neighbours are merged, so that documents keep their order, and with it ties between them; and only where their inspection
columns are the same. A segment's size is the share of a full one that its live documents fill, by vectors or by
documents, whichever is more.

*By tiers*, the default, rewrites no vector for little:
1. Segments less than half full are small; runs of small neighbours are packed, first to last, into groups that fill one.
2. A group is merged where its largest segment is at most twice the others together; otherwise the largest stays, and both
   sides of it are looked at in the same way. So what is rewritten ends in a segment half as large again, or larger. Segments
   below 1/64 count as 1/64: they cost nothing.
3. A segment that is not merged is written anew where more than a quarter of its documents are deleted.

*In full* takes all neighbours, small or not:
1. Pack them, first to last, into groups that fill one segment; each becomes one.
2. Where cutting segments anew at document borders gives fewer, do that instead, from the first segment that changes.
3. A segment that is not merged is written anew where any of its documents is deleted.

A segment without live documents is dropped. A plan that has been carried out leaves nothing to do: compacting twice is
compacting once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from colindex.storage.segments import MAX_DOCUMENTS

__all__ = ["Run", "Stored", "cut", "plan"]

_DELETED_SHARE = 0.25
_SIMILAR = 2
"""The largest of a group is at most this many times the others together."""
_FLOOR = 64
"""Segments smaller than one full one in this many count as that large."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment, as the plan sees it."""

    lengths: NDArray[np.uint32]
    """Stored vectors of each live document."""
    deleted: int = 0
    columns: frozenset[str] = frozenset()
    """Its inspection columns."""

    @property
    def documents(self) -> int:
        """Live documents."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Stored vectors of live documents."""
        return int(self.lengths.sum(dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring segments, from position `first` to before `stop`, to be written anew."""

    first: int
    stop: int
    outputs: tuple[int, ...]
    """How many documents each new segment holds, in order; none where nothing is left."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes of the segments that are left, as whole numbers: `full` is one full segment."""

    positions: list[int]
    stored: list[Stored]
    tokens: list[int]
    documents: list[int]
    segment_tokens: int
    max_documents: int

    @property
    def full(self) -> int:
        return self.segment_tokens * self.max_documents

    def size(self, place: int) -> int:
        return max(self.tokens[place] * self.max_documents, self.documents[place] * self.segment_tokens)

    def is_small(self, place: int) -> bool:
        return 2 * self.size(place) < self.full

    def columns(self, place: int) -> frozenset[str]:
        return self.stored[place].columns


def plan(
    segments: Sequence[Stored], segment_tokens: int, *, full: bool = False, max_documents: int = MAX_DOCUMENTS
) -> list[Run]:
    """The runs of segments to be written anew, in order.

    Args:
        segments: all of an index, in order.
        segment_tokens: stored vectors that a segment may hold; one that holds more already is not cut for it.
        full: leave no deleted document, and as few segments as there can be.
        max_documents: documents that a segment may hold.
    """
    positions = [position for position, each in enumerate(segments) if each.documents]
    left = [segments[position] for position in positions]
    sizes = _Sizes(
        positions,
        left,
        [each.tokens for each in left],
        [each.documents for each in left],
        segment_tokens,
        max_documents,
    )
    merged = _in_full(sizes) if full else _by_tiers(sizes)
    runs = [Run(positions[places[0]], positions[places[-1]] + 1, outputs) for places, outputs in merged]
    return sorted([*runs, *_empty(segments, runs)], key=lambda run: run.first)


_Merged = Iterator[tuple[range, tuple[int, ...]]]
"""Places among the segments that are left, and the documents of what they become."""


def _by_tiers(sizes: _Sizes) -> _Merged:
    for stretch in _stretches(sizes, lambda place: (sizes.is_small(place), sizes.columns(place))):
        small = sizes.is_small(stretch[0])
        groups = list(_packed(sizes, stretch)) if small else [range(place, place + 1) for place in stretch]
        for group in groups:
            for places in _similar(sizes, group):
                deleted = sizes.stored[places[0]].deleted
                if len(places) > 1 or deleted > _DELETED_SHARE * (deleted + sizes.documents[places[0]]):
                    yield places, (sum(sizes.documents[place] for place in places),)


def _in_full(sizes: _Sizes) -> _Merged:
    for stretch in _stretches(sizes, sizes.columns):
        groups = list(_packed(sizes, stretch))
        anew = cut([sizes.stored[place] for place in stretch], sizes.segment_tokens, sizes.max_documents)
        if len(anew) < len(groups):
            same = next(
                place
                for place, documents in enumerate(anew)
                if sizes.stored[stretch[place]].deleted or sizes.documents[stretch[place]] != documents
            )
            yield stretch[same:], anew[same:]
            continue
        for group in groups:
            if len(group) > 1 or sizes.stored[group[0]].deleted:
                yield group, (sum(sizes.documents[place] for place in group),)


def _stretches(sizes: _Sizes, key: Callable[[int], object]) -> Iterator[range]:
    """Longest runs of places with the same key."""
    for _, places in groupby(range(len(sizes.positions)), key):
        found = list(places)
        yield range(found[0], found[-1] + 1)


def _packed(sizes: _Sizes, places: range) -> Iterator[range]:
    """Groups that fit into one segment, each as long as can be, first to last."""
    first, tokens, documents = places.start, 0, 0
    for place in places:
        tokens += sizes.tokens[place]
        documents += sizes.documents[place]
        if place > first and (tokens > sizes.segment_tokens or documents > sizes.max_documents):
            yield range(first, place)
            first, tokens, documents = place, sizes.tokens[place], sizes.documents[place]
    yield range(first, places.stop)


def _similar(sizes: _Sizes, group: range) -> Iterator[range]:
    """The group whole if its largest is at most twice the others together; else the largest, and what is similar beside it."""
    if not group:
        return
    counted = {place: max(sizes.size(place), sizes.full // _FLOOR) for place in group}
    largest = max(group, key=counted.__getitem__)
    if len(group) == 1 or counted[largest] <= _SIMILAR * (sum(counted.values()) - counted[largest]):
        yield group
        return
    yield from _similar(sizes, range(group.start, largest))
    yield range(largest, largest + 1)
    yield from _similar(sizes, range(largest + 1, group.stop))


def cut(segments: Sequence[Stored], segment_tokens: int, max_documents: int = MAX_DOCUMENTS) -> tuple[int, ...]:
    """Documents of each segment where all are cut anew at document borders, each as long as can be."""
    lengths = np.concatenate([np.empty(0, np.uint32), *(each.lengths for each in segments)])
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    counts, first = [], 0
    while first < len(lengths):
        stop = int(np.searchsorted(ends, ends[first] + segment_tokens, side="right")) - 1
        stop = min(max(stop, first + 1), first + max_documents, len(lengths))
        counts.append(stop - first)
        first = stop
    return tuple(counts)


def _empty(segments: Sequence[Stored], runs: Sequence[Run]) -> Iterator[Run]:
    """Segments without live documents, but for those within a run."""
    within = {position for run in runs for position in range(run.first, run.stop)}
    for position, each in enumerate(segments):
        if not each.documents and position not in within:
            yield Run(position, position + 1, ())
