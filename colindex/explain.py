"""Explanation: why was this document not returned, and what would bring it in?

1. *Search* as it was asked for, unless the filter leaves the document out. A document of the answer needs no explanation; where
   every document is scored, nothing but its score keeps it out.
2. *Find the stage* that lost it, in the pipeline's terms: no probed centroid held it, it was gathered beyond the candidates,
   given up by the margin, or refined and found worse than the k-th.
3. *Reach*: for each query token the stored vector that comes closest, and the rank of the document's best centroid among
   all: with `nprobe` that large the token meets the document.
4. *Widen* the search until the document is among the candidates: the smallest `nprobe` that meets it, or a few times that
   where it then ranks much better, and as many candidates as its rank needs. More probes change estimates and ranks, so
   each number is tried, not computed.
5. *Judge*. Where the answer is full of documents that match at least as well, no setting returns it, and none is tried: without
   a margin all candidates are refined, and so is this one. Else search with a doubled margin until it is not given up. These
   settings are advice only if they bring it into the answer; if they do not, k documents match at least as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colindex.errors import ParameterError
from colindex.fetched import Fetched, fetch
from colindex.kernels import chosen as kernels
from colindex.kernels.tables import ProbeTable
from colindex.params import SearchParams
from colindex.ranked import Ranked
from colindex.search import Snapshot, Traced, candidates, search_exact, traced
from colindex.selection import Selection

__all__ = ["Case", "Explanation", "Kind", "Reach", "absent", "explain"]

Kind = Literal["absent", "filtered", "not met", "beyond candidates", "given up", "refined lower", "returned"]

_FIRST_RANKS = 1024
"""Centroids of each query token that are ranked before all are."""
_TIMES_PROBED = (1, 2, 4, 8)
_MARGINS = 6
"""How often the margin is doubled before all candidates are refined."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How close one query token came to the document."""

    query_token: int
    """Its position in the query."""
    text: str
    """Its text."""
    similarity: float
    """With the stored vector that is closest to it."""
    nprobe: int
    """The rank of the document's best centroid, from 1: with so many probes the token meets the document."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one document in one search."""

    id: str
    """External id of the document."""
    kind: Kind
    """Not in the index, excluded by the filter, met by no probe, gathered too low, given up by the margin, refined and found
    worse, or returned."""
    text: str
    """All of it in words."""
    k: int
    """How many documents were asked for."""
    params: SearchParams
    """The settings of the search."""
    rank: int | None = None
    """From 1: in the answer; among the refined documents if it was refined; among the gathered by estimate if it was met."""
    score: float | None = None
    """The score that refinement gives it, whether or not it was refined."""
    kth: float | None = None
    """The last score of the answer; None where that is not full."""
    reach: tuple[Reach, ...] = ()
    """For each query token, in the order of the query; empty where either side has no vector."""
    would_refine: SearchParams | None = None
    """Settings with which the document is refined; None where it was, or may not be."""
    advice: SearchParams | None = None
    """Those settings, if they also bring it into the answer; None where k documents score at least as high."""

    def __str__(self) -> str:
        """The text."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON holds; `colindex.views.data` describes them."""
        from colindex.views.data import explanation_data

        return explanation_data(self)


@dataclass(frozen=True, slots=True)
class Case:
    """One document and one search."""

    snapshot: Snapshot
    """The generation that is open."""
    document: int
    """The document's number, through all segments."""
    id: str
    """Its external id."""
    query: NDArray[np.float32]
    """Projected, float32 [query tokens, dim]."""
    names: Sequence[str]
    """The text of each query token."""
    k: int
    """How many documents were asked for."""
    params: SearchParams
    """The settings of the search."""
    every: bool
    """Whether it scores every document of the selection."""
    selection: Selection
    """The documents that it may return."""


def absent(id: str, k: int, params: SearchParams) -> Explanation:
    """For an id that the index does not hold."""
    return Explanation(id, "absent", f"The index holds no document {id!r}.", k, params)


