"""Search: a projected query in, ranked documents out.

1. *Probe*: the best centroids of each query token; where there are many, the best in the cells that look best for it.
2. *Gather*: walk their postings; every document met gets an estimate of its score, without touching its records.
3. *Fetch*: read the records of the best candidates, a round at a time, with the next rounds' reads in flight.
4. *Refine*: decode the records and score them with MaxSim. The next round takes the candidates that would plausibly reach the
   top k, judged by how far refined scores lay above their estimates so far; when there are none, stop.
5. *Fill*: if fewer than k documents were met, probe wider, and at the end take every document.

A *selection* says which documents may be returned: those that are not deleted and that pass a filter. Others are no
candidates; where the selection holds no more documents than would be candidates, stages 1 and 2 are left out and all of them
are refined. With `exact` every document of the selection is fetched and refined, several queries in one pass over the records.

Documents are numbered through all segments in order; ties in score go to the lower number. A document's score depends on
its records and the query alone: not on the candidates beside it, the cache, or earlier searches.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.errors import CorruptIndexError
from colindex.kernels import chosen as kernels
from colindex.params import SearchParams
from colindex.selection import Selection
from colindex.storage.blocks import BlockStore, FetchCounters
from colindex.storage.places import Finder, RecordRanges
from colindex.storage.segments import SegmentReader
from colindex.types import SearchStats

__all__ = ["Ranked", "Snapshot", "Tally", "Traced", "candidates", "search", "search_each", "search_exact", "traced"]

FIRST_ROUND = 48
"""Documents refined before anything is known of how good estimates are."""
ROUND = 64
"""At most this many documents are refined together afterwards."""
AHEAD = 64
"""Documents whose reads are in flight beyond those of the round that is refined."""
FEW = 256
"""More documents than wanted that are sorted without taking the best of them first."""
TOKENS_AT_ONCE = 8192
"""Vectors that an exact search fetches at a time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of an index, open for searching."""

    codebook: SearchCodebook
    segments: tuple[SegmentReader, ...]
    store: BlockStore
    finder: Finder
    """Where in the store the records of a document are."""
    firsts: tuple[int, ...]
    """Number of the first document of each segment, and the number of all."""
    live: Selection
    """The documents that are not deleted."""

    @property
    def tokens(self) -> int:
        """Number of stored vectors."""
        return sum(int(segment.offsets[-1]) for segment in self.segments)

    def locate(self, document: int) -> tuple[int, int]:
        """Position of its segment, and number within it."""
        segment = bisect_right(self.firsts, document) - 1
        return segment, document - self.firsts[segment]

    def ranges(self, documents: NDArray[np.int64]) -> RecordRanges:
        """Where in the store the documents' records are."""
        return RecordRanges(*self.finder.find(documents))


@dataclass(frozen=True, slots=True)
class Ranked:
    """Documents in falling score, ties in document order."""

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def best(cls, documents: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranked:
        """The k best of some documents."""
        if len(documents) > k + FEW:
            # Everything at least as good as the k-th, so that ties at the border are decided by document, not by chance.
            kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
            documents, scores = documents[kept], scores[kept]
        order = np.lexsort((documents, -scores))[:k]
        return cls(documents[order], scores[order])

    @classmethod
    def best_of(cls, parts: Sequence[Ranked], k: int) -> Ranked:
        """The k best of all; no document is in two."""
        documents = np.concatenate([_NONE.documents, *(part.documents for part in parts)])
        return cls.best(documents, np.concatenate([_NONE.scores, *(part.scores for part in parts)]), k)

    def merged(self, other: Ranked, k: int) -> Ranked:
        """The k best of both; no document is in both."""
        return Ranked.best_of([self, other], k) if len(self) else Ranked.best(other.documents, other.scores, k)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents)


_NONE = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(slots=True)
class Tally:
    """What a search has done so far."""

    seconds: dict[str, float] = field(default_factory=dict)
    postings: int = 0
    gathered: int = 0
    candidates: int = 0
    fetched: list[FetchCounters] = field(default_factory=list)
    announced: int = 0
    """Blocks whose reads prefetches have started."""
    _mark: float = field(default_factory=time.perf_counter)

    def mark(self) -> None:
        """Begin to count from now: the time since the last lap was another query's."""
        self._mark = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._mark
        self._mark = now

    def stats(self) -> SearchStats:
        """The same, for who asked for it."""
        fetched = sum(self.fetched[1:], self.fetched[0]) if self.fetched else FetchCounters()
        return SearchStats(
            seconds=dict(self.seconds),
            postings=self.postings,
            gathered=self.gathered,
            candidates=self.candidates,
            bytes_read=fetched.bytes_read,
            reads=fetched.reads,
            cache_hits=fetched.hits,
            cache_misses=fetched.misses,
            prefetch_hits=fetched.prefetch_hits,
        )


