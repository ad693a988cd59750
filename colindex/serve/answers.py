"""Answers: an index and a question in, plain values out that JSON holds. `shapes` describes them.

1. *Search*: encode, search, and cut a snippet of each hit; the time of each stage comes with it.
2. *Inspect* and *explain* one document.
3. *Describe* the index.

An index may move to a newer generation between a search and its snippets; a document that is gone then keeps the text that
the hit holds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import colindex
from colindex.errors import DocumentNotFoundError
from colindex.filters import columns
from colindex.index import Index
from colindex.match import Match
from colindex.serve.shapes import Counters, ExplainForm, InspectForm, SearchForm
from colindex.serve.snippets import Snippet, beginning, snippet
from colindex.storage.segments import metadata_table
from colindex.types import Document, Hit
from colindex.views.data import finite

__all__ = ["Description", "explain", "inspect", "search"]


def search(index: Index, form: SearchForm) -> dict[str, Any]:
    """Step 1."""
    start = time.perf_counter()
    vectors = index.encode_query(form.query)
    encoded = time.perf_counter()
    hits, stats = index.search_vectors_with_stats(
        vectors, form.k, params=form.params, where=form.where, ids=form.ids, unit=form.unit
    )
    searched = time.perf_counter()
    rows = [_hit(index, vectors, rank, hit) for rank, hit in enumerate(hits, start=1)]
    done = time.perf_counter()
    inside = sum(stats.seconds.values())
    seconds = {"encode": encoded - start, **stats.seconds, "other": max(searched - encoded - inside, 0.0)}
    return {
        "hits": rows,
        "generation": index.manifest.generation,
        "seconds": {**seconds, "snippets": done - searched},
        "total_seconds": done - start,
        "counters": {name: getattr(stats, name) for name in Counters.model_fields},
    }


def _hit(index: Index, query: NDArray[np.float32], rank: int, hit: Hit) -> dict[str, Any]:
    document, shown = _shown(index, query, hit)
    return {
        "rank": rank,
        "id": hit.id,
        "score": finite(float(hit.score)),
        "title": document.title,
        "title_is_best": shown.title_is_best,
        "span": None if shown.span is None else list(shown.span),
        "snippet": [{"text": piece.text, "best": piece.best, "match": piece.match} for piece in shown.pieces],
        "metadata": dict(document.metadata),
    }


def _shown(index: Index, query: NDArray[np.float32], hit: Hit) -> tuple[Document, Snippet]:
    try:
        match = index.inspect(query, hit.id, exact=False)
    except DocumentNotFoundError:
        return hit.document, beginning(hit.document)
    return match.document, snippet(match, hit.span)


def inspect(index: Index, form: InspectForm) -> Match:
    """Step 2: what met what; `Match.to_dict` makes values of it, `colindex.views.html` a page."""
    return index.inspect(form.query, form.id, exact=form.exact)


def explain(index: Index, form: ExplainForm) -> dict[str, Any]:
    """Step 2: what became of a document, and the settings that would bring it in."""
    found = index.explain_missing(form.query, form.id, form.k, params=form.params, where=form.where, ids=form.ids)
    return found.to_dict()


class Description:
    """Step 3. Columns are found once a generation: their files are compared with their checksums first."""

    def __init__(self, index: Index, path: Path) -> None:
        self._index, self._path = index, path
        self._columns: tuple[int, tuple[str, ...]] = (0, ())

    def now(self) -> dict[str, Any]:
        """The newest generation in figures, and what a condition may mention."""
        self._index.reopen()
        manifest = self._index.manifest
        if self._columns[0] != manifest.generation:
            found = columns(metadata_table(self._path, info) for info in manifest.segments)
            self._columns = (manifest.generation, found)
        return {
            "name": self._path.resolve().name,
            "version": colindex.__version__,
            "encoder": None if manifest.encoder is None else str(manifest.encoder["name"]),
            "columns": list(self._columns[1]),
            **self._index.stats().as_dict(),
        }
