"""Search: a projected query in, ranked documents out.

1. *Probe*: the best centroids of each query token.
2. *Gather*: walk their postings; every document met gets an estimate of its score, without touching its records.
3. *Fetch*: read the records of the best candidates, a round at a time, with the next rounds' reads in flight.
4. *Refine*: decode the records and score them with MaxSim. Stop after a round when no remaining candidate would plausibly
   reach the top k, judged by how far refined scores lay above their estimates so far.
5. *Fill*: if fewer than k documents were met, probe wider, and at the end take every document.

With `exact` every document is fetched and refined, several queries in one pass over the records.

Documents are numbered through all segments in order; ties in score go to the lower number. A document's score depends on
its records and the query alone: not on the candidates beside it, the cache, or earlier searches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import Codebook
from colindex.kernels import reference as kernels
from colindex.params import SearchParams
from colindex.storage.blocks import BlockStore, FetchCounters
from colindex.storage.reads import BLOCK_BYTES
from colindex.storage.segments import SegmentReader
from colindex.types import SearchStats

__all__ = ["Ranked", "Snapshot", "candidates", "search", "search_exact"]

ROUND = 64
"""Documents fetched and refined together."""
AHEAD = 2
"""Rounds whose reads are in flight while one is refined."""
TOKENS_AT_ONCE = 8192
"""Vectors decoded at a time: 4 MiB at 128 dims, which stays in the processor's cache."""
MARGIN = 2.5
"""Standard deviations of (refined - estimated) that a candidate is granted before it is given up (docs/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of an index, open for searching."""

    codebook: Codebook
    segments: tuple[SegmentReader, ...]
    store: BlockStore
    firsts: NDArray[np.int64]
    """Number of the first document of each segment, and the number of all: int64 [segments + 1]."""

    @property
    def documents(self) -> int:
        """Number of documents."""
        return int(self.firsts[-1])

    @property
    def tokens(self) -> int:
        """Number of stored vectors."""
        return sum(int(segment.offsets[-1]) for segment in self.segments)

    def locate(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment and number within it of each document."""
        segments = np.searchsorted(self.firsts, documents, side="right") - 1
        return segments, documents - self.firsts[segments]

    def byte_ranges(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Global byte addresses, [start, end), of the documents' records."""
        starts, ends = np.empty(len(documents), np.int64), np.empty(len(documents), np.int64)
        segments, local = self.locate(documents)
        record_bytes = self.codebook.layout.record_bytes
        for number in np.unique(segments):
            here = segments == number
            offsets, base = self.segments[number].offsets, self.store.base(int(number)) * BLOCK_BYTES
            starts[here] = base + offsets[local[here]].astype(np.int64) * record_bytes
            ends[here] = base + offsets[local[here] + 1].astype(np.int64) * record_bytes
        return starts, ends


@dataclass(frozen=True, slots=True)
class Ranked:
    """Documents in falling score, ties in document order."""

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def best(cls, documents: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranked:
        """The k best of some documents."""
        if len(documents) > k:
            # Everything at least as good as the k-th, so that ties at the border are decided by document, not by chance.
            kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
            documents, scores = documents[kept], scores[kept]
        order = np.lexsort((documents, -scores))[:k]
        return cls(documents[order], scores[order])

    def merged(self, other: Ranked, k: int) -> Ranked:
        """The k best of both; no document is in both."""
        documents = np.concatenate([self.documents, other.documents])
        return Ranked.best(documents, np.concatenate([self.scores, other.scores]), k)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents)


_NONE = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(slots=True)
class _Tally:
    """What a search has done so far."""

    seconds: dict[str, float] = field(default_factory=dict)
    postings: int = 0
    gathered: int = 0
    candidates: int = 0
    fetched: FetchCounters = field(default_factory=FetchCounters)
    _mark: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._mark
        self._mark = now

    def stats(self) -> SearchStats:
        return SearchStats(
            seconds=dict(self.seconds),
            postings=self.postings,
            gathered=self.gathered,
            candidates=self.candidates,
            bytes_read=self.fetched.bytes_read,
            reads=self.fetched.reads,
            cache_hits=self.fetched.hits,
            cache_misses=self.fetched.misses,
            prefetch_hits=self.fetched.prefetch_hits,
        )


def search(snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams) -> tuple[Ranked, SearchStats]:
    """The k best documents for a projected query, float32 [query tokens, dim], by candidates and refinement."""
    tally = _Tally()
    wanted = min(k, snapshot.documents)
    nprobe = params.nprobe
    while True:
        estimated = _gather(snapshot, query, nprobe, max(params.candidates, 2 * k), tally)
        if len(estimated) >= wanted or nprobe >= len(snapshot.codebook.centroids):
            break
        nprobe *= 4
    if len(estimated) < wanted:
        estimated = _with_unmet(snapshot, estimated)
    return _refine(snapshot, query, estimated, k, tally), tally.stats()


def candidates(snapshot: Snapshot, query: NDArray[np.float32], nprobe: int, limit: int) -> Ranked:
    """Stages 1 and 2 alone: the best `limit` documents for a projected query by estimated score."""
    return _gather(snapshot, query, nprobe, limit, _Tally())


def _gather(snapshot: Snapshot, query: NDArray[np.float32], nprobe: int, limit: int, tally: _Tally) -> Ranked:
    """Stages 1 and 2: the best candidates of all segments, by estimated score."""
    clustering = snapshot.codebook.clustering
    ids, scores = kernels.top_centroids(query, clustering.centroids, nprobe, clustering.spreads)
    tally.lap("probe")
    best, met = _NONE, 0
    for segment, first in zip(snapshot.segments, snapshot.firsts.tolist(), strict=False):
        documents, estimates, walked = kernels.gather(
            ids, scores, segment.postings, segment.postings_offsets, len(segment.offsets) - 1
        )
        best = best.merged(Ranked.best(documents.astype(np.int64) + first, estimates, limit), limit)
        met += len(documents)
        tally.postings += walked
    tally.gathered = met
    tally.lap("gather")
    return best


def _with_unmet(snapshot: Snapshot, estimated: Ranked) -> Ranked:
    """Stage 5: the candidates, then every document that no probe met, in document order."""
    unmet = np.setdiff1d(np.arange(snapshot.documents, dtype=np.int64), estimated.documents, assume_unique=True)
    documents = np.concatenate([estimated.documents, unmet])
    return Ranked(documents, np.concatenate([estimated.scores, np.full(len(unmet), -np.inf, np.float32)]))


def _refine(snapshot: Snapshot, query: NDArray[np.float32], estimated: Ranked, k: int, tally: _Tally) -> Ranked:
    """Stages 3 and 4, round by round, best estimates first."""
    best, gaps = _NONE, np.empty(0, np.float32)
    starts, ends = snapshot.byte_ranges(estimated.documents)
    snapshot.store.prefetch_ranges(starts[: AHEAD * ROUND], ends[: AHEAD * ROUND])
    for begin in range(0, len(estimated), ROUND):
        stop = min(begin + ROUND, len(estimated))
        if len(best) == k and _settled(best, gaps, float(estimated.scores[begin])):
            break
        ahead = slice(begin + AHEAD * ROUND, stop + AHEAD * ROUND)
        snapshot.store.prefetch_ranges(starts[ahead], ends[ahead])
        content, fetched = snapshot.store.fetch_ranges(starts[begin:stop], ends[begin:stop])
        tally.fetched = tally.fetched + fetched
        tally.lap("fetch")
        scores = _score(snapshot.codebook, query, content, ends[begin:stop] - starts[begin:stop])
        best = best.merged(Ranked(estimated.documents[begin:stop], scores), k)
        estimates = estimated.scores[begin:stop]
        known = np.isfinite(scores) & np.isfinite(estimates)  # not of empty documents, nor of those that no probe met
        gaps = np.concatenate([gaps, scores[known] - estimates[known]])
        tally.candidates += stop - begin
        tally.lap("refine")
    return best


def _settled(best: Ranked, gaps: NDArray[np.float32], estimate: float) -> bool:
    """Whether a document of this estimated score would not plausibly reach the k best."""
    if not len(gaps) or not np.isfinite(estimate):
        return False  # nothing to judge by
    return bool(estimate + gaps.mean() + MARGIN * gaps.std() < best.scores[-1])


def _score(
    codebook: Codebook, query: NDArray[np.float32], content: NDArray[np.uint8], sizes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """MaxSim of the documents whose records, `sizes` bytes each, lie end to end."""
    records = content.reshape(-1, codebook.layout.record_bytes)
    offsets = np.concatenate([[0], np.cumsum(sizes // codebook.layout.record_bytes)])
    scores = np.empty(len(sizes), np.float32)
    for begin, stop in _groups(offsets):
        rows = slice(int(offsets[begin]), int(offsets[stop]))
        vectors = codebook.decode(records[rows])
        scores[begin:stop] = kernels.maxsim(query, vectors, offsets[begin : stop + 1] - offsets[begin])
    return scores


def _groups(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most TOKENS_AT_ONCE vectors; a longer document stands alone."""
    begin = 0
    while begin < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[begin] + TOKENS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, begin + 1), len(offsets) - 1)
        yield begin, stop
        begin = stop


def search_exact(
    snapshot: Snapshot, queries: Sequence[NDArray[np.float32]], k: int, threads: int = 1
) -> tuple[list[Ranked], SearchStats]:
    """The k best documents for each projected query, with every document scored: one pass over all records."""
    tally = _Tally()
    bests = [_NONE] * len(queries)
    with ThreadPoolExecutor(threads) as pool:
        for documents, offsets, vectors in _all_documents(snapshot, tally):

            def raised(
                query: NDArray[np.float32],
                best: Ranked,
                documents: NDArray[np.int64] = documents,
                offsets: NDArray[np.int64] = offsets,
                vectors: NDArray[np.float32] = vectors,
            ) -> Ranked:
                return best.merged(Ranked.best(documents, kernels.maxsim(query, vectors, offsets), k), k)

            bests = list(pool.map(raised, queries, bests))
            tally.lap("refine")
    tally.gathered = tally.candidates = snapshot.documents * len(queries)
    return bests, tally.stats()


def _all_documents(
    snapshot: Snapshot, tally: _Tally
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Numbers, offsets and decoded vectors of all documents, some at a time."""
    record_bytes = snapshot.codebook.layout.record_bytes
    for segment, first in zip(range(len(snapshot.segments)), snapshot.firsts.tolist(), strict=False):
        offsets = snapshot.segments[segment].offsets.astype(np.int64)
        for begin, stop in _groups(offsets):
            edges = snapshot.store.base(segment) * BLOCK_BYTES + offsets[[begin, stop]] * record_bytes
            content, fetched = snapshot.store.fetch_ranges(edges[:1], edges[1:])
            tally.fetched = tally.fetched + fetched
            tally.lap("fetch")
            vectors = snapshot.codebook.decode(content.reshape(-1, record_bytes))
            yield np.arange(first + begin, first + stop), offsets[begin : stop + 1] - offsets[begin], vectors
