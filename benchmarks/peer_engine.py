"""What the peer benchmark asks of an engine, and the arrays that every engine gets.

An adapter (`peer_tachiom`, `peer_colindex`, ...) runs in a worker process of its own and imports its engine; this module
needs NumPy alone, because the peers' venv has no colindex. What is timed is `build` and `search`; turning arrays into the
engine's own types (`prepare`, `question`) and answers into document numbers (`documents`) is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Engine", "Settings"]

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arrays:
    """A collection as every engine gets it: float16 vectors of unit length, the same values for all."""

    vectors: NDArray[np.float16]
    """float16 [tokens, dim]."""
    token_ids: NDArray[np.int32]
    """Vocabulary ids, int32 [tokens]."""
    offsets: NDArray[np.int64]
    """Document n has the tokens offsets[n] to offsets[n + 1], int64 [documents + 1]."""
    queries: tuple[NDArray[np.float32], ...]
    """float32 [query tokens, dim] a query."""
    exact: NDArray[np.int64]
    """The best documents by exact MaxSim, best first, int64 [queries, best]."""

    @classmethod
    def load(cls, folder: Path) -> Arrays:
        """Read what `peer_data` wrote."""
        flat, edges = np.load(folder / "queries.npy"), np.load(folder / "query_offsets.npy")
        return cls(
            vectors=np.load(folder / "vectors.npy"),
            token_ids=np.load(folder / "token_ids.npy"),
            offsets=np.load(folder / "offsets.npy"),
            queries=tuple(np.ascontiguousarray(part, np.float32) for part in np.split(flat, edges[1:-1])),
            exact=np.load(folder / "exact.npy"),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document."""
        return np.diff(self.offsets)

    def documents(self, dtype: type[np.floating]) -> list[NDArray[Any]]:
        """One array a document."""
        return np.split(self.vectors.astype(dtype, copy=False), self.offsets[1:-1])


class Engine(ABC):
    """One engine with one way to build: built in one process, searched in another."""

    package: str
    """Distribution whose version the results name."""

    def __init__(self, arrays: Arrays, folder: Path, threads: int, settings: Settings) -> None:
        """Keep what `build`, `open` and `search` need; `folder` exists and is the engine's own."""
        self.arrays, self.folder, self.threads, self.settings = arrays, folder, threads, settings

    def version(self) -> str:
        """Version of the engine's package."""
        return version(self.package)

    def prepare(self) -> Any:
        """Bring the documents into the types that the engine takes; not timed."""
        return None

    @abstractmethod
    def build(self, prepared: Any) -> None:
        """Vectors in memory to an index on disk that can be searched; timed."""

    @abstractmethod
    def open(self) -> None:
        """Open the index that another process built."""

    def question(self, number: int) -> Any:
        """Query `number` as the engine takes it; not timed."""
        return self.arrays.queries[number]

    @abstractmethod
    def search(self, question: Any, k: int, settings: Settings) -> Any:
        """The k best documents, in whatever form the engine gives them; timed."""

    @abstractmethod
    def documents(self, answer: Any) -> Sequence[int]:
        """Document numbers in an answer, best first; not timed."""
