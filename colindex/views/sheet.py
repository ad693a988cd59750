"""What a page shows, as plain values for its template: no markup here, no arithmetic there.

1. *Chips*: the query, token by token, with what each adds.
2. *Side*: a document, its text in pieces with their strengths, and the similarities for the page's script.
3. *Rows*: the table of contributions.
4. *Grid*: the heatmap, cut to what can be looked at.

A page stays responsive because each of these has a bound, and says what it leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colindex.match import Match
from colindex.views.figures import counts, decimal, hundredths, percent, sign, signed
from colindex.views.grid import Scale, columns, query_rows, scale, shares, strongest
from colindex.views.pieces import Piece, contents, pieces, unplaced
from colindex.views.rows import Row

__all__ = ["Token", "chips", "grid", "legend", "row", "side"]

_CHIPS = 64
_GRID_ROWS, _GRID_COLUMNS = 64, 48
_SIMILARITIES = 100_000  # numbers in the page for its script


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text, or a token without one."""

    text: str
    vectors: str = ""
    """Its stored vectors, separated by blanks; empty between tokens."""
    hit: bool = False
    """Whether one of them contributes."""
    numbers: str = ""
    """The query tokens, from 1, that it is the best match of, where a token of theirs ends."""
    style: str = ""
    """Its strengths, as custom properties."""


def chips(match: Match, values: Sequence[str]) -> dict[str, Any]:
    """The query tokens, each with a value, and how many are left out."""
    largest = max((part.share for part in match.contributions), default=0.0)
    bars = [part.share / largest if largest > 0 else 0.0 for part in match.contributions] or [0.0] * len(values)
    shown = query_rows(match, _CHIPS).tolist()
    return {
        "chips": [
            {"position": at, "token": match.query_tokens[at], "share": _strength(bars[at]), "value": values[at]}
            for at in shown
        ],
        "chips_left": len(match.query_tokens) - len(shown),
    }


