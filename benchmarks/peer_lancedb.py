"""LanceDB's multivector column in the peer benchmark: IVF-PQ over all tokens, refined by MaxSim over the raw vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfPq
from numpy.typing import NDArray

from benchmarks.peer_engine import Engine, Settings

__all__ = ["ENGINE"]


class Lance(Engine):
    """Cosine is the one distance that its multivector search knows; unit vectors make it the dot product."""

    package = "lancedb"
    _table: Any

    def prepare(self) -> pa.Table:
        """A table of numbers and lists of float32 vectors; with float16 ones its index takes five times as long."""
        flat = pa.array(self.arrays.vectors.astype(np.float32).reshape(-1))
        tokens = pa.FixedSizeListArray.from_arrays(flat, self.arrays.vectors.shape[1])
        column = pa.ListArray.from_arrays(pa.array(self.arrays.offsets.astype(np.int32)), tokens)
        return pa.table({"number": pa.array(np.arange(len(column)), pa.int64()), "vector": column})

    def build(self, prepared: pa.Table) -> None:
        """Partitions: the power of two nearest to the root of the tokens (its default goes by rows: one for 5,000)."""
        partitions = 2 ** round(np.log2(np.sqrt(len(self.arrays.vectors))))
        table = lancedb.connect(str(self.folder / "index")).create_table("documents", prepared)
        table.create_index("vector", config=IvfPq(distance_type="cosine", num_partitions=partitions, **self.settings))

    def open(self) -> None:
        """On disk; what is read often, it caches."""
        self._table = lancedb.connect(str(self.folder / "index")).open_table("documents")

    def search(self, question: NDArray[np.float32], k: int, settings: Settings) -> Any:
        """Numbers alone come back, without the vectors."""
        asked = self._table.search(question, vector_column_name="vector").distance_type("cosine").limit(k)
        for name, value in settings.items():
            asked = getattr(asked, name)(value)
        return asked.select(["number", "_distance"]).to_arrow()

    def documents(self, answer: Any) -> Sequence[int]:
        """The column of numbers."""
        numbers: list[int] = answer["number"].to_pylist()
        return numbers


ENGINE = Lance
