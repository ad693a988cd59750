"""Which columns of a table that is all text, such as a CSV file, hold numbers?

1. Look at every row before a document is made of the first: one cell can decide about its column.
2. A column holds numbers where each cell that is not empty is one as JSON writes it, and some cell is not empty. So `007`,
   `+1`, `1,000`, ` 5`, `nan` and what 64 bits do not hold keep their column text, as it stands.
3. In such a column a cell becomes a whole number, or a fraction where it has a point or an exponent; an empty one nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["number", "number_columns"]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)", re.ASCII)
_LEAST, _MOST = -(2**63), 2**63 - 1
_MOST_CHARACTERS = 400
"""Of a cell that may be a number: Python's own limit for whole numbers is above it."""


def number_columns(rows: Iterable[Sequence[str]], candidates: Iterable[int]) -> frozenset[int]:
    """Those of the columns `candidates` that hold numbers; rows that are too short say nothing about them."""
    possible, seen = set(candidates), set[int]()
    for row in rows:
        for column in [column for column in possible if column < len(row) and row[column]]:
            if number(row[column]) is None:
                possible.discard(column)
            else:
                seen.add(column)
        if not possible:
            break
    return frozenset(possible & seen)


def number(cell: str) -> int | float | None:
    """The number that a cell is; None where it is none.

    >>> number("2020"), number("-1.50"), number("1e3"), number("007"), number("")
    (2020, -1.5, 1000.0, None, None)
    """
    match = _NUMBER.fullmatch(cell) if len(cell) <= _MOST_CHARACTERS else None
    if match is None:
        return None
    if not match["fraction"]:
        whole = int(cell)
        return whole if _LEAST <= whole <= _MOST else None
    fraction = float(cell)
    return fraction if abs(fraction) != float("inf") else None
