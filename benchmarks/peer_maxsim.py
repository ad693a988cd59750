"""maxsim-cpu 0.1 in the peer benchmark: exact MaxSim of given documents over float32 vectors, no index.

It scores all documents, or the `documents` best ones, which it is handed for nothing: that is refinement alone, what would
remain of a search if finding candidates cost no time.

0.1.0 gives wrong scores for queries of more than 32 tokens; a score is a sum over query tokens, so long queries are scored
in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import maxsim_cpu
import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]

QUERY_TOKENS = 32

Question = tuple[list[NDArray[np.float32]], NDArray[np.int64]]
"""A query in pieces, and its best documents."""


class MaxSimCpu(Engine):
    """Threads by RAYON_NUM_THREADS, which the driver sets."""

    package = "maxsim-cpu"
    _documents: list[NDArray[np.float32]]

    def build(self, prepared: None) -> None:
        """Nothing to build."""

    def open(self) -> None:
        """One array a document."""
        self._documents = self.arrays.documents(np.float32)

    def question(self, number: int) -> Question:
        """Pieces of at most 32 tokens."""
        query = self.arrays.queries[number]
        pieces = [query[start : start + QUERY_TOKENS] for start in range(0, len(query), QUERY_TOKENS)]
        return [np.ascontiguousarray(piece) for piece in pieces], self.arrays.exact[number]

    def search(self, question: Question, k: int, settings: Settings) -> NDArray[np.int64]:
        """Score, then sort."""
        pieces, best = question
        count = settings.get("documents")
        numbers = np.arange(len(self._documents)) if count is None else np.sort(best[:count])
        chosen = self._documents if count is None else [self._documents[number] for number in numbers]
        scores = sum(np.asarray(maxsim_cpu.maxsim_scores_variable(piece, chosen)) for piece in pieces)
        return numbers[np.argsort(-np.asarray(scores), kind="stable")[:k]]

    def documents(self, answer: NDArray[np.int64]) -> Sequence[int]:
        """They are numbers already."""
        return [int(number) for number in answer]


ENGINE = MaxSimCpu
