"""Snippets: the part of a document that answers a query, cut for a list of hits.

1. *Place*: the best sentence (the search's, else the match's); the beginning of the text where no sentence is known, or the
   title is the best.
2. *Cut* a window around it, at blanks.
3. *Split* the window where a sentence or a matching token begins or ends, into pieces of text: whoever shows them needs no
   offsets, which JavaScript counts otherwise.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from colindex.errors import QueryError
from colindex.match import Match
from colindex.types import Document

__all__ = ["Piece", "Snippet", "beginning", "snippet"]

WINDOW = 360
"""Characters of a snippet."""
BEFORE = 90
"""Of those, at most so many before the sentence."""

NEARLY = 0.9
"""A token matches nearly as well as the best if its similarity is this part of the best."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some characters of a snippet."""

    text: str
    best: bool
    """Inside the best sentence."""
    match: bool
    """A word, or part of one, that some query token matches best, or nearly so."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to show of a hit."""

    pieces: tuple[Piece, ...]
    """Put together they are the window, with an ellipsis where text was left out."""
    span: Range | None
    """The best sentence, in characters of `Document.content`."""
    title_is_best: bool
    """The best sentence is the title."""


def beginning(document: Document) -> Snippet:
    """The beginning of a text, where nothing is known of its tokens."""
    start = len(document.content) - len(document.text)
    window = _window(document.content, start, (start, start))
    return Snippet(_pieces(document.content, start, window, (0, 0), []), None, False)


def snippet(match: Match, span: Range | None) -> Snippet:
    """What to show of a document that matched; `span` is the best sentence where the search has found it."""
    best = span or _best(match)
    if best is None:
        return beginning(match.document)
    content = match.document.content
    text = len(content) - len(match.document.text)
    in_title = best[1] <= text
    window = _window(content, text, (text, text) if in_title else best)
    return Snippet(_pieces(content, text, window, best, _matching(match)), best, in_title)


def _best(match: Match) -> Range | None:
    """Step 1."""
    try:
        spans = match.ranked_spans()
    except QueryError:  # the index does not know where its tokens stand
        return None
    return (spans[0].start, spans[0].stop) if spans else None


def _matching(match: Match) -> list[Range]:
    """The words that some query token matches best or nearly so, in the order of the text; punctuation is left out."""
    similarities = match.similarities
    if match.spans is None or not similarities.size:
        return []
    best = similarities.max(axis=1, keepdims=True)
    near = ((similarities >= NEARLY * best) & (best > 0)).any(axis=0)
    content, spans = match.document.content, match.spans[near[match.stored]].tolist()
    return sorted((start, stop) for start, stop in spans if any(map(str.isalnum, content[start:stop])))


def _window(content: str, first: int, span: Range) -> Range:
    """Step 2: not before `first`, where the text begins."""
    start, end = max(first, span[0] - BEFORE), len(content)
    if span[1] - span[0] > WINDOW - BEFORE:
        start = max(first, span[0])
    if start > first:
        blank = content.find(" ", start, span[0])
        start = span[0] if blank < 0 else blank + 1
    stop = start + WINDOW
    if stop >= end:
        return start, end
    blank = content.rfind(" ", start + WINDOW // 2, stop)
    return start, stop if blank < 0 else blank


def _pieces(content: str, first: int, window: Range, best: Range, tokens: list[Range]) -> tuple[Piece, ...]:
    """Step 3."""
    start, stop = window
    edges = {start, stop, *best, *(edge for token in tokens for edge in token)}
    cuts = sorted(edge for edge in edges if start <= edge <= stop)
    pieces = [Piece(content[low:high], best[0] <= low < best[1], _covered(low, tokens)) for low, high in pairwise(cuts)]
    left_out, left_over = content[first:start].strip(), content[stop:].strip()
    before = [Piece("… ", False, False)] if left_out else []
    after = [Piece(" …", False, False)] if left_over else []
    return (*before, *pieces, *after)


def _covered(at: int, tokens: list[Range]) -> bool:
    place = bisect_right(tokens, (at, 2**62)) - 1
    return place >= 0 and at < tokens[place][1]