def explain(case: Case) -> Explanation:
    """Explain what became of a document that the index holds."""
    own = fetch(case.snapshot, np.array([case.document]))
    score, reach = float(own.scores(case.query)[0]), _reach(case, own)
    if not _selected(case):
        return Explanation(case.id, "filtered", _told_filtered(case), case.k, case.params, score=score, reach=reach)
    if case.every:
        return _explain_scored(case, score, reach)
    search = traced(case.snapshot, case.query, case.k, case.params, case.selection)
    kind, rank, told = _lost(case, search, score, reach)
    found = Explanation(case.id, kind, told, case.k, case.params, rank, score, _kth(search.answer, case.k), reach)
    if kind in ("returned", "refined lower"):
        return found
    return _judged(case, found, score, search, _wide(case, reach))


def _explain_scored(case: Case, score: float, reach: tuple[Reach, ...]) -> Explanation:
    """Steps 1 and 2 where every document is scored."""
    (ranked,), _ = search_exact(case.snapshot, [case.query], case.selection.count, case.selection)
    rank = _position(ranked, case.document) + 1
    answer = Ranked(ranked.documents[: case.k], ranked.scores[: case.k])
    kind: Kind = "returned" if rank <= case.k else "refined lower"
    told = (
        _told_returned(case, rank, score) if kind == "returned" else _told_lower(case, rank, len(ranked), score, answer)
    )
    return Explanation(case.id, kind, told, case.k, case.params, rank, score, _kth(answer, case.k), reach)


# ---- 2. Find the stage


def _selected(case: Case) -> bool:
    return case.snapshot.locate(case.document) in case.selection


def _lost(case: Case, search: Traced, score: float, reach: tuple[Reach, ...]) -> tuple[Kind, int | None, str]:
    """Which stage lost it, its rank there, and that in words."""
    place = _position(search.answer, case.document)
    if place >= 0:
        return "returned", place + 1, _told_returned(case, place + 1, score)
    estimate = _position(search.estimated, case.document)
    if 0 <= estimate < search.refined:
        refined = search.estimated.documents[: search.refined]
        ranked = Ranked.best(refined, fetch(case.snapshot, refined).scores(case.query), search.refined)
        rank = _position(ranked, case.document) + 1
        return "refined lower", rank, _told_lower(case, rank, search.refined, score, search.answer)
    if estimate >= 0:
        return "given up", estimate + 1, _told_given_up(case, estimate + 1, search)
    gathered = _gathered(case, _widened(case))
    rank = _last_rank(gathered, case.document)
    if rank:
        return "beyond candidates", rank, _told_beyond(case, rank, len(gathered), len(search.estimated))
    return "not met", None, _told_not_met(case, reach)


def _widened(case: Case) -> int:
    """The centroids that were probed for each token in the end: more than asked for where those met fewer than k documents."""
    nprobe, wanted = case.params.nprobe, min(case.k, case.selection.count)
    while nprobe < case.snapshot.codebook.n_centroids and len(_gathered(case, nprobe)) < wanted:
        nprobe *= 4
    return nprobe


def _gathered(case: Case, nprobe: int) -> Ranked:
    """All documents that are met, by estimated score."""
    return candidates(case.snapshot, case.query, nprobe, case.selection.count, case.selection)


def _last_rank(gathered: Ranked, document: int) -> int:
    """The rank of a document from 1, the last of those with its estimate; 0 where it is not met.

    Segments are gathered apart, and what stands first among equals in one is decided by more bits than estimates have. With
    so many candidates it is one of them, whatever is decided.
    """
    place = _position(gathered, document)
    return 0 if place < 0 else int(np.count_nonzero(gathered.scores >= gathered.scores[place]))


def _position(ranked: Ranked, document: int) -> int:
    """Where a document stands, from 0; -1 where it does not."""
    found = np.flatnonzero(ranked.documents == document)
    return int(found[0]) if len(found) else -1


