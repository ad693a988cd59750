"""fast-plaid 1.7 on the CPU in the peer benchmark: PLAID in Rust over libtorch (Santhanam et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fast_plaid.search import FastPlaid

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]


class Plaid(Engine):
    """Searched query by query, as a user who waits for an answer does."""

    package = "fast-plaid"
    _index: Any

    def prepare(self) -> list[torch.Tensor]:
        """A float16 tensor a document."""
        return [torch.from_numpy(document) for document in self.arrays.documents(np.float16)]

    def build(self, prepared: list[torch.Tensor]) -> None:
        """`start_from_scratch=0`: keeps no raw copy of a small collection beside the index, for updates to come."""
        torch.set_num_threads(self.threads)
        index = FastPlaid(index=str(self.folder / "index"), device="cpu")
        index.create(documents_embeddings=prepared, start_from_scratch=0, **self.settings)

    def open(self) -> None:
        """Memory-mapped by the engine."""
        torch.set_num_threads(self.threads)
        self._index = FastPlaid(index=str(self.folder / "index"), device="cpu")

    def question(self, number: int) -> list[torch.Tensor]:
        """A batch of one."""
        return [torch.from_numpy(self.arrays.queries[number])]

    def search(self, question: list[torch.Tensor], k: int, settings: Settings) -> Any:
        """One process, no progress bar."""
        return self._index.search(question, top_k=k, show_progress=False, n_processes=1, **settings)

    def documents(self, answer: Any) -> Sequence[int]:
        """Of the one query."""
        return [number for number, _ in answer[0]]


ENGINE = Plaid