@dataclass(slots=True)
class _Gaps:
    """How far refined scores lay above their estimates so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, scores: NDArray[np.float32], estimates: NDArray[np.float32]) -> None:
        """Of some more documents, estimates falling; not of empty ones, nor of those that no probe met."""
        if not _all_finite(estimates):
            met = np.isfinite(estimates)
            scores, estimates = scores[met], estimates[met]
        gaps = np.subtract(scores, estimates, dtype=np.float64)
        if not math.isfinite(total := float(gaps.sum())):
            gaps = gaps[np.isfinite(gaps)]
            total = float(gaps.sum())
        self.count += len(gaps)
        self.total += total
        self.squares += float(gaps @ gaps)

    def reach(self, deviations: float) -> float:
        """Their mean, and so many standard deviations more."""
        mean = self.total / self.count
        return mean + deviations * math.sqrt(max(self.squares / self.count - mean * mean, 0.0))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A query after stages 1 and 2, the first reads of stage 3 in flight."""

    query: NDArray[np.float32]
    estimated: Ranked
    ranges: RecordRanges
    tally: Tally


def search(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams, selection: Selection
) -> tuple[Ranked, Tally]:
    """The k best documents of a selection for a projected query, float32 [query tokens, dim], by candidates and refinement."""
    prepared = _prepare(snapshot, query, k, params, selection)
    return _refine(snapshot, prepared, k, params.margin), prepared.tally


def search_each(
    snapshot: Snapshot, queries: Iterable[NDArray[np.float32]], k: int, params: SearchParams, selection: Selection
) -> Iterator[Ranked]:
    """`search` for one query after the other: while one is refined, the first reads of the next are in flight."""
    prepared: _Prepared | None = None
    for query in queries:
        following = _prepare(snapshot, query, k, params, selection)
        if prepared is not None:
            yield _refine(snapshot, prepared, k, params.margin)
        prepared = following
    if prepared is not None:
        yield _refine(snapshot, prepared, k, params.margin)


@dataclass(frozen=True, slots=True)
class Traced:
    """What a search did with its candidates."""

    answer: Ranked
    estimated: Ranked
    """The candidates, by estimated score."""
    refined: int
    """How many of them, from the first on, were refined before the others were given up."""


def traced(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams, selection: Selection
) -> Traced:
    """`search`, and what became of each candidate."""
    prepared = _prepare(snapshot, query, k, params, selection)
    return Traced(_refine(snapshot, prepared, k, params.margin), prepared.estimated, prepared.tally.candidates)


def candidates(snapshot: Snapshot, query: NDArray[np.float32], nprobe: int, limit: int, selection: Selection) -> Ranked:
    """Stages 1 and 2 alone: the best `limit` documents of a selection for a projected query by estimated score."""
    return _gather(snapshot, query, nprobe, limit, selection, Tally())


def _prepare(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams, selection: Selection
) -> _Prepared:
    """Stages 1 and 2, and stage 5 where too few documents were met; announces the first reads."""
    tally = Tally()
    limit = max(params.candidates, 2 * k)
    estimated = (
        _NONE if selection.count <= limit else _estimated(snapshot, query, k, params.nprobe, limit, selection, tally)
    )
    if len(estimated) < min(k, selection.count):
        estimated = _with_unmet(selection, estimated)
    ranges = snapshot.ranges(estimated.documents)
    first = slice(FIRST_ROUND + AHEAD)
    tally.announced += snapshot.store.prefetch_ranges(ranges.starts[first], ranges.ends[first])
    return _Prepared(query, estimated, ranges, tally)


def _estimated(
    snapshot: Snapshot,
    query: NDArray[np.float32],
    k: int,
    nprobe: int,
    limit: int,
    selection: Selection,
    tally: Tally,
) -> Ranked:
    """Stages 1 and 2, with more and more probes until k documents were met, or all centroids probed."""
    while True:
        estimated = _gather(snapshot, query, nprobe, limit, selection, tally)
        if len(estimated) >= min(k, selection.count) or nprobe >= snapshot.codebook.n_centroids:
            return estimated
        nprobe *= 4


def _gather(
    snapshot: Snapshot, query: NDArray[np.float32], nprobe: int, limit: int, selection: Selection, tally: Tally
) -> Ranked:
    """Stages 1 and 2: the best candidates of all segments, by estimated score."""
    ids, scores = kernels.top_centroids(query, snapshot.codebook.probes, nprobe)
    tally.lap("probe")
    found: list[Ranked] = []
    met = 0
    for segment, first, allowed in zip(snapshot.segments, snapshot.firsts, selection.bits, strict=False):
        documents, estimates, met_here, walked = kernels.gather(
            ids, scores, segment.postings, segment.postings_offsets, len(segment.offsets) - 1, limit, allowed
        )
        found.append(Ranked(documents.astype(np.int64) + first, estimates))
        met += met_here
        tally.postings += walked
    best = found[0] if len(found) == 1 else Ranked.best_of(found, limit)
    tally.gathered = met
    tally.lap("gather")
    return best