def _kth(answer: Ranked, k: int) -> float | None:
    return float(answer.scores[-1]) if len(answer) >= k else None


# ---- 3. Reach


def _reach(case: Case, own: Fetched) -> tuple[Reach, ...]:
    if not len(own.records):
        return ()
    closest = own.similarities(case.query, 0).max(axis=1).tolist()
    ranks = _ranks(case, own.centroids(0))
    return tuple(
        Reach(token, case.names[token], similarity, rank)
        for token, (similarity, rank) in enumerate(zip(closest, ranks, strict=True))
    )


def _ranks(case: Case, centroids: NDArray[np.uint32]) -> list[int]:
    """For each query token the rank of the best of some centroids among all, from 1."""
    probes, every = case.snapshot.codebook.probes, case.snapshot.codebook.n_centroids
    held = np.zeros(every, np.bool_)
    held[centroids] = True
    first = held[kernels.top_centroids(case.query, probes, _FIRST_RANKS)[0]]
    ranks = first.argmax(axis=1) + 1
    for token in np.flatnonzero(~first.any(axis=1)).tolist():  # one at a time: all centroids are many
        ranks[token] = held[kernels.top_centroids(case.query[token : token + 1], probes, every)[0][0]].argmax() + 1
    return [_meeting(case.query[token : token + 1], probes, held, int(rank)) for token, rank in enumerate(ranks)]


def _meeting(token: NDArray[np.float32], probes: ProbeTable, held: NDArray[np.bool_], rank: int) -> int:
    """Probes that meet one of some centroids, the best of which has this rank: few probes do not look at all centroids."""
    while rank < len(probes.steps) and not held[kernels.top_centroids(token, probes, rank)[0]].any():
        rank = min(2 * rank, len(probes.steps))
    return rank


# ---- 4. Widen


def _wide(case: Case, reach: tuple[Reach, ...]) -> SearchParams | None:
    """Settings with which the document is refined, whatever the others score; None where no probe meets it, or too late."""
    if not reach:
        return None
    asked, most, least = case.params.nprobe, case.snapshot.codebook.n_centroids, min(one.nprobe for one in reach)
    ranks: dict[int, int] = {}
    for times in _TIMES_PROBED:
        nprobe = max(asked, min(max(least, asked) * times, most))
        rank = _last_rank(_gathered(case, nprobe), case.document)
        if rank:
            ranks[nprobe] = rank
        if 0 < rank <= 2 * case.params.candidates:
            break
    if not ranks:
        return None
    nprobe = min(ranks, key=lambda probed: max(ranks[probed], case.params.candidates))
    limit = max(ranks[nprobe], case.params.candidates)
    try:
        return replace(case.params, nprobe=nprobe, candidates=limit, margin=np.inf)
    except ParameterError:  # more than a search takes
        return None


# ---- 5. Judge


def _judged(case: Case, found: Explanation, score: float, search: Traced, wide: SearchParams | None) -> Explanation:
    if not _outranked(case, score, search.answer):
        return _tried(case, found, score, wide)
    settings = wide or replace(case.params, exact=True)
    told = (
        f"{_told_outranked(case, score, search.answer)} {_differing(settings, case.params)} would only have it refined."
    )
    return replace(found, text=f"{found.text} {told}", would_refine=settings)


def _outranked(case: Case, score: float, answer: Ranked) -> bool:
    """Whether k documents match at least as well."""
    return len(answer) >= case.k and (score, -case.document) < (float(answer.scores[-1]), -int(answer.documents[-1]))


def _tried(case: Case, found: Explanation, score: float, wide: SearchParams | None) -> Explanation:
    """What settings that refine the document give."""
    settings, answer = _exhaustive(case) if wide is None else _narrowed(case, wide)
    rank, begun = _position(answer, case.document) + 1, f"{found.text} With {_differing(settings, case.params)} it is"
    if rank:
        told = f"{begun} returned at rank {rank}, with score {score:.4f}."
        return replace(found, text=told, would_refine=settings, advice=settings)
    return replace(found, text=f"{begun} refined. {_told_outranked(case, score, answer)}", would_refine=settings)


