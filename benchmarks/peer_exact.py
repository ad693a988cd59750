"""Exact MaxSim by BLAS in the peer benchmark: no index, every token of every document, float32.

One matrix product a block of documents, small enough to stay in cache, and the maximum over each document's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]

BLOCK_TOKENS = 4096


class Blas(Engine):
    """NumPy's own BLAS."""

    package = "numpy"
    _blocks: list[tuple[int, int, NDArray[np.float32], NDArray[np.int64]]]
    """First and last document, their vectors transposed, where each begins."""

    def build(self, prepared: Any) -> None:
        """Nothing to build."""

    def open(self) -> None:
        """Cut the documents into blocks."""
        offsets, vectors = self.arrays.offsets, self.arrays.vectors.astype(np.float32)
        if not self.arrays.lengths.all():
            raise ValueError("exact: expected a token in every document, got one without.")
        self._blocks, begin = [], 0
        while begin < len(offsets) - 1:
            fitting = int(np.searchsorted(offsets, offsets[begin] + BLOCK_TOKENS, side="right")) - 1
            stop = max(begin + 1, fitting)
            rows = vectors[offsets[begin] : offsets[stop]]
            self._blocks.append((begin, stop, rows.T, offsets[begin:stop] - offsets[begin]))
            begin = stop

    def search(self, question: NDArray[np.float32], k: int, settings: Settings) -> NDArray[np.int64]:
        """Score all, sort the best."""
        scores = np.empty(len(self.arrays.lengths), np.float32)
        for begin, stop, columns, starts in self._blocks:
            scores[begin:stop] = np.maximum.reduceat(question @ columns, starts, axis=1).sum(axis=0)
        best = np.argpartition(-scores, min(k, len(scores)) - 1)[:k]
        return best[np.argsort(-scores[best], kind="stable")]

    def documents(self, answer: NDArray[np.int64]) -> Sequence[int]:
        """They are numbers already."""
        return [int(number) for number in answer]


ENGINE = Blas
