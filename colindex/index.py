"""Index: build one, open one, search it. Holds handles and wires the stages together; computes nothing itself.

Opening
1. reads the catalog and picks the last committed generation;
2. loads what stays resident: codebook, postings, offsets, checksums;
3. gives the rest of the memory budget to the block cache, or refuses a budget that is too small.

Nothing is ever written by opening or searching.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from colindex.budget import IndexStats, divide_budget
from colindex.build import BuildReport, build
from colindex.codebook import SearchCodebook
from colindex.errors import DocumentNotFoundError, EncoderMismatchError, ParameterError, QueryError
from colindex.explain import Case, Explanation, absent, explain
from colindex.fingerprint import fingerprint_difference
from colindex.inspection import Asked, ask, ask_vectors, inspect
from colindex.match import Match
from colindex.params import BuildParams, SearchParams, parse_bytes
from colindex.progress import Report, silent
from colindex.search import Ranked, Snapshot, search, search_each, search_exact
from colindex.sources import TextSource, VectorSource
from colindex.spool import decode_document
from colindex.storage.blocks import BlockStore, SegmentBlocks, ShardBlocks
from colindex.storage.catalog import Catalog
from colindex.storage.layout import codebook_path
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_arrays
from colindex.storage.segments import SegmentReader
from colindex.types import Document, Hit, SearchStats, TextEncoder, TokenBatch

__all__ = ["Index"]

EXACT_TOKENS = 16_384
"""Below this many stored vectors scoring everything takes less time than probing and gathering would save."""


class Index:
    """A late-interaction index on disk, searched within a memory budget.

    Build with `Index.build` or `Index.build_from_vectors`, open with `Index.open`; close it, or use it in a `with`.
    One open index may be searched from several threads.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        snapshot: Snapshot,
        catalog: Catalog,
        encoder: TextEncoder | None,
        budget: int,
    ) -> None:
        """Used by `Index.open`."""
        self._path, self._manifest, self._snapshot, self._catalog = path, manifest, snapshot, catalog
        self._encoder, self._budget = encoder, budget
        self._threads = 1
        self._blas = ThreadpoolController()

    # ---- building

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encoder: TextEncoder,
        params: BuildParams | None = None,
        *,
        resume: bool = False,
        progress: Report = silent,
    ) -> BuildReport:
        """Encode documents and build an index of them at `path`, a new folder.

        An interrupted build is continued with `resume=True` and the same arguments; the answers are those of an
        uninterrupted one.

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
            As `build`, and VectorError for batches that disagree in dim.
        """
        params = params or BuildParams()
        return build(Path(path), VectorSource(batches, params), params, resume=resume, report=progress)

    # ---- opening

    @classmethod
    def open(
        cls, path: str | Path, *, encoder: TextEncoder | None = None, memory: int | str = "512MiB", threads: int = 1
    ) -> Self:
        """Open the last committed generation for searching.

        Args:
            path: the index's folder.
            encoder: the encoder it was built with, for searching with text.
            memory: upper bound of everything that the index keeps: centroids, postings, offsets, cache.
            threads: how many threads one call may use.

        Raises:
            IndexNotFoundError, IndexNotBuiltError, CorruptIndexError, FormatTooNewError: there is nothing fit to open.
            EncoderMismatchError: the encoder is not the one that the index was built with.
            MemoryBudgetError: the budget is smaller than what must stay resident.
        """
        path, budget = Path(path), parse_bytes(memory)
        catalog = Catalog.open_reader(path)
        try:
            manifest = catalog.manifest()
            if encoder is not None:
                _check_encoder(path, manifest, encoder)
            snapshot = _load(path, manifest, budget)
        except BaseException:
            catalog.close()
            raise
        index = cls(path, manifest, snapshot, catalog, encoder, budget)
        index._threads = max(1, threads)
        return index

    def close(self) -> None:
        """Close the files and give the memory back. Closing twice is fine."""
        self._snapshot.store.close()
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- searching

    def search(self, query: str, k: int = 10, *, params: SearchParams | None = None) -> list[Hit]:
        """The k best documents for a text. k hits come back if the index holds k documents.

        Raises:
            QueryError: k < 1, the query is no text, or the index was opened without an encoder.
        """
        return self.search_with_stats(query, k, params=params)[0]

    def search_with_stats(
        self, query: str, k: int = 10, *, params: SearchParams | None = None
    ) -> tuple[list[Hit], SearchStats]:
        """`search`, and what it did stage by stage."""
        start = time.perf_counter()
        vectors = self.encode_query(query)
        seconds = time.perf_counter() - start
        hits, stats = self.search_vectors_with_stats(vectors, k, params=params)
        return hits, replace(stats, seconds={"encode": seconds, **stats.seconds})

    def search_vectors(
        self, query: NDArray[np.floating], k: int = 10, *, params: SearchParams | None = None
    ) -> list[Hit]:
        """The k best documents for query vectors, float [query tokens, input_dim].

        Raises:
            QueryError: k < 1.
            VectorError: the vectors have another dim than the index, or are not finite.
        """
        return self.search_vectors_with_stats(query, k, params=params)[0]

    def search_vectors_with_stats(
        self, query: NDArray[np.floating], k: int = 10, *, params: SearchParams | None = None
    ) -> tuple[list[Hit], SearchStats]:
        """`search_vectors`, and what it did stage by stage."""
        params = params or SearchParams()
        k, projected = _checked_k(k), self._projected(query)
        with self._blas.limit(limits=self._threads, user_api="blas"):
            if self._is_exact(params):
                (ranked,), stats = search_exact(self._snapshot, [projected], k)
            else:
                ranked, stats = search(self._snapshot, projected, k, params)
        return self._hits(ranked), stats

    def search_batch(
        self, queries: Sequence[str], k: int = 10, *, params: SearchParams | None = None
    ) -> list[list[Hit]]:
        """`search` for several texts, on as many threads as the index was opened with."""
        if not queries:
            return []
        encoded = self._required_encoder().encode_queries(list(queries))
        edges = zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
        return self.search_vectors_batch([encoded.vectors[start:stop] for start, stop in edges], k, params=params)

    def search_vectors_batch(
        self, queries: Sequence[NDArray[np.floating]], k: int = 10, *, params: SearchParams | None = None
    ) -> list[list[Hit]]:
        """`search_vectors` for several queries; an exact search reads the records once for all of them."""
        params = params or SearchParams()
        k, projected = _checked_k(k), [self._projected(query) for query in queries]
        with self._blas.limit(limits=1, user_api="blas"):
            if self._is_exact(params):
                ranked = search_exact(self._snapshot, projected, k, self._threads)[0]
                return [self._hits(found) for found in ranked]
            parts = [range(thread, len(projected), self._threads) for thread in range(self._threads)]

            def hits_of(part: range) -> list[list[Hit]]:
                found = search_each(self._snapshot, (projected[number] for number in part), k, params)
                return [self._hits(ranked) for ranked in found]

            answers: list[list[Hit]] = [[] for _ in projected]
            with ThreadPoolExecutor(self._threads) as pool:
                for part, some in zip(parts, pool.map(hits_of, parts), strict=True):
                    for number, hits in zip(part, some, strict=True):
                        answers[number] = hits
            return answers

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
        document = self._number_of(id)
        if document is None:
            raise DocumentNotFoundError(
                f"{self._path}: expected the id of a document to inspect, got {id!r}, which the index does not hold; "
                "hits carry ids, and `id in index` tells whether one is there."
            )
        asked, vectors = self._asked(query)
        encoder = self._encoder if exact and self._manifest.encoder is not None else None
        with self._blas.limit(limits=self._threads, user_api="blas"):
            return inspect(self._snapshot, document, asked, vectors, encoder)

    def explain_missing(
        self, query: str | NDArray[np.floating], id: str, k: int = 10, *, params: SearchParams | None = None
    ) -> Explanation:
        """Why a search returns a document or not, in the pipeline's terms, and the settings that would bring it in.

        Raises:
            QueryError, VectorError: as searching does. An id that the index does not hold is an explanation, no error.
        """
        params = params or SearchParams()
        k, (asked, vectors) = _checked_k(k), self._asked(query)
        document = self._number_of(id)
        if document is None:
            return absent(id, k, params)
        with self._blas.limit(limits=self._threads, user_api="blas"):
            return explain(Case(self._snapshot, document, id, vectors, asked.tokens, k, params, self._is_exact(params)))

    def _asked(self, query: str | NDArray[np.floating]) -> tuple[Asked, NDArray[np.float32]]:
        """A query with its tokens' names, and its projected vectors."""
        asked = ask(query, self._required_encoder()) if isinstance(query, str) else ask_vectors(np.asarray(query))
        return asked, self._projected(asked.vectors)

    def _number_of(self, id: str) -> int | None:
        """The number of a document through all segments."""
        place = self._catalog.locate(id)
        names = [int(segment.info.name) for segment in self._snapshot.segments]
        if place is None or place[0] not in names:
            return None
        return int(self._snapshot.firsts[names.index(place[0])]) + place[1]

    def encode_query(self, query: str) -> NDArray[np.float32]:
        """Token vectors of a query, float32 [query tokens, input_dim].

        Raises:
            QueryError: it is no text, or the index was opened without an encoder.
        """
        if not isinstance(query, str):
            raise QueryError(f"query: expected str, got {type(query).__name__}; search_vectors takes arrays.")
        return self._required_encoder().encode_query(query)

    # ---- looking at it

    @property
    def manifest(self) -> Manifest:
        """What the generation that is open is made of."""
        return self._manifest

    def stats(self) -> IndexStats:
        """Memory by part, the budget, the cache's counters, bytes a token on disk."""
        return IndexStats.of(self._manifest, self._snapshot, self._budget)

    def __len__(self) -> int:
        """Number of documents."""
        return self._snapshot.documents

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self._catalog.locate(id_) is not None

    def __repr__(self) -> str:
        return f"<Index {self._path} generation {self._manifest.generation}: {len(self):,} documents>"

    # ---- inside

    def _is_exact(self, params: SearchParams) -> bool:
        return self._snapshot.tokens <= EXACT_TOKENS if params.exact is None else params.exact

    def _required_encoder(self) -> TextEncoder:
        if self._encoder is None:
            raise QueryError(
                f"{self._path}: a text query needs the encoder: open with Index.open(..., encoder=Encoder.load(...)), "
                "or pass vectors to search_vectors."
            )
        return self._encoder

    def _projected(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        vectors = np.asarray(query)
        if not np.isfinite(vectors).all():
            raise QueryError("query vectors: expected finite values, got a NaN or an infinite one.")
        return self._snapshot.codebook.project(vectors, where="query vectors")

    def _hits(self, ranked: Ranked) -> list[Hit]:
        """Look up the external ids; texts stay on disk until they are asked for."""
        segments, local = self._snapshot.locate(ranked.documents)
        ids: dict[int, str] = {}
        for number in np.unique(segments).tolist():
            places = np.flatnonzero(segments == number)
            found = self._snapshot.segments[number].external_ids(local[places].tolist())
            ids.update(zip(places.tolist(), found, strict=True))
        return [
            Hit(ids[rank], float(score), partial(_read_document, self._snapshot.segments[segment], place))
            for rank, (score, segment, place) in enumerate(
                zip(ranked.scores.tolist(), segments.tolist(), local.tolist(), strict=True)
            )
        ]


def _read_document(segment: SegmentReader, number: int) -> Document:
    return decode_document(segment.document(number))


def _checked_k(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise QueryError(f"k: expected a whole number of hits, at least 1, got {k!r}.")
    return k


def _check_encoder(path: Path, manifest: Manifest, encoder: TextEncoder) -> None:
    if manifest.encoder is None:
        if encoder.dim != manifest.input_dim:
            raise EncoderMismatchError(
                f"{path}: built from vectors of dim {manifest.input_dim}, but the encoder gives {encoder.dim}."
            )
        return
    difference = fingerprint_difference(manifest.encoder, encoder.fingerprint)
    if difference:
        raise EncoderMismatchError(
            f"{path}: the encoder is not the one that the index was built with: {difference}. "
            "Load the encoder of the index, or build a new index with this one."
        )


def _load(path: Path, manifest: Manifest, budget: int) -> Snapshot:
    """Steps 2 and 3."""
    codebook = SearchCodebook.from_arrays(*read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files))
    segments = tuple(SegmentReader(path, info) for info in manifest.segments)
    blocks = [
        SegmentBlocks(
            tuple(ShardBlocks(shard.path, shard.blocks, shard.data_bytes) for shard in segment.shards),
            segment.block_checksums,
        )
        for segment in segments
    ]
    cache_bytes = divide_budget(path, budget, codebook, segments, blocks)
    firsts = np.concatenate([[0], np.cumsum([len(segment.offsets) - 1 for segment in segments])]).astype(np.int64)
    return Snapshot(codebook, segments, BlockStore(blocks, cache_bytes), firsts)
