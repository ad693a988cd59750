"""Spans: which part of a document answers the query best, ranked from the document's own stored vectors?

1. A stored vector belongs to a span if one of its source tokens overlaps it; a merged vector may belong to several.
2. A span's score is MaxSim over the vectors that belong to it: the sum over query tokens of the best similarity among them.
3. Spans are ranked by score; equal scores in the order in which they came. A span without vectors, such as one beyond the
   encoder's window, comes last, with -inf.

Where the encoder saw whole documents (`colindex.windows`), each token was encoded with its context, beyond its sentence too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.errors import QueryError

__all__ = ["Span", "checked_spans", "rank_spans", "vectors_inside"]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a document, and its score."""

    start: int
    """Its first character in `Document.content`."""
    stop: int
    """The one after its last."""
    score: float
    """MaxSim of the query and the vectors that belong to it; -inf without any."""


def rank_spans(
    similarities: NDArray[np.float32],
    stored: NDArray[np.int32],
    tokens: NDArray[np.int32],
    spans: Sequence[tuple[int, int]],
) -> list[Span]:
    """Rank spans of one document.

    Args:
        similarities: float32 [query tokens, stored vectors].
        stored: the stored vector of each source token, int32 [source tokens].
        tokens: characters of each source token, int32 [source tokens, 2]; (0, 0) where the text does not hold it.
        spans: (start, stop) of each span, in characters.

    Returns:
        All of them, best first.
    """
    found = []
    for (start, stop), inside in zip(spans, vectors_inside(stored, tokens, spans), strict=True):
        score = float(similarities[:, inside].max(axis=1).sum()) if len(inside) else -np.inf
        found.append(Span(start, stop, score))
    return sorted(found, key=lambda span: -span.score)


def vectors_inside(
    stored: NDArray[np.int32], tokens: NDArray[np.int32], spans: Sequence[tuple[int, int]]
) -> list[NDArray[np.int32]]:
    """The stored vectors that belong to each span, rising; arguments as of `rank_spans`."""
    starts, stops = tokens.T
    held = stops > starts
    return [np.unique(stored[held & (starts < stop) & (stops > start)]) for start, stop in spans]


def checked_spans(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Spans that a user gave, for a text of `length` characters.

    Raises:
        QueryError: one of them is no part of the text.
    """
    for start, stop in spans:
        if not 0 <= start < stop <= length:
            raise QueryError(
                f"spans: expected (start, stop) with 0 <= start < stop <= {length:,}, the length of the document's "
                f"content, got ({start!r}, {stop!r})."
            )
    return [(int(start), int(stop)) for start, stop in spans]
