"""The table of contributions: what each query token adds to the score, through which tokens, and what quantization did to it.

1. A row for each query token: the contribution of the match, and the token behind its stored vector in its context. Where
   tokens were pooled, the first of them in its context, and what the others are.
2. Where the similarities before quantization are known, the row's maximum among those: the rows then add up to the exact
   score as they do to the score, and their differences to the difference of the two. That maximum may be another vector's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from colindex.match import Contribution, Match
from colindex.views.pieces import contents

__all__ = ["Context", "Exact", "Row", "counted", "rows"]

_AROUND = 24  # characters of context on either side
_SHOWN = 6  # different tokens of a pooled vector


@dataclass(frozen=True, slots=True)
class Context:
    """A token and what stands around it."""

    before: str
    token: str
    after: str


@dataclass(frozen=True, slots=True)
class Exact:
    """What a query token adds before quantization."""

    stored: int
    """The vector that was most similar then."""
    score: float
    difference: float
    """What quantization added."""


@dataclass(frozen=True, slots=True)
class Row:
    """One query token."""

    number: int
    """From 1, in the order of the query."""
    token: str
    part: Contribution
    context: Context
    """The first token that the vector stands for."""
    pooled: str
    """All tokens that it stands for, counted; empty where there is one."""
    exact: Exact | None


def rows(match: Match) -> tuple[Row, ...]:
    """A row for each query token, in the order of the query."""
    exact = _exact(match)
    found = []
    for part in match.contributions:
        names = contents(match, part.stored)
        found.append(
            Row(
                number=part.query_token + 1,
                token=match.query_tokens[part.query_token],
                part=part,
                context=_context(match, part.stored, names[0]),
                pooled=counted(names) if len(names) > 1 else "",
                exact=None if exact is None else exact[part.query_token],
            )
        )
    return tuple(found)


def counted(names: tuple[str, ...]) -> str:
    """Tokens in a few words, the frequent ones first.

    >>> counted(("the", "of", "the"))
    'the ×2 · of'
    """
    counts = Counter(names).most_common()
    shown = " · ".join(f"{name} ×{count}" if count > 1 else name for name, count in counts[:_SHOWN])
    return f"{shown} · …" if len(counts) > _SHOWN else shown


def _context(match: Match, stored: int, name: str) -> Context:
    """What stands around the first token that a stored vector stands for."""
    sources = match.sources(stored)
    start, stop = (0, 0) if match.spans is None or not len(sources) else match.spans[sources[0]].tolist()
    if stop <= start:
        return Context("", name, "")
    content = match.document.content
    return Context(_before(content, start), name, _after(content, stop))


def _before(content: str, start: int) -> str:
    """The characters before a place, from the beginning of a word where there is one."""
    if start <= _AROUND:
        return content[:start]
    around = content[start - _AROUND : start]
    _, blank, words = around.partition(" ")
    return "… " + (words if blank and words else around)


def _after(content: str, stop: int) -> str:
    """The characters after a place, to the end of a word where there is one."""
    if len(content) - stop <= _AROUND:
        return content[stop:]
    around = content[stop : stop + _AROUND]
    words, blank, _ = around.rpartition(" ")
    return (words if blank and words else around) + " …"


def _exact(match: Match) -> tuple[Exact, ...] | None:
    if match.exact is None or not match.exact.shape[1]:
        return None
    stored, scores = match.exact.argmax(axis=1).tolist(), match.exact.max(axis=1).tolist()
    return tuple(
        Exact(vector, score, part.score - score)
        for vector, score, part in zip(stored, scores, match.contributions, strict=True)
    )
