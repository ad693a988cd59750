"""Where a build's token vectors come from: texts to be encoded, or vectors that somebody else made.

Both are read once into the spool (`ingest`) and afterwards give the tokens of any chunk, pooled, as often as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from colindex.errors import CorpusError, ParameterError, VectorError
from colindex.params import BuildParams
from colindex.pooling import pool
from colindex.progress import Progress, Report
from colindex.spool import Spool, check_unique, decode_document, document_chunks, id_hashes, token_chunks
from colindex.types import Document, DocumentEncoder, PooledBatch, TokenBatch

__all__ = ["Ingested", "Source", "TextSource", "VectorSource"]

_CHARACTERS_A_TOKEN = 4  # English WordPiece text has 4.2 to 4.6; only sizes of samples and progress hang on it

Chunk = TypeVar("Chunk")


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the spool holds once everything was read."""

    documents: int
    tokens: int
    """Stored vectors, counted; for text an estimate from characters."""


class Source(Protocol):
    """Where the token vectors come from."""

    @property
    def kind(self) -> str:
        """`text` or `vectors`."""

    @property
    def params(self) -> BuildParams:
        """How the vectors are pooled and stored."""

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """The encoder's; None for vectors."""

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read everything into the spool, going on where an interrupted build stopped."""

    def tokens(self, spool: Spool, chunk: int) -> PooledBatch:
        """The vectors of one chunk, pooled, in the order of its documents."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Documents and the encoder that turns them into vectors."""

    documents: Iterable[Document]
    encoder: DocumentEncoder
    params: BuildParams
    kind: str = "text"

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """The encoder's, and its name."""
        return {"name": self.encoder.name, **self.encoder.fingerprint}

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read the documents into the spool."""
        tokens = 0
        limit = self.encoder.max_document_tokens

        def counted(chunks: Iterable[list[Document]]) -> Iterator[list[Document]]:
            nonlocal tokens
            for chunk in chunks:
                tokens += sum(min(len(document.content) // _CHARACTERS_A_TOKEN + 2, limit) for document in chunk)
                yield chunk

        documents = _ingest(
            counted(document_chunks(self.documents)),
            lambda chunk: [document.id for document in chunk],
            spool.write_documents,
            spool,
            report,
        )
        return Ingested(documents, tokens)

    def tokens(self, spool: Spool, chunk: int) -> PooledBatch:
        """Encode and pool one chunk, or read it back where that was done before."""
        if spool.has_tokens(chunk):
            return spool.tokens(chunk)
        return self.encode([decode_document(payload) for payload in spool.payloads(chunk)])

    def encode(self, documents: Sequence[Document]) -> PooledBatch:
        """Encode and pool some documents."""
        batch = self.encoder.encode_documents(documents)
        return pool(batch, self.params.pool_factor, self.params.protected_tokens)


@dataclass(frozen=True, slots=True)
class VectorSource:
    """Batches of anybody's token vectors."""

    batches: Iterable[TokenBatch]
    params: BuildParams
    kind: str = "vectors"

    @property
    def fingerprint(self) -> None:
        """Vectors come without an encoder."""
        return

    def ingest(self, spool: Spool, report: Report) -> Ingested:
        """Read the batches, pooled, into the spool."""
        tokens = 0
        dims: set[int] = set()

        def pooled(chunks: Iterable[TokenBatch]) -> Iterator[PooledBatch]:
            nonlocal tokens
            for chunk in chunks:
                dims.add(chunk.dim)
                if len(dims) > 1:
                    raise VectorError(
                        f"batches: expected vectors of one dim, got {sorted(dims)} (from document {chunk.ids[0]!r} on)."
                    )
                batch = pool(chunk, self.params.pool_factor, self.params.protected_tokens)
                tokens += len(batch.tokens.vectors)
                yield batch

        documents = _ingest(
            pooled(token_chunks(self.batches)),
            lambda batch: list(batch.tokens.ids),
            spool.write_tokens,
            spool,
            report,
        )
        return Ingested(documents, tokens)

    def tokens(self, spool: Spool, chunk: int) -> PooledBatch:
        """One chunk of the spool."""
        return spool.tokens(chunk)


def _ingest(
    chunks: Iterator[Chunk],
    ids_of: Callable[[Chunk], list[str]],
    write: Callable[[int, Chunk], None],
    spool: Spool,
    report: Report,
) -> int:
    """Write all chunks that are not in the spool yet; the number of documents.

    Raises:
        CorpusError: there is no document at all.
        DuplicateIdError: two documents share an id.
        ParameterError: what an interrupted build has read differs from what comes now.
    """
    present = spool.chunk_count()
    hashes: list[NDArray[np.uint64]] = []
    done = 0
    for number, chunk in enumerate(chunks):
        ids = ids_of(chunk)
        if number >= present:
            write(number, chunk)
        elif spool.ids(number) != ids:
            raise ParameterError(
                f"{spool.folder}: the documents differ from those of the interrupted build (near document {done + 1:,}); "
                "pass the same corpus, or delete the folder and build again."
            )
        hashes.append(id_hashes(ids))
        done += len(ids)
        report(Progress("ingest", done, None))
    if done == 0:
        raise CorpusError("no documents: expected at least one to build an index, got an empty corpus.")
    check_unique(np.concatenate(hashes), (id_ for number in range(len(hashes)) for id_ in spool.ids(number)))
    return done
