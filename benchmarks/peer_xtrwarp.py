"""xtr-warp-rs 2.1 on the CPU in the peer benchmark: WARP in Rust over libtorch (Scheerer et al., SIGIR 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from xtr_warp.search import XTRWarp

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]


class Warp(Engine):
    """Searched query by query."""

    package = "xtr-warp-rs"
    _index: Any

    def prepare(self) -> list[torch.Tensor]:
        """A float32 tensor a document."""
        return [torch.from_numpy(document) for document in self.arrays.documents(np.float32)]

    def build(self, prepared: list[torch.Tensor]) -> None:
        """Everything at its default but what the setting names."""
        torch.set_num_threads(self.threads)
        index = XTRWarp(index=str(self.folder / "index"))
        index.create(prepared, device="cpu", show_progress=False, **self.settings)

    def open(self) -> None:
        """In memory, not mapped: nothing is left to page faults."""
        torch.set_num_threads(self.threads)
        self._index = XTRWarp(index=str(self.folder / "index"))
        self._index.load(device="cpu", mmap=False)

    def question(self, number: int) -> torch.Tensor:
        """A tensor [query tokens, dim]."""
        return torch.from_numpy(self.arrays.queries[number])

    def search(self, question: torch.Tensor, k: int, settings: Settings) -> Any:
        """What the settings do not name, the engine tunes itself."""
        with torch.inference_mode():
            return self._index.search(question, k, num_threads=self.threads, show_progress=False, **settings)

    def documents(self, answer: Any) -> Sequence[int]:
        """Of the one query."""
        return [number for number, _ in answer[0]]


ENGINE = Warp