def side(match: Match, shown: Scale, label: str | None = None) -> dict[str, Any]:
    """A document and its similarities."""
    paint = _Paint(match, shown)
    text = pieces(match)
    without = unplaced(match)
    kept = columns(match, max(_SIMILARITIES // max(match.similarities.shape[0], 1), 1))
    cut = len(kept) < match.similarities.shape[1]
    return {
        "label": label,
        "facts": counts(len(match.stored), match.similarities.shape[1]),
        "text": bool(text),
        "title": [paint.piece(piece) for piece in text if piece.title],
        "body": [paint.piece(piece) for piece in text if not piece.title and piece.indexed],
        "rest": "".join(piece.text for piece in text if not piece.title and not piece.indexed),
        "unplaced": list(_unplaced(match, paint, without)),
        "unplaced_note": "Stored without a place in the text:",
        "notes": _notes(match, text, len(kept) if cut else None),
        "similarities": json.dumps(_thousandths(match, kept), separators=(",", ":")),
        "kept": json.dumps(kept.tolist(), separators=(",", ":")) if cut else "",
        "low": round(shown.low, 3),
        "high": round(shown.high, 3),
        "score": decimal(match.score),
    }


def row(found: Row) -> dict[str, Any]:
    """A row of the table of contributions."""
    exact = found.exact
    return {
        "position": found.number - 1,
        "token": found.token,
        "context": found.context,
        "pooled": found.pooled,
        "number": repr(found.part.score),
        "value": decimal(found.part.score),
        "share": repr(found.part.share),
        "percent": percent(found.part.share),
        "exact": decimal(exact.score) if exact else "",
        "exact_number": repr(exact.score) if exact else "",
        "elsewhere": exact is not None and exact.stored != found.part.stored,
        "difference": signed(exact.difference) if exact else "",
        "difference_number": repr(exact.difference) if exact else "",
        "sign": f"cx-{sign(exact.difference)}" if exact else "",
    }


def grid(match: Match) -> dict[str, Any] | None:
    """The heatmap; None where there is nothing to show."""
    if not match.similarities.size:
        return None
    across, down = columns(match, _GRID_COLUMNS), query_rows(match, _GRID_ROWS)
    values = match.similarities[np.ix_(down, across)]
    strengths = scale(match).strength(values)
    best = {part.query_token: part.stored for part in match.contributions}
    return {
        "names": [_name(match, stored) for stored in across.tolist()],
        "note": _left_out(match, len(down), len(across)),
        "rows": [
            {
                "position": query,
                "token": match.query_tokens[query],
                "cells": [
                    {"value": hundredths(value), "strength": _strength(strength), "top": best[query] == stored}
                    for value, strength, stored in zip(value_row, strength_row, across.tolist(), strict=True)
                ],
            }
            for query, value_row, strength_row in zip(down.tolist(), values.tolist(), strengths.tolist(), strict=True)
        ],
    }


def legend(shown: Scale, largest_share: float) -> dict[str, Any]:
    """The scales in five steps, with their numbers."""
    steps = [(step / 4, _strength(step / 4)) for step in range(5)]
    return {
        "similarity": [
            {"strength": strength, "value": hundredths(shown.low + step * (shown.high - shown.low))}
            for step, strength in steps
        ],
        "share": [{"strength": strength, "value": percent(step * largest_share)} for step, strength in steps],
    }


class _Paint:
    """Strengths and numbers of a match's stored vectors, looked up for each piece of its text."""

    def __init__(self, match: Match, shown: Scale) -> None:
        self._similarity = shown.strength(strongest(match)).tolist()
        added = shares(match)
        largest = float(added.max(initial=0.0))
        self._share = (added / largest if largest > 0 else np.zeros_like(added)).clip(0, 1).tolist()
        self._numbers: dict[int, list[int]] = {}
        for part in match.contributions:
            self._numbers.setdefault(part.stored, []).append(part.query_token + 1)

    def piece(self, piece: Piece) -> Token:
        """A piece of the text."""
        return self.token(piece.text, piece.stored, piece.ending)

    def token(self, text: str, stored: Iterable[int], ending: Iterable[int]) -> Token:
        """Some text of some stored vectors, a few of which have a token that ends here."""
        vectors = tuple(stored)
        numbers = sorted(number for vector in ending for number in self._numbers.get(vector, ()))
        strengths = (
            ("--m", max((self._similarity[vector] for vector in vectors), default=0.0)),
            ("--c", max((self._share[vector] for vector in vectors), default=0.0)),
        )
        return Token(
            text=text,
            vectors=" ".join(map(str, vectors)),
            hit=any(vector in self._numbers for vector in vectors),
            numbers=" ".join(map(str, numbers)),
            style=";".join(f"{name}:{_strength(value)}" for name, value in strengths if value >= 0.005),
        )


def _unplaced(match: Match, paint: _Paint, sources: tuple[int, ...]) -> Iterable[Token]:
    """Tokens without a text, or, without any spans, the stored vectors by position."""
    if match.spans is None:
        for stored in range(match.similarities.shape[1]):
            yield paint.token(_name(match, stored), (stored,), (stored,))
        return
    for source in sources:
        stored = int(match.stored[source])
        name = f"#{stored}" if match.names is None else match.names[source]
        yield paint.token(name, (stored,), (stored,))


def _name(match: Match, stored: int) -> str:
    """A short name of a stored vector."""
    names = list(dict.fromkeys(contents(match, stored)))
    return names[0] if len(names) == 1 else f"{names[0]} · {names[1]}" + (" · …" if len(names) > 2 else "")


def _notes(match: Match, text: tuple[Piece, ...], kept: int | None) -> list[str]:
    notes = []
    beyond = sum(len(piece.text) for piece in text if not piece.indexed)
    if beyond:
        notes.append(
            f"The last {beyond:,} characters lie beyond the encoder's window: they were not indexed and cannot match."
        )
    if not match.similarities.shape[1]:
        notes.append("The document has no stored vector, so nothing can match.")
    if text and match.spans is None:
        notes.append("The index does not say where in the text a vector comes from; vectors go by their positions.")
    if kept is not None:
        notes.append(
            f"Choosing a query token colours the {kept:,} strongest of {match.similarities.shape[1]:,} vectors."
        )
    return notes


def _left_out(match: Match, rows: int, across: int) -> str:
    queries, vectors = match.similarities.shape
    if rows == queries and across == vectors:
        return ""
    parts = []
    if across < vectors:
        parts.append(f"{across} of {vectors:,} stored vectors: those that contribute, then the most similar")
    if rows < queries:
        parts.append(f"the {rows} of {queries:,} query tokens that add most")
    return "; ".join(parts)


def _thousandths(match: Match, kept: Any) -> list[list[int]]:
    rounded: list[list[int]] = np.rint(match.similarities[:, kept] * 1000.0).astype(np.int64).tolist()
    return rounded


def _strength(value: float) -> str:
    """A number for a style: `0.5`, `1`."""
    return f"{min(max(value, 0.0), 1.0):.2f}".rstrip("0").rstrip(".")
