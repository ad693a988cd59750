"""What of the matrix is shown, and how strong.

1. *Columns*: all stored vectors where they are few; else those that contribute, then the most similar ones, as many as fit.
   They stand in the order of the document.
2. *Rows*: all query tokens where they are few; else those that contribute most, in the order of the query.
3. *Strength*: a similarity is shown from 0, half a standard deviation above the mean of the matrix (most pairs have nothing to
   do with each other), to 1, its maximum. A share is shown relative to the largest share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.match import Match

__all__ = ["Scale", "columns", "query_rows", "scale", "shares", "strongest"]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to strengths."""

    low: float
    """Shown as nothing, as is all below."""
    high: float
    """Shown at full strength."""

    def strength(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values as strengths, 0 to 1, of the same shape."""
        if self.high <= self.low:
            return np.zeros_like(values)
        strengths: NDArray[np.float32] = np.clip((values - self.low) / np.float32(self.high - self.low), 0, 1)
        return strengths


def scale(*matches: Match) -> Scale:
    """One scale for the similarities of all matches that are shown together."""
    found = [match.similarities.ravel() for match in matches if match.similarities.size]
    if not found:
        return Scale(0.0, 0.0)
    values = np.concatenate(found)
    return Scale(float(values.mean() + values.std() / 2), float(values.max()))


def strongest(match: Match) -> NDArray[np.float32]:
    """The maximum of each stored vector over the query tokens, float32 [stored vectors]."""
    if not match.similarities.size:
        return np.zeros(match.similarities.shape[1], np.float32)
    found: NDArray[np.float32] = match.similarities.max(axis=0)
    return found


def shares(match: Match) -> NDArray[np.float32]:
    """What each stored vector adds to the score, as a share of it, float32 [stored vectors]."""
    found = np.zeros(match.similarities.shape[1], np.float32)
    for part in match.contributions:
        found[part.stored] += part.share
    return found


def columns(match: Match, limit: int) -> NDArray[np.int64]:
    """The stored vectors to show, at most `limit`, rising."""
    count = match.similarities.shape[1]
    if count <= limit:
        return np.arange(count)
    contributing = np.zeros(count, bool)
    contributing[[part.stored for part in match.contributions]] = True
    first = np.lexsort((-strongest(match), ~contributing))  # the last key decides first
    return np.sort(first[:limit])


def query_rows(match: Match, limit: int) -> NDArray[np.int64]:
    """The query tokens to show, at most `limit`, rising."""
    count = match.similarities.shape[0]
    if count <= limit or not match.contributions:
        return np.arange(min(count, limit))
    return np.sort(np.argsort([-part.score for part in match.contributions], kind="stable")[:limit])
