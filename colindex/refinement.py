"""Stages 3 and 4 of a search: the records of the best candidates, fetched and scored a round at a time.

1. *Fetch* the records of the next candidates, the best estimates first, with the reads of later ones in flight.
2. *Score* them with MaxSim, and keep the k best so far.
3. *Judge*, by how far scores lay above their estimates so far, which of the next candidates would plausibly reach the k best: the
   next round is of these. When there are none, stop, and forget the reads that are still in flight.

Two bodies with the same answers: a round at a time, which defines it, and all rounds in one native call, where kernels and reads
are native (kernels/native/rounds.h): threads wait for Python's lock once, not three times a round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.codebook import SearchCodebook
from colindex.errors import CorruptIndexError
from colindex.kernels import chosen as kernels
from colindex.kernels.rounds import Candidates, Refined, Rounds
from colindex.ranked import NONE, Ranked
from colindex.storage.block_space import Reader
from colindex.storage.blocks import BlockStore, FetchCounters
from colindex.storage.places import RecordRanges
from colindex.tally import Tally

__all__ = ["AHEAD", "FIRST_ROUND", "Prepared", "refine", "score"]

FIRST_ROUND = 48
"""Documents refined before anything is known of how good estimates are."""
ROUND = 64
"""At most this many documents are refined together afterwards."""
AHEAD = 64
"""Documents whose reads are in flight beyond those of the round that is refined."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query after stages 1 and 2, the first reads of stage 3 in flight."""

    query: NDArray[np.float32]
    """Projected, [query tokens, dim]."""
    estimated: Ranked
    """The candidates."""
    ranges: RecordRanges
    """Where their records are."""
    tally: Tally


def refine(codebook: SearchCodebook, store: BlockStore, prepared: Prepared, k: int, margin: float) -> Ranked:
    """The k best of the candidates that were refined; the others would have to beat their estimates by too much."""
    if kernels.refine is None or (reader := store.reader) is None:
        return _by_rounds(codebook, store, prepared, k, margin)
    return _in_one_call(kernels.refine, codebook, reader, prepared, k, margin)


def _in_one_call(
    run: Callable[..., Refined], codebook: SearchCodebook, reader: Reader, prepared: Prepared, k: int, margin: float
) -> Ranked:
    estimated, ranges, tally = prepared.estimated, prepared.ranges, prepared.tally
    rounds = Rounds(FIRST_ROUND, ROUND, AHEAD, tally.announced > 0)
    candidates = Candidates(estimated.documents, estimated.scores, ranges.starts, ranges.ends)
    try:
        refined = run(prepared.query, candidates, reader.capsule, codebook.codes, k, margin, rounds)
    except IndexError as error:
        raise _unknown_centroid(codebook) from error
    if refined.failure is not None:
        reader.raise_failure(*refined.failure)
    tally.candidates += refined.scored
    tally.announced += refined.announced
    tally.fetched.append(FetchCounters(*refined.counted))
    tally.charge("fetch", refined.fetching)
    tally.charge("refine", refined.scoring)
    return Ranked(refined.documents, refined.scores)


def _by_rounds(codebook: SearchCodebook, store: BlockStore, prepared: Prepared, k: int, margin: float) -> Ranked:
    estimated, ranges, tally = prepared.estimated, prepared.ranges, prepared.tally
    best, gaps = NONE, _Gaps()
    begin, stop, announced = 0, min(max(FIRST_ROUND, k), len(estimated)), FIRST_ROUND + AHEAD
    tally.mark()
    while begin < stop:
        records = ranges.part(begin, stop)
        content, fetched = store.fetch_ranges(records.starts, records.ends)
        tally.fetched.append(fetched)
        tally.lap("fetch")
        scores = score(codebook, prepared.query, content.reshape(-1, codebook.layout.record_bytes), records.rows)
        best = best.merged(Ranked(estimated.documents[begin:stop], scores), k)
        tally.candidates += stop - begin
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


@dataclass(slots=True)
class _Gaps:
    """How far refined scores lay above their estimates so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, scores: NDArray[np.float32], estimates: NDArray[np.float32]) -> None:
        """Of some more documents; not of empty ones, nor of those that no probe met."""
        with np.errstate(invalid="ignore"):  # minus infinity on both sides
            gaps = scores.astype(np.float64) - estimates
        gaps = gaps[np.isfinite(gaps)]
        self.count += len(gaps)
        self.total += float(gaps.sum())
        self.squares += float(gaps @ gaps)

    def reach(self, deviations: float) -> float:
        """Their mean, and so many standard deviations more."""
        mean = self.total / self.count
        return mean + deviations * math.sqrt(max(self.squares / self.count - mean * mean, 0.0))


def _plausible(best: Ranked, gaps: _Gaps, estimates: NDArray[np.float32], k: int, margin: float) -> int:
    """How many of the next documents, estimates falling, would plausibly reach the k best."""
    if not len(estimates):
        return 0
    can_judge = gaps.count and np.isfinite([margin, estimates[0], estimates[-1]]).all()
    if len(best) < k or not can_judge:
        return len(estimates)
    return int(np.count_nonzero(estimates >= np.float64(float(best.scores[-1]) - gaps.reach(margin))))


def score(
    codebook: SearchCodebook, query: NDArray[np.float32], records: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """MaxSim of the documents whose records lie end to end.

    Raises:
        CorruptIndexError: a record names a centroid that does not exist.
    """
    try:
        return kernels.score_records(query, records, offsets, codebook.codes)
    except IndexError as error:
        raise _unknown_centroid(codebook) from error


def _unknown_centroid(codebook: SearchCodebook) -> CorruptIndexError:
    """The bytes are those that were written: whoever wrote them did not know this codebook."""
    return CorruptIndexError(
        f"a record: expected one of {codebook.n_centroids:,} centroids, got another; run `colindex verify`."
    )
