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

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.kernels import chosen as kernels
from colindex.params import SearchParams
from colindex.ranked import NONE, Ranked
from colindex.refinement import AHEAD, FIRST_ROUND, Prepared, refine, score
from colindex.selection import Selection
from colindex.storage.blocks import BlockStore
from colindex.storage.places import Finder, RecordRanges
from colindex.storage.segments import SegmentReader
from colindex.tally import Tally

__all__ = ["Snapshot", "Traced", "candidates", "search", "search_each", "search_exact", "traced"]

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


def search(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams, selection: Selection
) -> tuple[Ranked, Tally]:
    """The k best documents of a selection for a projected query, float32 [query tokens, dim], by candidates and refinement."""
    prepared = _prepare(snapshot, query, k, params, selection)
    return refine(snapshot.codebook, snapshot.store, prepared, k, params.margin), prepared.tally


def search_each(
    snapshot: Snapshot, queries: Iterable[NDArray[np.float32]], k: int, params: SearchParams, selection: Selection
) -> Iterator[Ranked]:
    """`search` for one query after the other: while one is refined, the first reads of the next are in flight."""
    prepared: Prepared | None = None
    for query in queries:
        following = _prepare(snapshot, query, k, params, selection)
        if prepared is not None:
            yield refine(snapshot.codebook, snapshot.store, prepared, k, params.margin)
        prepared = following
    if prepared is not None:
        yield refine(snapshot.codebook, snapshot.store, prepared, k, params.margin)


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
    return Traced(
        refine(snapshot.codebook, snapshot.store, prepared, k, params.margin),
        prepared.estimated,
        prepared.tally.candidates,
    )


def candidates(snapshot: Snapshot, query: NDArray[np.float32], nprobe: int, limit: int, selection: Selection) -> Ranked:
    """Stages 1 and 2 alone: the best `limit` documents of a selection for a projected query by estimated score."""
    return _gather(snapshot, query, nprobe, limit, selection, Tally())


def _prepare(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, params: SearchParams, selection: Selection
) -> Prepared:
    """Stages 1 and 2, and stage 5 where too few documents were met; announces the first reads."""
    tally = Tally()
    limit = max(params.candidates, 2 * k)
    estimated = (
        NONE if selection.count <= limit else _estimated(snapshot, query, k, params.nprobe, limit, selection, tally)
    )
    if len(estimated) < min(k, selection.count):
        estimated = _with_unmet(selection, estimated)
    ranges = snapshot.ranges(estimated.documents)
    first = slice(FIRST_ROUND + AHEAD)
    tally.announced += snapshot.store.prefetch_ranges(ranges.starts[first], ranges.ends[first])
    return Prepared(query, estimated, ranges, tally)


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


def search_exact(
    snapshot: Snapshot, queries: Sequence[NDArray[np.float32]], k: int, selection: Selection, threads: int = 1
) -> tuple[list[Ranked], Tally]:
    """The k best documents of a selection for each projected query, with every one scored: one pass over their records."""
    tally = Tally()
    bests = [NONE] * len(queries)
    with ThreadPoolExecutor(threads) as pool:
        for documents, offsets, records in _all_documents(snapshot, selection, tally):

            def raised(
                query: NDArray[np.float32],
                best: Ranked,
                documents: NDArray[np.int64] = documents,
                offsets: NDArray[np.int64] = offsets,
                records: NDArray[np.uint8] = records,
            ) -> Ranked:
                scores = score(snapshot.codebook, query, records, offsets)
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
