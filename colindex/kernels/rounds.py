"""What refinement in rounds takes and tells (kernels/native/refine.py)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidates", "Refined", "Rounds"]


class Candidates(NamedTuple):
    """In falling order of their estimates."""

    documents: NDArray[np.int64]
    """[candidates]"""
    estimates: NDArray[np.float32]
    """[candidates]"""
    starts: NDArray[np.int64]
    """[candidates]: first byte of the records of each."""
    ends: NDArray[np.int64]
    """[candidates]: the byte after their last."""


class Rounds(NamedTuple):
    """How much is refined together."""

    first: int
    """Documents of the first round, at least."""
    most: int
    """Of every other round, at most."""
    ahead: int
    """Those beyond a round whose reads are in flight."""
    announced: bool
    """Whether the reads of the first round are."""


class Refined(NamedTuple):
    """What came of it."""

    documents: NDArray[np.int64]
    """The k best of those that were refined, in falling score, ties in rising order: [k or fewer]."""
    scores: NDArray[np.float32]
    """Theirs."""
    scored: int
    """Candidates that were refined."""
    announced: int
    """Reads of later rounds that were started."""
    fetching: float
    """Seconds."""
    scoring: float
    """Seconds."""
    counted: tuple[int, ...]
    """What all fetches did (storage/native/reader.h)."""
    failure: tuple[int, ...] | None
    """Of a fetch: nothing else counts then."""
