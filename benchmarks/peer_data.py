"""Steps 1 and 2 of the peer benchmark: one set of arrays for every engine, and the exact answers.

1. Reduce to 128 dims by the project's own PCA, learned from all document vectors, unit length again, rounded to float16
   once: every engine gets the same values. A subset is the first so many documents of the reduced ones.
2. The exact answers: float32 MaxSim over those values.

Both are kept in the scratch folder and made again when the vectors, the subset or the number of queries change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import exact_top
from benchmarks.vectors import load
from colindex.projection import learn_projection

__all__ = ["DIM", "KEPT", "Collection", "Say", "collect"]

Say = Callable[[str], None]
"""Hears in words what is going on."""

DIM = 128
KEPT = 256
"""Exact answers kept for each query: maxsim-cpu is handed so many to refine."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the arrays are, and how large."""

    name: str
    subset: int | None
    folder: Path
    documents: int
    tokens: int
    queries: int

    @property
    def label(self) -> str:
        """Name of the results: `scifact`, `scifact-1000`.

        >>> Collection("scifact", 1000, Path(), 1000, 239_403, 300).label
        'scifact-1000'
        """
        return self.name if self.subset is None else f"{self.name}-{self.subset}"


def collect(vectors: Path, scratch: Path, subset: int | None, queries: int | None, say: Say) -> Collection:
    """Make the arrays, or find them made.

    Args:
        vectors: the folder of `docs.npz` and `queries.npz` that `benchmarks.vectors` wrote.
        scratch: where the arrays go: `SCRATCH/NAME[-SUBSET]/data`.
        subset: the first so many documents; None for all.
        queries: the first so many queries; None for all.
        say: hears what is going on.
    """
    name = vectors.resolve().name
    folder = scratch / (name if subset is None else f"{name}-{subset}") / "data"
    source = {
        "vectors": str(vectors.resolve()),
        "written": [(vectors / file).stat().st_mtime_ns for file in ("docs.npz", "queries.npz")],
        "dim": DIM,
        "queries": queries,
    }
    made = folder / "made.json"
    if not made.exists() or json.loads(made.read_text(encoding="utf-8"))["source"] != source:
        made.unlink(missing_ok=True)
        sizes = _make(vectors, folder, subset, queries, say)
        made.write_text(json.dumps({"source": source, "sizes": sizes}), encoding="utf-8")
    sizes = json.loads(made.read_text(encoding="utf-8"))["sizes"]
    return Collection(name, subset, folder, **sizes)


def _make(vectors: Path, folder: Path, subset: int | None, queries: int | None, say: Say) -> Mapping[str, int]:
    """Steps 1 and 2."""
    folder.mkdir(parents=True, exist_ok=True)
    say(f"reducing {vectors} to {DIM} dims")
    docs, asked = load(vectors / "docs.npz"), load(vectors / "queries.npz").first(queries)
    projection = learn_projection(docs.vectors, DIM, seed=0)
    docs = docs.first(subset)
    reduced = projection.apply(docs.vectors).astype(np.float16)
    questions = projection.apply(asked.vectors).astype(np.float16)
    say(f"exact answers of {len(asked.ids):,} queries over {len(reduced):,} tokens")
    each = [part.astype(np.float32) for part in np.split(questions, asked.offsets[1:-1])]
    best = exact_top(reduced.astype(np.float32), docs.offsets, each, min(KEPT, len(docs.ids)))
    arrays: dict[str, NDArray[Any]] = {
        "vectors": reduced,
        "token_ids": docs.token_ids,
        "offsets": docs.offsets,
        "queries": questions,
        "query_offsets": asked.offsets,
        "exact": np.stack(best),
    }
    for file, array in arrays.items():
        np.save(folder / f"{file}.npy", array)
    return {"documents": len(docs.ids), "tokens": len(reduced), "queries": len(asked.ids)}
