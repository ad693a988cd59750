"""Search for passages: documents ranked by their best sentence.

1. *Search* documents as always, for more of them than were asked for: four times k, and at least 64.
2. *Split* each into its title and its sentences (`colindex.sentences`).
3. *Score* all sentences together from the stored vectors that belong to them (`colindex.spans`), as documents are scored, and
   take the best as the document's.
4. *Rank* the documents by it; ties in the order of the documents, those without a sentence last.

This ranks the sentences of the documents that match best as a whole. A document that ranks lower than those as a whole is
not looked at, however good one of its sentences is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from colindex.errors import QueryError
from colindex.fetched import fetch
from colindex.params import Unit, one_of
from colindex.ranked import Ranked
from colindex.search import Snapshot
from colindex.sentences import sentences
from colindex.spans import vectors_inside
from colindex.spool import decode_document

__all__ = ["checked_unit", "documents_to_split", "rank_passages"]

_UNITS: tuple[Unit, ...] = get_args(Unit)

_TIMES_K, _LEAST = 4, 64


def checked_unit(unit: object) -> Unit:
    """What a search ranks documents by.

    Raises:
        QueryError: it is none of those.
    """
    return one_of("unit", unit, _UNITS, QueryError)


def documents_to_split(k: int) -> int:
    """Step 1: how many documents are searched for, to rank the k best by sentences."""
    return max(_TIMES_K * k, _LEAST)


def rank_passages(
    snapshot: Snapshot, ranked: Ranked, query: NDArray[np.float32], k: int
) -> tuple[Ranked, list[tuple[int, int] | None]]:
    """Steps 2 to 4.

    Args:
        snapshot: the generation that is open.
        ranked: documents.
        query: projected, float32 [query tokens, dim].
        k: how many to keep.

    Returns:
        The k best of the documents by their best sentences, and these: None for a document without any.

    Raises:
        QueryError: the index does not know where in a text its tokens stand.
    """
    fetched = fetch(snapshot, ranked.documents)
    owners: list[int] = []
    spans: list[tuple[int, int]] = []
    parts: list[NDArray[np.int64]] = []
    for position, document in enumerate(ranked.documents.tolist()):
        for span, inside in _split(snapshot, document):
            owners.append(position)
            spans.append(span)
            parts.append(inside + fetched.offsets[position])
    bests: dict[int, int] = {}
    scored = fetched.scores_of(query, parts)
    for sentence in np.argsort(-scored, kind="stable").tolist():
        bests.setdefault(owners[sentence], sentence)
    scores = np.full(len(ranked), -np.inf, np.float32)
    scores[list(bests)] = scored[list(bests.values())]
    order = np.lexsort((ranked.documents, -scores))[:k]
    chosen = [spans[bests[place]] if place in bests else None for place in order.tolist()]
    return Ranked(ranked.documents[order], scores[order]), chosen


def _split(snapshot: Snapshot, document: int) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    """Each sentence of one document, and the stored vectors that belong to it."""
    segment, number = snapshot.locate(document)
    reader = snapshot.segments[segment]
    trace = reader.inspection(number)
    if trace is None or trace.spans is None:
        raise QueryError(
            "unit='sentence': the index does not know where in a text its tokens stand, as it was built from vectors or "
            "by an encoder that merges tokens; search for unit='document'."
        )
    found = sentences(decode_document(reader.document(number)))
    insides = vectors_inside(trace.pool_map, trace.spans, found)
    yield from zip(found, (inside.astype(np.int64) for inside in insides), strict=True)
