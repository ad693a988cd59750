"""Two matches of one query side by side: two documents, or one document in two indexes.

1. *Pair* what each query token adds on either side: the second less the first is the difference.
2. The differences add up to the difference of the scores.

Before and after pooling, 2 bits and 4: `index.inspect(query, id).compare(other_index.inspect(query, id))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colindex.errors import ParameterError
from colindex.match import Match
from colindex.views.rows import Row, rows

__all__ = ["Comparison", "Pair", "compare"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One query token on both sides."""

    number: int
    """From 1, in the order of the query."""
    token: str
    rows: tuple[Row | None, Row | None]
    """None where the document has no stored vector."""

    @property
    def difference(self) -> float:
        """The second contribution less the first; a document without vectors contributes nothing."""
        first, second = (row.part.score if row else 0.0 for row in self.rows)
        return second - first


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two matches of one query; made by `Match.compare`."""

    first: Match
    second: Match
    names: tuple[str, str]
    """What to call them."""

    @property
    def difference(self) -> float:
        """The second score less the first."""
        return self.second.score - self.first.score

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """A pair for each query token, in the order of the query."""
        tokens = self.first.query_tokens
        sides = [rows(match) or (None,) * len(tokens) for match in (self.first, self.second)]
        return tuple(
            Pair(number, token, (first, second))
            for number, (token, first, second) in enumerate(zip(tokens, *sides, strict=True), start=1)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON holds: names, both matches as `Match.to_dict` gives them, and the differences."""
        from colindex.views.data import finite, match_data

        return {
            "names": list(self.names),
            "matches": [match_data(self.first), match_data(self.second)],
            "difference": finite(self.difference),
            "differences": [pair.difference for pair in self.pairs],
        }

    def to_html(self, path: str | Path) -> None:
        """Write a page that needs nothing else: both documents with their tokens highlighted, and the differences."""
        from colindex.views.html import comparison_page

        Path(path).write_bytes(comparison_page(self).encode())

    def _repr_html_(self) -> str:
        from colindex.views.html import comparison_fragment

        return comparison_fragment(self)


def compare(first: Match, second: Match, names: tuple[str, str] | None = None) -> Comparison:
    """Put two matches side by side.

    Args:
        first: one match.
        second: another match of the same query.
        names: what to call them; None takes their documents' ids, or `first` and `second` where these are the same.

    Raises:
        ParameterError: they are matches of different queries.
    """
    if first.query_tokens != second.query_tokens:
        raise ParameterError(
            f"compare: expected two matches of one query, got {_query(first)} and {_query(second)}; "
            "inspect both documents with the same query."
        )
    if names is None:
        names = ("first", "second") if first.id == second.id else (first.id, second.id)
    return Comparison(first, second, names)


def _query(match: Match) -> str:
    return f"{len(match.query_tokens)} vectors" if match.query is None else repr(match.query)
