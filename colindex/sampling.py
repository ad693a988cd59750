"""Sampling: the token vectors that a codebook is learned from, bounded by the memory of the build.

1. Choose documents independently at random, as many as should give the wanted number of tokens.
2. Get their vectors. Vectors that users hand in are in the spool. Of text, a corpus up to four times the sample is encoded
   whole into the spool, where the next stage finds it again; of a larger one the chosen documents are encoded apart
   (and once more later: at most a quarter of the work).
3. Read them chunk by chunk as often as training asks; only what training keeps is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.params import BuildParams, parse_bytes
from colindex.progress import Report, Rising
from colindex.projection import Projection
from colindex.sources import Source, TextSource
from colindex.spool import CHUNK_DOCUMENTS, Spool, decode_document
from colindex.staging import Staging, State
from colindex.storage.directory import require_space
from colindex.threads import one_blas_thread
from colindex.types import Document

__all__ = ["Sample", "Vectors", "draw_sample", "sample_tokens"]

_ENCODE_ALL = 4  # encode the whole corpus into the spool up to this many times the sample
_MEMORY_SHARE = 4  # the projected sample takes a quarter of the memory; clustering copies it group by group

Vectors = tuple[NDArray[np.floating], NDArray[np.int32] | None]
"""Vectors [n, dim] and their vocabulary ids [n]."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Chosen documents' vectors, on disk."""

    spool: Spool
    """Holds at least the chosen documents' vectors."""
    chosen: NDArray[np.bool_] | None
    """Which documents of the spool, in its order; None for all."""
    first_documents: NDArray[np.int64]
    """The number of each chunk's first document, int64 [chunks + 1]."""
    tokens_in_corpus: int
    """Stored vectors of the whole corpus, exact or estimated."""

    @property
    def input_dim(self) -> int:
        """Values in a vector before the projection."""
        return self.spool.tokens(0).tokens.dim

    def some(self, count: int, seed: int) -> NDArray[np.float32]:
        """About `count` vectors from all over the sample, float32 [n, input_dim]."""
        rng = np.random.default_rng(seed)
        total = max(1, round(self.tokens_in_corpus if self.chosen is None else self._expected()))
        share = min(1.0, count / total)
        parts = [vectors[rng.random(len(vectors)) < share] for vectors, _ in map(self._chunk, self._chunks())]
        found = np.concatenate(parts).astype(np.float32)
        if len(found):
            return found
        # a handful in all
        return np.concatenate([self._chunk(number)[0] for number in self._chunks()]).astype(np.float32)

    def projected(
        self, projection: Projection, *, threads: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """The whole sample in the stored space: float32 [n, dim] and vocabulary ids [n]."""
        starts = np.concatenate([[0], np.cumsum([self._count(number) for number in self._chunks()])])
        vectors = np.empty((int(starts[-1]), projection.dim), np.float32)
        ids = np.zeros(len(vectors), np.int32)

        def project(number: int) -> bool:
            part = slice(starts[number], starts[number + 1])
            unprojected, of_part = self._chunk(number)
            projection.apply(unprojected, into=vectors[part])
            if of_part is not None:
                ids[part] = of_part
            return of_part is not None

        with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            all_have_ids = all(list(pool.map(project, self._chunks())))
        return vectors, ids if all_have_ids else None

    def _chunks(self) -> range:
        return range(self.spool.chunk_count())

    def _chunk(self, number: int) -> Vectors:
        tokens = self.spool.tokens(number).tokens
        if self.chosen is None:
            return tokens.vectors, tokens.token_ids
        rows = np.repeat(self._chosen_of(number), np.diff(tokens.offsets))
        return tokens.vectors[rows], None if tokens.token_ids is None else tokens.token_ids[rows]

    def _count(self, number: int) -> int:
        """Vectors of the sample in a chunk, counted without reading them."""
        counts = np.diff(self.spool.token_offsets(number))
        return int(counts.sum() if self.chosen is None else counts[self._chosen_of(number)].sum())

    def _chosen_of(self, number: int) -> NDArray[np.bool_]:
        chosen = np.ones(0, np.bool_) if self.chosen is None else self.chosen
        return chosen[self.first_documents[number] : self.first_documents[number + 1]]

    def _expected(self) -> float:
        chosen = np.ones(1, np.bool_) if self.chosen is None else self.chosen
        return self.tokens_in_corpus * float(chosen.mean())


def draw_sample(source: Source, staging: Staging, state: State, report: Report) -> Sample:
    """Choose documents and make sure that their vectors are on disk."""
    input_dim = source.encoder.dim if isinstance(source, TextSource) else staging.spool.tokens(0).tokens.dim
    wanted = sample_tokens(state.params, state.params.dim or input_dim)
    chosen = np.random.default_rng(state.params.seed).random(state.documents) < wanted / max(1, state.estimated_tokens)
    if not chosen.any():
        chosen[0] = True
    if isinstance(source, TextSource) and state.estimated_tokens > _ENCODE_ALL * wanted:
        return _encode_chosen(source, staging, chosen, report)
    if isinstance(source, TextSource):
        _encode_all(source, staging.spool, state, report)
    return Sample(staging.spool, chosen, *_counted(staging.spool))


def sample_tokens(params: BuildParams, dim: int) -> int:
    """How many vectors of some dim fit in the share of memory that the sample may take."""
    return params.sample_tokens or max(1, parse_bytes(params.memory) // _MEMORY_SHARE // (4 * dim))


def _encode_all(source: TextSource, spool: Spool, state: State, report: Report) -> None:
    """Encode every chunk into the spool, going on where an interrupted build stopped."""
    missing = sum(not spool.has_tokens(number) for number in range(spool.chunk_count())) / spool.chunk_count()
    require_space(spool.folder, round(missing * state.estimated_tokens * 2 * source.encoder.dim), "the build's spool")
    done, told = 0, Rising("sample", state.documents, report)
    for number in range(spool.chunk_count()):
        if not spool.has_tokens(number):
            spool.write_tokens(number, source.tokens(spool, number, told.beyond(done)))
        done += len(spool.payloads(number))
        told.at_least(done)


def _encode_chosen(source: TextSource, staging: Staging, chosen: NDArray[np.bool_], report: Report) -> Sample:
    """Encode the chosen documents into a spool of their own."""
    done, total = 0, int(chosen.sum())
    told = Rising("sample", total, report)
    for number, documents in enumerate(_grouped(_chosen_documents(staging.spool, chosen))):
        if not staging.sample.has_tokens(number):
            staging.sample.write_tokens(number, source.encode(documents, told.beyond(done)))
        done += len(documents)
        told.at_least(done)
    first_documents, tokens = _counted(staging.sample)
    return Sample(staging.sample, None, first_documents, round(tokens * len(chosen) / total))


def _counted(spool: Spool) -> tuple[NDArray[np.int64], int]:
    """The number of each chunk's first document, and of all vectors."""
    offsets = [spool.token_offsets(number) for number in range(spool.chunk_count())]
    return np.concatenate([[0], np.cumsum([len(of_chunk) - 1 for of_chunk in offsets])]), sum(
        int(of_chunk[-1]) for of_chunk in offsets
    )


def _chosen_documents(spool: Spool, chosen: NDArray[np.bool_]) -> Iterator[Document]:
    first = 0
    for number in range(spool.chunk_count()):
        payloads = spool.payloads(number)
        for position in np.flatnonzero(chosen[first : first + len(payloads)]):
            yield decode_document(payloads[position])
        first += len(payloads)


def _grouped(documents: Iterator[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    for document in documents:
        group.append(document)
        if len(group) == CHUNK_DOCUMENTS:
            yield group
            group = []
    if group:
        yield group
