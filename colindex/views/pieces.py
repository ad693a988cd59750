"""The document's text in pieces: each belongs to the same tokens from its first character to its last.

1. *Cut* the text wherever a token begins or ends, where the title ends, and where the last token ends. Tokens may overlap:
   a character outside the vocabulary can be several tokens, each with the whole character as its span.
2. *Name* for each piece the stored vectors that its tokens went into, and those of the tokens that end with it.
3. What follows the last token and holds a letter or a digit was not indexed: it lies beyond the encoder's window.

The pieces put together are `document.content`, character for character. Tokens without characters of their own, such as
markers, are `unplaced`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from colindex.match import Match

__all__ = ["Piece", "contents", "pieces", "unplaced"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some characters of the document."""

    text: str
    """They themselves, one or more."""
    stored: tuple[int, ...]
    """The stored vectors of the tokens that cover it, rising; none between tokens."""
    ending: tuple[int, ...]
    """Those of the tokens that end here, rising."""
    title: bool
    """Whether it belongs to the title."""
    indexed: bool
    """False beyond the last token."""


def pieces(match: Match) -> tuple[Piece, ...]:
    """The text of the document, from its first character to its last."""
    content = match.document.content
    spans = _spans(match)
    title = len(match.document.title) + 1 if match.document.title else 0
    end = _end(content, spans)
    cuts = sorted({0, title, end, len(content)}.union(*((start, stop) for start, stop, _ in spans)))
    inside = _inside(spans, cuts)
    ending: dict[int, set[int]] = {}
    for _, stop, stored in spans:
        ending.setdefault(stop, set()).add(stored)
    return tuple(
        Piece(
            text=content[start:stop],
            stored=tuple(sorted(inside[start])),
            ending=tuple(sorted(ending.get(stop, ()))),
            title=start < title,
            indexed=start < end,
        )
        for start, stop in pairwise(cuts)
    )


def unplaced(match: Match) -> tuple[int, ...]:
    """Source tokens that the text does not hold, rising: all of them where there are no spans."""
    if match.spans is None:
        return tuple(range(len(match.stored)))
    return tuple(np.flatnonzero(match.spans[:, 1] <= match.spans[:, 0]).tolist())


def contents(match: Match, stored: int) -> tuple[str, ...]:
    """What to call the tokens that a stored vector stands for: their text, their name, or the vector's position."""
    return tuple(text or f"#{stored}" for text in match.texts(stored)) or (f"#{stored}",)


def _spans(match: Match) -> list[tuple[int, int, int]]:
    """Start, stop and stored vector of each token that has characters."""
    if match.spans is None:
        return []
    rows = zip(match.spans.tolist(), match.stored.tolist(), strict=True)
    return [(start, stop, stored) for (start, stop), stored in rows if stop > start]


def _end(content: str, spans: list[tuple[int, int, int]]) -> int:
    """Where the indexed text ends."""
    last = max((stop for _, stop, _ in spans), default=len(content))
    return last if any(character.isalnum() for character in content[last:]) else len(content)


def _inside(spans: list[tuple[int, int, int]], cuts: list[int]) -> dict[int, set[int]]:
    """The stored vectors of the tokens over each piece, by where it starts: one pass over the cuts of each token."""
    place = {cut: number for number, cut in enumerate(cuts)}
    inside: dict[int, set[int]] = {cut: set() for cut in cuts}
    for start, stop, stored in spans:
        for cut in cuts[place[start] : place[stop]]:
            inside[cut].add(stored)
    return inside
