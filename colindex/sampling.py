"""Sampling: the token vectors that a codebook is learned from, bounded by the memory of the build.

1. Choose documents independently at random, as many as should give the wanted number of tokens.
2. Get their vectors. Vectors that users hand in are in the spool. Of text, a corpus up to four times the sample is encoded
   whole into the spool, where the next stage finds it again; of a larger one the chosen documents are encoded apart
   (and once more later: at most a quarter of the work).
3. Read them chunk by chunk as often as training asks; only what training keeps is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colindex.params import BuildParams, parse_bytes
from colindex.progress import Progress, Report
from colindex.projection import Projection
from colindex.sources import Source, TextSource
from colindex.spool import CHUNK_DOCUMENTS, Spool, decode_document
from colindex.staging import Staging, State
from colindex.storage.directory import require_space
from colindex.types import Document, TokenBatch

__all__ = ["Sample", "Vectors", "draw_sample"]

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
    tokens_in_corpus: int
    """Stored vectors of the whole corpus, exact or estimated."""

    def batches(self) -> Iterator[Vectors]:
        """The sample, chunk by chunk."""
        first = 0
        for number in range(self.spool.chunk_count()):
            tokens = self.spool.tokens(number).tokens
            rows = self._rows(tokens, first)
            first += len(tokens)
            yield tokens.vectors[rows], None if tokens.token_ids is None else tokens.token_ids[rows]

    def _rows(self, tokens: TokenBatch, first: int) -> NDArray[np.bool_] | slice:
        if self.chosen is None:
            return slice(None)
        return np.repeat(self.chosen[first : first + len(tokens)], np.diff(tokens.offsets))

    def some(self, count: int, seed: int) -> NDArray[np.float32]:
        """About `count` vectors from all over the sample, float32 [n, input_dim]."""
        rng = np.random.default_rng(seed)
        total = max(1, round(self.tokens_in_corpus if self.chosen is None else self._expected()))
        share = min(1.0, count / total)
        parts = [vectors[rng.random(len(vectors)) < share] for vectors, _ in self.batches()]
        found = np.concatenate(parts).astype(np.float32)
        if len(found):
            return found
        return np.concatenate([vectors for vectors, _ in self.batches()]).astype(np.float32)  # a handful in all

    def _expected(self) -> float:
        chosen = np.ones(1, np.bool_) if self.chosen is None else self.chosen
        return self.tokens_in_corpus * float(chosen.mean())

    def projected(self, projection: Projection) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """The whole sample in the stored space: float32 [n, dim] and vocabulary ids [n]."""
        parts = [(projection.apply(vectors), ids) for vectors, ids in self.batches()]
        ids = [ids for _, ids in parts if ids is not None]
        return (
            np.concatenate([vectors for vectors, _ in parts]),
            np.concatenate(ids) if len(ids) == len(parts) else None,
        )


def draw_sample(source: Source, staging: Staging, state: State, report: Report) -> Sample:
    """Choose documents and make sure that their vectors are on disk."""
    wanted = _sample_tokens(state.params, source, staging)
    chosen = np.random.default_rng(state.params.seed).random(state.documents) < wanted / max(1, state.estimated_tokens)
    if not chosen.any():
        chosen[0] = True
    if isinstance(source, TextSource) and state.estimated_tokens > _ENCODE_ALL * wanted:
        return _encode_chosen(source, staging, chosen, report)
    if isinstance(source, TextSource):
        _encode_all(source, staging.spool, state, report)
    tokens = sum(staging.spool.token_count(number) for number in range(staging.spool.chunk_count()))
    return Sample(staging.spool, chosen, tokens)


def _sample_tokens(params: BuildParams, source: Source, staging: Staging) -> int:
    """How many vectors fit in the share of memory that the sample may take."""
    if params.sample_tokens is not None:
        return params.sample_tokens
    dim = params.dim or (source.encoder.dim if isinstance(source, TextSource) else staging.spool.tokens(0).tokens.dim)
    return max(1, parse_bytes(params.memory) // _MEMORY_SHARE // (4 * dim))


def _encode_all(source: TextSource, spool: Spool, state: State, report: Report) -> None:
    """Encode every chunk into the spool, going on where an interrupted build stopped."""
    missing = sum(not spool.has_tokens(number) for number in range(spool.chunk_count())) / spool.chunk_count()
    require_space(spool.folder, round(missing * state.estimated_tokens * 2 * source.encoder.dim), "the build's spool")
    done = 0
    for number in range(spool.chunk_count()):
        if not spool.has_tokens(number):
            spool.write_tokens(number, source.tokens(spool, number))
        done += len(spool.payloads(number))
        report(Progress("sample", done, state.documents))


def _encode_chosen(source: TextSource, staging: Staging, chosen: NDArray[np.bool_], report: Report) -> Sample:
    """Encode the chosen documents into a spool of their own."""
    done, total = 0, int(chosen.sum())
    for number, documents in enumerate(_grouped(_chosen_documents(staging.spool, chosen))):
        if not staging.sample.has_tokens(number):
            staging.sample.write_tokens(number, source.encode(documents))
        done += len(documents)
        report(Progress("sample", done, total))
    tokens = sum(staging.sample.token_count(number) for number in range(staging.sample.chunk_count()))
    return Sample(staging.sample, None, round(tokens * len(chosen) / total))


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
