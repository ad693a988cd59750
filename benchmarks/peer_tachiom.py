"""TACHIOM 0.4 in the peer benchmark (Martinico et al., SIGIR 2026): token-aware clusters, 32-byte product codes, HNSW.

`tokens_per_centroid` of the build asks for the next power of two of tokens / tokens_per_centroid centroids, or for what
`auto_build_params` gives where that is more (small collections: every vocabulary id needs one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tachiom
from numpy.typing import NDArray

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]


class Tachiom(Engine):
    """Gets token ids; threads by RAYON_NUM_THREADS, which the driver sets."""

    package = "tachiom"
    _index: Any

    def prepare(self) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.int32]]:
        """float16 bits as uint16, which is how it takes them."""
        arrays = self.arrays
        return arrays.vectors.view(np.uint16), arrays.token_ids.astype(np.uint32), arrays.lengths.astype(np.int32)

    def build(self, prepared: tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.int32]]) -> None:
        """Everything at its default but the number of centroids."""
        vectors, token_ids, lengths = prepared
        least = int(tachiom.auto_build_params(token_ids)["total_centroids"])
        wanted = 2 ** math.ceil(math.log2(len(vectors) / self.settings["tokens_per_centroid"]))
        index = tachiom.Tachiom.build_from_arrays(vectors, token_ids, lengths, total_centroids=max(wanted, least))
        index.save(str(self.folder / "tachiom.bin"))

    def open(self) -> None:
        """Read it into memory."""
        self._index = tachiom.Tachiom.load(str(self.folder / "tachiom.bin"))

    def search(self, question: NDArray[np.float32], k: int, settings: Settings) -> Any:
        """HNSW width 1.5 times the probed centroids, as PyLate couples them."""
        width = round(1.5 * settings["k_centroids"])
        return self._index.search(question, k, ef_search=width, **settings)

    def documents(self, answer: Any) -> Sequence[int]:
        """Where it found fewer than k, it fills up with a number that no document has."""
        numbers: NDArray[np.uint32] = answer[1]
        return [number for number in numbers.tolist() if number < len(self.arrays.lengths)]


ENGINE = Tachiom
