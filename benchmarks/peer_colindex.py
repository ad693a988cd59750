"""colindex in the peer benchmark: `Index.build_from_vectors`, `Index.search_vectors`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_engine import Engine, Settings
from benchmarks.vectors import Vectors
from colindex import BuildParams, Hit, Index, SearchParams, __version__

__all__ = ["ENGINE"]

MEMORY = "4GiB"
"""Holds every record of both collections: the peers keep theirs in memory too."""


class Colindex(Engine):
    """Documents are named by their numbers."""

    package = "colindex"
    _index: Index

    def version(self) -> str:
        """Of the checkout, which need not be installed."""
        return __version__

    def prepare(self) -> Vectors:
        """The arrays as `Vectors`, which cuts them into batches."""
        ids = tuple(str(number) for number in range(len(self.arrays.lengths)))
        return Vectors(ids, self.arrays.vectors, self.arrays.token_ids, self.arrays.offsets)

    def build(self, prepared: Vectors) -> None:
        """Build with the default parameters, but for those of the setting."""
        params = BuildParams(threads=self.threads, memory=MEMORY, **self.settings)
        Index.build_from_vectors(self.folder / "index", prepared.batches(), params)

    def open(self) -> None:
        """Open with room for every record."""
        self._index = Index.open(self.folder / "index", memory=MEMORY, threads=self.threads)

    def search(self, question: NDArray[np.float32], k: int, settings: Settings) -> list[Hit]:
        """Approximate search, even where exact search is the default."""
        return self._index.search_vectors(question, k, params=SearchParams(exact=False, **settings))

    def documents(self, answer: list[Hit]) -> Sequence[int]:
        """Ids back to numbers."""
        return [int(hit.id) for hit in answer]


ENGINE = Colindex