def _exhaustive(case: Case) -> tuple[SearchParams, Ranked]:
    """Settings that score every document, and their answer."""
    (answer,), _ = search_exact(case.snapshot, [case.query], case.k, case.selection)
    return replace(case.params, exact=True), answer


def _narrowed(case: Case, wide: SearchParams) -> tuple[SearchParams, Ranked]:
    """Those settings with the smallest margin of some with which the document is refined, and the answer that they give."""
    margins = [case.params.margin, *(max(case.params.margin, 1) * 2**times for times in range(1, _MARGINS))]
    for margin in margins:
        params = replace(wide, margin=float(margin))
        search = traced(case.snapshot, case.query, case.k, params, case.selection)
        if 0 <= _position(search.estimated, case.document) < search.refined:
            return params, search.answer
    return wide, traced(case.snapshot, case.query, case.k, wide, case.selection).answer


def _differing(settings: SearchParams, from_: SearchParams) -> str:
    names = ("nprobe", "candidates", "margin", "exact")
    changed = [f"{name}={getattr(settings, name)}" for name in names if getattr(settings, name) != getattr(from_, name)]
    return f"SearchParams({', '.join(changed)})"


# ---- in words


def _told_returned(case: Case, rank: int, score: float) -> str:
    return f"{case.id!r} is returned at rank {rank} of {case.k:,}, with score {score:.4f}."


def _told_filtered(case: Case) -> str:
    return (
        f"{case.id!r} is in the index, but the search's `where` or `ids` leave it out: {case.selection.count:,} of "
        f"{case.snapshot.live.count:,} documents may be returned."
    )


def _told_lower(case: Case, rank: int, of: int, score: float, answer: Ranked) -> str:
    return (
        f"{case.id!r} was scored {score:.4f}: rank {rank:,} of the {of:,} documents that were refined. The last of the answer, "
        f"the {_ordinal(case.k)}, has {float(answer.scores[-1]):.4f}. {_outdone(case.k)}"
    )


def _told_given_up(case: Case, rank: int, search: Traced) -> str:
    return (
        f"{case.id!r} was gathered at rank {rank:,} of {len(search.estimated):,} candidates by estimated score, but refinement "
        f"stopped after {search.refined:,}: to reach the answer it would have had to beat its estimate by {case.params.margin:g} "
        "standard deviations more than the refined documents did on average (margin)."
    )


def _told_beyond(case: Case, rank: int, met: int, limit: int) -> str:
    return (
        f"{case.id!r} was met by a probe, but ranks {rank:,} of {met:,} by estimated score, beyond the {limit:,} candidates that "
        "may be refined."
    )


def _told_not_met(case: Case, reach: tuple[Reach, ...]) -> str:
    begun = f"No probed centroid holds {case.id!r} ({case.params.nprobe:,} were probed for each query token). "
    if not reach:
        return f"{begun}It has no vectors, or the query has none."
    nearest = sorted(reach, key=lambda one: one.nprobe)[:3]
    came = ", ".join(f"{one.text!r} (similarity {one.similarity:.3f}, nprobe {one.nprobe:,})" for one in nearest)
    return f"{begun}The query tokens that come nearest, and the nprobe with which each would have met it: {came}."


def _told_outranked(case: Case, score: float, answer: Ranked) -> str:
    last = f"{float(answer.scores[-1]):.4f}, the {_ordinal(case.k)} of the answer"
    return f"Its score {score:.4f} is not above {last}. {_outdone(case.k)}"


def _outdone(k: int) -> str:
    others = "one document matches" if k == 1 else f"{k:,} documents match"
    return f"As {others} at least as well, no setting returns it."


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
