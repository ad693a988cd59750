"""Documents in falling score, ties in document order: candidates by their estimates, answers by their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NONE", "Ranked"]

FEW = 256
"""More documents than wanted that are sorted without taking the best of them first."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Documents in falling score, ties in document order."""

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def best(cls, documents: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranked:
        """The k best of some documents."""
        if len(documents) > k + FEW:
            # Everything at least as good as the k-th, so that ties at the border are decided by document, not by chance.
            kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
            documents, scores = documents[kept], scores[kept]
        order = np.lexsort((documents, -scores))[:k]
        return cls(documents[order], scores[order])

    @classmethod
    def best_of(cls, parts: Sequence[Ranked], k: int) -> Ranked:
        """The k best of all; no document is in two."""
        documents = np.concatenate([NONE.documents, *(part.documents for part in parts)])
        return cls.best(documents, np.concatenate([NONE.scores, *(part.scores for part in parts)]), k)

    def merged(self, other: Ranked, k: int) -> Ranked:
        """The k best of both; no document is in both."""
        return Ranked.best_of([self, other], k) if len(self) else Ranked.best(other.documents, other.scores, k)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents)


NONE = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
