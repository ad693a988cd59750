"""Index: build one, open one, search it, change it. Holds handles and wires the stages together; computes nothing itself.

1. `build` and `build_from_vectors` make a new index (`colindex.build`).
2. `open` opens the newest generation (`colindex.generation`), which the handle keeps until `reopen`.
3. Searching takes a generation and the documents of it that may be returned (`colindex.selection`), and ranks those
   (`colindex.search`).
4. `add`, `upsert`, `delete` and `compact` commit the next generation (`colindex.change`, `colindex.compact`), and move
   this handle to it.

Nothing is ever written by opening or searching.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from colindex.answer import answer, answer_each
from colindex.budget import IndexStats
from colindex.build import BuildReport, build
from colindex.change import ChangeReport, add, delete, tidy
from colindex.compact import CompactReport, compact
from colindex.errors import ParameterError, QueryError
from colindex.explain import Case, Explanation, absent, explain
from colindex.generation import Generation
from colindex.inspection import Asked, ask, ask_vectors, inspect
from colindex.match import Match
from colindex.params import BuildParams, SearchParams, Unit, checked_k, parse_bytes
from colindex.progress import Report, silent
from colindex.sources import Source, TextSource, VectorSource
from colindex.storage.manifest import Manifest
from colindex.tally import Tally
from colindex.threads import blas_threads, one_blas_thread
from colindex.types import Document, DocumentEncoder, Hit, SearchStats, TextEncoder, TokenBatch

__all__ = ["Index"]

_Report = TypeVar("_Report", ChangeReport, CompactReport)


class Index:
    """A late-interaction index on disk, searched within a memory budget.

    Build with `Index.build` or `Index.build_from_vectors`, open with `Index.open`; close it, or use it in a `with`.
    One open index may be searched from several threads.
    """

    def __init__(
        self, path: Path, generation: Generation, encoder: TextEncoder | None, budget: int, threads: int, refresh: bool
    ) -> None:
        """Used by `Index.open`."""
        self._path, self._open, self._encoder, self._budget = path, generation, encoder, budget
        self._threads, self._refresh, self._closed = threads, refresh, False

    # ---- building

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encoder: DocumentEncoder,
        params: BuildParams | None = None,
        *,
        resume: bool = False,
        progress: Report = silent,
    ) -> BuildReport:
        """Encode documents and build an index of them at `path`, a new folder.

        An interrupted build is continued with `resume=True` and the same arguments; the answers are those of an
        uninterrupted one. The documents are read again and have to be those of the interrupted build.

        Raises:
            IndexExistsError, CorpusError, DuplicateIdError, InvalidIdError, DiskSpaceError, IndexLockedError, ParameterError
        """
        params = params or BuildParams()
        if encoder.pools_tokens and params.pool_factor > 1:
            raise ParameterError(
                f"pool_factor: expected 1, as the encoder {encoder.name} pools tokens itself, got {params.pool_factor}."
            )
        return build(Path(path), TextSource(documents, encoder, params), params, resume=resume, report=progress)

    @classmethod
    def build_from_vectors(
        cls,
        path: str | Path,
        batches: Iterable[TokenBatch],
        params: BuildParams | None = None,
        *,
        resume: bool = False,
        progress: Report = silent,
    ) -> BuildReport:
        """Build an index of anybody's token vectors: float16 or float32, 8 to 1,024 dims, any number a document.

        Raises:
            As `build` (resumed vectors have to be the same to the bit), and VectorError for batches that disagree in dim.
        """
        params = params or BuildParams()
        return build(Path(path), VectorSource(batches, params), params, resume=resume, report=progress)

    # ---- opening

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: TextEncoder | None = None,
        memory: int | str = "512MiB",
        threads: int = 1,
        refresh: bool = False,
    ) -> Self:
        """Open the newest generation for searching.

        Args:
            path: the index's folder.
            encoder: the encoder it was built with, for searching with text.
            memory: upper bound of everything that the index keeps: centroids, postings, offsets, cache.
            threads: how many threads one call may use.
            refresh: look for a newer generation before each search; otherwise this one is kept until `reopen`.

        Raises:
            IndexNotFoundError, IndexNotBuiltError, CorruptIndexError, FormatTooNewError: there is nothing fit to open.
            EncoderMismatchError: the encoder is not the one that the index was built with.
            MemoryBudgetError: the budget is smaller than what must stay resident.
        """
        path, budget = Path(path), parse_bytes(memory)
        return cls(path, Generation.open(path, encoder, budget), encoder, budget, max(1, threads), refresh)

    def reopen(self) -> bool:
        """Move to the newest generation; whether there was a newer one. Searches that have begun end in the old one.

        Raises:
            As `open`; this handle then stays at its generation.
        """
        if self._current().catalog.is_latest():
            return False
        self._open = Generation.open(self._path, self._encoder, self._budget, self._open)
        return True

    def close(self) -> None:
        """Close the files and give the memory back. Closing twice is fine."""
        self._closed = True
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- searching

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
        unit: Unit = "document",
    ) -> list[Hit]:
        """The k best documents for a text. k hits come back if the index holds k documents that may be returned.

        Args:
            query: any text.
            k: how many hits.
            params: how to trade recall for work.
            where: a condition on metadata, an SQL expression such as `year >= 2020 AND lang = 'en'`: only documents that meet it.
            ids: only these documents; those that the index does not hold are passed over.
            unit: `sentence` ranks the documents that match best as a whole, 4 k of them and at least 64, by their best
                sentence: a hit's score and span are that sentence's.

        Raises:
            QueryError: k < 1, the query is no text, the index was opened without an encoder, or `where` is no condition.
        """
        return self.search_with_stats(query, k, params=params, where=where, ids=ids, unit=unit)[0]

    def search_with_stats(
        self,
        query: str,
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
        unit: Unit = "document",
    ) -> tuple[list[Hit], SearchStats]:
        """`search`, and what it did stage by stage."""
        start = time.perf_counter()
        vectors = self.encode_query(query)
        seconds = time.perf_counter() - start
        hits, stats = self.search_vectors_with_stats(vectors, k, params=params, where=where, ids=ids, unit=unit)
        return hits, replace(stats, seconds={"encode": seconds, **stats.seconds})

    def search_vectors(
        self,
        query: NDArray[np.floating],
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
        unit: Unit = "document",
    ) -> list[Hit]:
        """The k best documents for query vectors, float [query tokens, input_dim]; otherwise as `search`.

        Raises:
            QueryError: k < 1.
            VectorError: the vectors have another dim than the index, or are not finite.
        """
        return self._answer(query, k, params, where, ids, unit)[0]

    def search_vectors_with_stats(
        self,
        query: NDArray[np.floating],
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
        unit: Unit = "document",
    ) -> tuple[list[Hit], SearchStats]:
        """`search_vectors`, and what it did stage by stage."""
        hits, tally = self._answer(query, k, params, where, ids, unit)
        return hits, tally.stats()

    def _answer(
        self,
        query: NDArray[np.floating],
        k: int,
        params: SearchParams | None,
        where: str | None,
        ids: Iterable[str] | None,
        unit: Unit,
    ) -> tuple[list[Hit], Tally]:
        generation = self._latest()
        with blas_threads(self._threads):
            return answer(generation, query, k, params or SearchParams(), generation.selection(where, ids), unit)

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> list[list[Hit]]:
        """`search` for several texts, on as many threads as the index was opened with."""
        if not queries:
            return []
        encoded = self._required_encoder().encode_queries(list(queries))
        edges = zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
        vectors = [encoded.vectors[start:stop] for start, stop in edges]
        return self.search_vectors_batch(vectors, k, params=params, where=where, ids=ids)

    def search_vectors_batch(
        self,
        queries: Sequence[NDArray[np.floating]],
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> list[list[Hit]]:
        """`search_vectors` for several queries; an exact search reads the records once for all of them."""
        params, generation = params or SearchParams(), self._latest()
        with one_blas_thread():
            return answer_each(generation, queries, k, params, generation.selection(where, ids), self._threads)

    # ---- seeing why

    def inspect(self, query: str | NDArray[np.floating], id: str, *, exact: bool = True) -> Match:
        """Why a document gets its score for a query: which query token met which of its tokens. Any id will do, not only hits'.

        Args:
            query: a text, or query vectors, float [query tokens, input_dim].
            id: external id of the document.
            exact: also encode the document again, where the encoder is at hand, for the similarities before quantization.

        Raises:
            QueryError, VectorError: as searching does.
            DocumentNotFoundError: the index holds no such document.
        """
        generation, asked = self._latest(), self._asked(query)
        encoder = self._encoder if exact else None
        with blas_threads(self._threads):
            return inspect(generation, id, asked, generation.project(asked.vectors), encoder)

    def explain_missing(
        self,
        query: str | NDArray[np.floating],
        id: str,
        k: int = 10,
        *,
        params: SearchParams | None = None,
        where: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> Explanation:
        """Why a search returns a document or not, in the pipeline's terms, and the settings that would bring it in.

        Raises:
            QueryError, VectorError: as searching does. An id that the index does not hold is an explanation, no error.
        """
        params, generation, asked = params or SearchParams(), self._latest(), self._asked(query)
        k, projected, selection = checked_k(k), generation.project(asked.vectors), generation.selection(where, ids)
        document, every = generation.number_of(id), generation.is_exact(params)
        if document is None:
            return absent(id, k, params)
        case = Case(generation.snapshot, document, id, projected, asked.tokens, k, params, every, selection)
        with blas_threads(self._threads):
            return explain(case)

    def _asked(self, query: str | NDArray[np.floating]) -> Asked:
        return ask(query, self._required_encoder()) if isinstance(query, str) else ask_vectors(np.asarray(query))

    def encode_query(self, query: str) -> NDArray[np.float32]:
        """Token vectors of a query, float32 [query tokens, input_dim].

        Raises:
            QueryError: it is no text, or the index was opened without an encoder.
        """
        if not isinstance(query, str):
            raise QueryError(f"query: expected str, got {type(query).__name__}; search_vectors takes arrays.")
        return self._required_encoder().encode_query(query)

    # ---- changing it

    def add(self, documents: Iterable[Document], *, progress: Report = silent) -> ChangeReport:
        """Encode documents and add them in one commit; this handle then searches the new generation.

        Raises:
            DuplicateIdError: an id is in the index, or comes twice; nothing is added. `upsert` replaces.
            QueryError: the index was opened without its encoder.
            CorpusError, InputError, InvalidIdError, DiskSpaceError, IndexLockedError: nothing is added.
        """
        return self._add(TextSource(documents, self._required_encoder(), self._build_params()), progress)

    def upsert(self, documents: Iterable[Document], *, progress: Report = silent) -> ChangeReport:
        """As `add`, but a document whose id is in the index takes the place of the one that is there: all in one commit."""
        return self._add(TextSource(documents, self._required_encoder(), self._build_params()), progress, replace=True)

    def add_vectors(self, batches: Iterable[TokenBatch], *, progress: Report = silent) -> ChangeReport:
        """As `add`, of token vectors to an index that was built from vectors."""
        return self._add(VectorSource(batches, self._build_params()), progress)

    def upsert_vectors(self, batches: Iterable[TokenBatch], *, progress: Report = silent) -> ChangeReport:
        """As `upsert`, of token vectors."""
        return self._add(VectorSource(batches, self._build_params()), progress, replace=True)

    def delete(self, ids: Iterable[str] = (), *, where: str | None = None, missing_ok: bool = False) -> ChangeReport:
        """Delete documents in one commit, by id or by a condition as `search` takes. Their space is freed by `compact`.

        Raises:
            FilterError: `where` is no condition on the metadata of this index; nothing is deleted.
            DocumentNotFoundError: an id is not in the index, unless `missing_ok`; nothing is deleted.
            DiskSpaceError, IndexLockedError: nothing is deleted.
        """
        return self._changed(delete(self._path, ids, where=where, missing_ok=missing_ok))

    def compact(
        self, *, full: bool = False, retrain: bool = False, dry_run: bool = False, progress: Report = silent
    ) -> CompactReport:
        """Merge small segments and drop deleted documents (`full`: all that can be); no answer changes, to the bit.

        With `retrain` all is coded anew by a new codebook: the texts where this handle has the encoder, else the vectors.

        Raises:
            CorruptIndexError, DiskSpaceError, IndexLockedError: what has been committed stays.
        """
        options = {"full": full, "retrain": retrain, "dry_run": dry_run}
        return self._changed(compact(self._path, **options, encoder=self._encoder, progress=progress))

    # ---- looking at it

    @property
    def manifest(self) -> Manifest:
        """What the generation that is open is made of."""
        return self._current().manifest

    def stats(self) -> IndexStats:
        """Memory by part, the budget, the cache's counters, bytes a token on disk."""
        generation = self._current()
        return IndexStats.of(generation.manifest, generation.snapshot, self._budget)

    def __len__(self) -> int:
        """Number of documents that are not deleted."""
        return self._current().manifest.documents

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self._current().locate(id_) is not None

    def __repr__(self) -> str:
        manifest = self._open.manifest
        return f"<Index {self._path} generation {manifest.generation}: {manifest.documents:,} documents>"

    def _current(self) -> Generation:
        """The generation that this handle keeps."""
        if self._closed:
            raise QueryError(f"{self._path}: this handle is closed; open the index again with Index.open.")
        return self._open

    def _latest(self) -> Generation:
        """The generation to search: the one that is kept, or with `refresh` the newest."""
        if self._refresh:
            self.reopen()
        return self._current()

    def _add(self, source: Source, progress: Report, *, replace: bool = False) -> ChangeReport:
        return self._changed(add(self._path, source, replace=replace, progress=progress))

    def _changed(self, report: _Report) -> _Report:
        if self.reopen():
            tidy(self._path)  # the files that this handle itself held until now
        return report

    def _build_params(self) -> BuildParams:
        return BuildParams.of_index(self.manifest.params)

    def _required_encoder(self) -> TextEncoder:
        if self._encoder is None:
            raise QueryError(
                f"{self._path}: text needs the encoder: Index.open(..., encoder=Encoder.load(...)); or pass vectors."
            )
        return self._encoder