def _with_unmet(selection: Selection, estimated: Ranked) -> Ranked:
    """Stage 5: the candidates, then every other document of the selection, in document order."""
    unmet = np.setdiff1d(selection.documents(), estimated.documents, assume_unique=True)
    documents = np.concatenate([estimated.documents, unmet])
    return Ranked(documents, np.concatenate([estimated.scores, np.full(len(unmet), -np.inf, np.float32)]))


def _refine(snapshot: Snapshot, prepared: _Prepared, k: int, margin: float) -> Ranked:
    """Stages 3 and 4, round by round, best estimates first."""
    codebook, store = snapshot.codebook, snapshot.store
    estimated, ranges, tally = prepared.estimated, prepared.ranges, prepared.tally
    best, gaps = _NONE, _Gaps()
    begin, stop, announced = 0, min(max(FIRST_ROUND, k), len(estimated)), FIRST_ROUND + AHEAD
    tally.mark()
    while begin < stop:
        records = ranges.part(begin, stop)
        content, fetched = store.fetch_ranges(records.starts, records.ends)
        tally.fetched.append(fetched)
        tally.lap("fetch")
        scores = _scores(codebook, prepared.query, content.reshape(-1, codebook.layout.record_bytes), records.rows)
        best = best.merged(Ranked(estimated.documents[begin:stop], scores), k)
        tally.candidates += stop - begin
        if stop < len(estimated):
            gaps.add(scores, estimated.scores[begin:stop])
        begin = stop
        plausible = _plausible(best, gaps, estimated.scores[begin:], k, margin)
        stop = begin + min(plausible, ROUND)
        announced = max(announced, begin + min(plausible, ROUND + AHEAD))
        if begin < stop:
            tally.announced += store.prefetch_ranges(ranges.starts[begin:announced], ranges.ends[begin:announced])
        tally.lap("refine")
    if tally.announced:
        store.forget_ranges(ranges.starts[begin:announced], ranges.ends[begin:announced])
    return best


def _plausible(best: Ranked, gaps: _Gaps, estimates: NDArray[np.float32], k: int, margin: float) -> int:
    """How many of the next documents, estimates falling, would plausibly reach the k best."""
    if not len(estimates):
        return 0
    if len(best) < k or not gaps.count or not math.isfinite(margin) or not _all_finite(estimates):
        return len(estimates)  # there is room, or nothing to judge by
    return int(np.count_nonzero(estimates >= float(best.scores[-1]) - gaps.reach(margin)))


def _all_finite(falling: NDArray[np.float32]) -> bool:
    return not len(falling) or (math.isfinite(falling[0]) and math.isfinite(falling[-1]))


def _scores(
    codebook: SearchCodebook, query: NDArray[np.float32], records: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """MaxSim of the documents whose records lie end to end."""
    try:
        return kernels.score_records(query, records, offsets, codebook.codes)
    except IndexError as error:  # the bytes are those that were written: whoever wrote them did not know this codebook
        raise CorruptIndexError(
            f"a record: expected one of {codebook.n_centroids:,} centroids, got another; run `colindex verify`."
        ) from error


def search_exact(
    snapshot: Snapshot, queries: Sequence[NDArray[np.float32]], k: int, selection: Selection, threads: int = 1
) -> tuple[list[Ranked], Tally]:
    """The k best documents of a selection for each projected query, with every one scored: one pass over their records."""
    tally = Tally()
    bests = [_NONE] * len(queries)
    with ThreadPoolExecutor(threads) as pool:
        for documents, offsets, records in _all_documents(snapshot, selection, tally):

            def raised(
                query: NDArray[np.float32],
                best: Ranked,
                documents: NDArray[np.int64] = documents,
                offsets: NDArray[np.int64] = offsets,
                records: NDArray[np.uint8] = records,
            ) -> Ranked:
                scores = _scores(snapshot.codebook, query, records, offsets)
                return best.merged(Ranked.best(documents, scores, k), k)

            bests = list(pool.map(raised, queries, bests))
            tally.lap("refine")
    tally.gathered = tally.candidates = selection.count * len(queries)
    return bests, tally


def _all_documents(
    snapshot: Snapshot, selection: Selection, tally: Tally
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
    """Numbers, offsets and records of all documents of a selection, some at a time."""
    record_bytes = snapshot.codebook.layout.record_bytes
    for documents in selection.by_segment():
        starts, ends, offsets = snapshot.ranges(documents)
        for begin, stop in _groups(offsets):
            heads = (
                np.flatnonzero(starts[begin + 1 : stop] != ends[begin : stop - 1]) + 1
            )  # documents side by side: one range
            first, last = np.concatenate([[0], heads]), np.concatenate([heads, [stop - begin]]) - 1
            content, fetched = snapshot.store.fetch_ranges(starts[begin:stop][first], ends[begin:stop][last])
            tally.fetched.append(fetched)
            tally.lap("fetch")
            yield documents[begin:stop], offsets[begin : stop + 1] - offsets[begin], content.reshape(-1, record_bytes)


def _groups(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most TOKENS_AT_ONCE vectors; a longer document stands alone."""
    begin = 0
    while begin < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[begin] + TOKENS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, begin + 1), len(offsets) - 1)
        yield begin, stop
        begin = stop
